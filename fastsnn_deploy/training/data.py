"""Labelled images of any kind by what the user calls them; `sources/` reads them, a file a kind.

Images stay integers (`levels`): that is what the chip receives.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from fastsnn_deploy.errors import InputError, known_name, unknown, wrong_type
from fastsnn_deploy.files import path_of
from fastsnn_deploy.graph.preprocessing import Preprocessing
from fastsnn_deploy.reading import reason_of
from fastsnn_deploy.training.images import Images as Images
from fastsnn_deploy.training.images import Split as Split
from fastsnn_deploy.training.images import Steps
from fastsnn_deploy.training.sources import SOURCES as SOURCES
from fastsnn_deploy.training.sources import Source, Wanted
from fastsnn_deploy.training.sources.named import DATASETS as DATASETS
from fastsnn_deploy.training.sources.named import dataset as dataset

CHECKED = 20_000
"""Files whose sizes are looked at when a data set is named; of more, those that are used."""

OTHERWISE = (
    "give an .npz file, a folder of class folders or of Hugging Face, .tar shards, package.module:function, or a name "
    "of torchvision as SVHN"
)

Choice = Callable[[Preprocessing], Preprocessing]
"""What should be done to pictures, from what a data set says of its own."""


def load_images(
    name: str,
    split: Split,
    root: str | Path = "data",
    download: bool = False,
    preprocessing: Preprocessing | None = None,
) -> Images:
    """Images of a data set.

    Args:
        name: what `fastsnn-deploy list data` and docs/data.md say: a name, a file, a folder, a pattern of archives or a
            function; options in brackets, as `EMNIST(split='balanced')`.
        split: which part.
        root: folder of the named data sets; files and folders are looked for there, too.
        download: fetch a named data set that torchvision knows.
        preprocessing: what is done to each picture; None for nothing.

    Raises:
        InputError: the name is unknown, or nothing readable is there.
    """
    name = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(name, str):
        raise wrong_type("the data set", name, "the name of one, or the path of an .npz file or a folder")
    return load_chosen(name, split, root, download, None if preprocessing is None else lambda own: preprocessing)


def load_chosen(
    name: str, split: Split, root: str | Path = "data", download: bool = False, choose: Choice | None = None
) -> Images:
    """`load_images` with the preprocessing chosen when it is known what the data set says of its own."""
    known_name("split", split, get_args(Split))
    folder = path_of(root, "folder of data sets")
    wanted = _wanted(name, split, folder, download)
    try:
        images = _source(wanted).read(wanted)
        images = images if choose is None else images.preprocessed(choose(images.preprocessing))
        _check(images)
        if images.real or (choose is not None and len(images.numbers) <= CHECKED):
            images.check()
    except InputError as error:
        if wanted.name in str(error):
            raise
        raise InputError(f"data '{name}': {error.message}", error.problems) from error
    except Exception as error:  # whatever a damaged data set may set off
        place = wanted.place or folder
        fix = "and put the images there" if wanted.place or name == "folder" else "or pass --download to fetch it there"
        what = f"data set '{name}' ({split}) cannot be read from '{place}' ({reason_of(error)})"
        raise InputError(f"{what}. Name its folder with --data-root, {fix}") from error
    return images


def load_for(
    metadata: Mapping[str, Any],
    grid: Steps,
    name: str,
    split: Split,
    root: str | Path = "data",
    download: bool = False,
    text: str | None = None,
) -> Images:
    """Images as a network was stored to take them.

    Args:
        metadata: the network's, which say what is done to pictures.
        grid: of its input.
        name, split, root, download: as in `load_images`.
        text: what the user wants to be done instead, as `Preprocessing.changed` reads it; a warning says what differs.

    Raises:
        InputError: as `load_images`; or the text changes what is part of the network's integers.
    """
    base = Preprocessing.of(metadata) or Preprocessing(step=grid.step, levels=(grid.low, grid.high))
    if text is None:
        return load_images(name, split, root, download, base)
    wanted = base.changed(text)
    if (wanted.step, wanted.levels) != (base.step, base.levels):
        raise InputError(
            f"--preprocess {text}: step and levels are part of the network's integers. Quantise the float network again"
        )
    as_numbers = bool(base.classes) and not wanted.classes
    images = load_images(name, split, root, download, wanted)
    return replace(images, class_names=()) if as_numbers else images.suited(metadata)


def _wanted(text: str, split: Split, root: Path, download: bool) -> Wanted:
    """What a text names, with its options."""
    whole = Wanted(text, split, root, download)
    found = re.fullmatch(r"(.+?)\((.*)\)", text, re.DOTALL)
    if found is None or whole.place is not None:
        return whole
    try:
        call = ast.parse(f"f({found[2]})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("only options with names")
        options = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError) as error:
        raise InputError(f"data '{text}': options are written as {found[1]}(split='extra', ...)") from error
    return Wanted(found[1], split, root, download, options)


def _source(wanted: Wanted) -> Source:
    """The kind of data that is meant. Raises InputError, naming all kinds, if it is none, and for unknown options."""
    found = next((each for each in SOURCES if each.holds(wanted)), None)
    if found is None:
        if wanted.place is not None:
            kinds = "a folder of class folders or of Hugging Face, .tar shards or a .parquet file"
            raise InputError(f"data '{wanted.name}': is not an .npz file, nor {kinds}")
        if os.path.basename(wanted.name) != wanted.name:
            raise InputError(f"data '{wanted.name}': no such file or folder")
        raise unknown("data set", wanted.name, DATASETS, OTHERWISE)
    for option in wanted.options:
        if found.options is not None and option not in found.options:
            takes = f"Known: {', '.join(found.options)}" if found.options else "It takes none"
            raise InputError(f"data '{wanted.name}' ({found.name}): option '{option}' is not known. {takes}")
    return found


def _check(images: Images) -> None:
    """Raise ValueError unless the arrays are what `Images` says."""
    labels, shape = images.numbers, (images.count, *images.shape)
    if len(shape) != 4 or len(labels) != images.count or not len(labels) or "float" in images.kind:
        raise ValueError(f"images are {images.kind} {shape} with {len(labels)} labels, not uint8 [N, C, H, W]")
    if labels.min() < 0 or labels.max() >= images.classes:
        raise ValueError(f"labels reach from {labels.min()} to {labels.max()}, not from 0 to {images.classes - 1}")
