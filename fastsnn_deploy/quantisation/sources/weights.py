"""Weights without a network: a state_dict, a training checkpoint that holds one, or .safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.quantisation.plain_tensors import flaw
from fastsnn_deploy.quantisation.sources.base import Content, Loaded, Request, look_at, source
from fastsnn_deploy.quantisation.sources.pickled import Inert, read_inert, whole_module

HOLDERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights", "ema", "model_ema",
    "ema_state_dict", "state_dict_ema", "params_ema",
)  # fmt: skip
"""Entries of training checkpoints that hold weights; the first that is there is taken."""

INNER = ("module", "_orig_mod")
"""What DataParallel, DistributedDataParallel, AveragedModel and torch.compile put before names, anywhere in them."""

OUTER = ("model.", "net.", "network.")
"""What Lightning and others put before all names: the attribute that holds the network."""

COUNTERS = ("n_averaged",)
"""Entries of wrappers that no answer depends on."""

SHOWN = 3

HOW = (
    "Name the network that they belong to with --model (model=... in Python): package.module:builder, "
    "file.py:builder, torchvision:NAME, timm:NAME, or a name of `fastsnn-deploy list models`"
)

Weights = dict[str, Tensor]


def _is_torch_file(content: Content) -> bool:
    return content.start[:1] == b"\x80" or (
        "data.pkl" in content.entries and not content.holds("code/", "models/", "serialized_exported_program")
    )


@source("weights or a pickled module in a file of torch.save", _is_torch_file, whole=False)
def _torch_file(request: Request) -> Loaded:
    content = read_inert(request.path)
    if (module := whole_module(request, content)) is not None:
        return module
    found, notes = state_dict_in(content, request)
    return _filled(request, found, "weights", notes)


def _is_safetensors(content: Content) -> bool:
    return content.start[8:9] == b"{" and int.from_bytes(content.start[:8], "little") < 2**32


@source("weights in a .safetensors file", _is_safetensors, whole=False)
def _safetensors(request: Request) -> Loaded:
    return _filled(request, read_safetensors(request.path), "weights (safetensors)", ())


def read_safetensors(path: Path) -> Weights:
    """Tensors by name. Raises InputError for a damaged file."""
    try:
        return _tensors(load_file(path), path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: is damaged, or no .safetensors file ({str(error).splitlines()[0]})") from error


def load_weights(model: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Fill a float network from a file of weights; what was ignored or chosen is said in the lines that come back.

    Raises InputError listing every missing, unexpected or ill-shaped entry. Nothing in the file is executed.
    """
    content = look_at(path)
    request = Request(content.path)
    if _is_safetensors(content):
        found, notes = read_safetensors(content.path), tuple[str, ...]()
    elif _is_torch_file(content):
        found, notes = state_dict_in(read_inert(content.path), request)
    else:
        raise InputError(f"{path}: holds no weights. Save them with torch.save(model.state_dict(), ...)")
    fit(model, found, content.path)
    return notes


def _filled(request: Request, found: Weights, kind: str, notes: tuple[str, ...]) -> Loaded:
    if request.model is None:
        names = [f"{name} {tuple(value.shape)}" for name, value in found.items()]
        some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise InputError(f"{request.path}: holds weights without a network ({len(names)} tensors: {some}). {HOW}")
    model = request.model()
    fit(model, found, request.path)
    return Loaded(model.eval(), kind, notes)


def state_dict_in(content: Any, request: Request) -> tuple[Weights, tuple[str, ...]]:
    """The weights in what a file holds, and what must be said of the choice. Raises InputError if there are none."""
    if _is_state_dict(content) and request.key is None:
        return _tensors(content, request.path), ()
    entries = dict(content) if isinstance(content, Mapping) else {}
    held = [str(key) for key, value in entries.items() if _is_state_dict(value)]
    if request.key is not None and request.key not in held:
        raise InputError(
            f"{request.path}: has no weights under the key '{request.key}'. Its keys with weights: "
            f"{', '.join(held) or 'none'}"
        )
    if not held:
        what = f"its entries are {', '.join(map(str, list(entries)[:10]))}" if entries else f"a {_kind(content)}"
        raise InputError(
            f"{request.path}: holds no weights of a network ({what}). Save them with "
            "torch.save(model.state_dict(), ...)"
        )
    chosen = request.key or min(held, key=lambda name: HOLDERS.index(name) if name in HOLDERS else len(HOLDERS))
    others = [name for name in held if name != chosen]
    notes = (f"the weights are those under '{chosen}'",)
    if others:
        notes = (f"{notes[0]}; the file also holds {', '.join(others)}: choose with --key",)
    return _tensors(entries[chosen], request.path), notes


def _is_state_dict(value: Any) -> bool:
    """A mapping from names to tensors; a few entries may be something else, and are named as wrong."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    tensors = sum(isinstance(item, Tensor) for item in value.values())
    return tensors > 0 and 2 * tensors > len(value)


def _tensors(found: Mapping[str, Any], path: Path) -> Weights:
    flaws = {
        name: flaw(value) if isinstance(value, Tensor) else f"is a {_kind(value)}, not a tensor"
        for name, value in found.items()
    }
    wrong = [Problem(name, what, "Save dense float weights") for name, what in flaws.items() if what is not None]
    if wrong:
        raise InputError(f"{path}: not everything in its state_dict is a tensor of weights", wrong)
    return dict(found)


def _kind(value: Any) -> str:
    return value.origin if isinstance(value, Inert) else type(value).__name__


# fitting


def fit(model: nn.Module, found: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a network. Raises InputError listing every entry that is missing, too much or of another shape.

    Names may have what wrappers put before them; weights that were pruned are multiplied by their masks.
    """
    wanted = model.state_dict()
    given, problems = _renamed(_unpruned(found, wanted), wanted)
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    problems += [
        Problem(name, f"is missing: the network wants {tuple(wanted[name].shape)}")
        for name in wanted
        if name not in given and name not in optional
    ]
    for name, value in given.items():
        problems += _misfit(name, value, wanted.get(name))
    if problems:
        fix = "" if set(given) & set(wanted) else ": none of their names is one of its names"
        raise InputError(f"{path}: these float weights do not fit the network{fix}", problems)
    model.load_state_dict(given, strict=False)


def _misfit(name: str, value: Tensor, wanted: Tensor | None) -> Iterator[Problem]:
    if wanted is None:
        yield Problem(name, f"has no place in this network ({tuple(value.shape)})")
    elif value.shape != wanted.shape:
        hint = "If only its size differs, build the network with that: --model 'NAME(num_classes=10)'"
        yield Problem(name, f"has shape {tuple(value.shape)}, the network wants {tuple(wanted.shape)}", hint)
    elif value.is_floating_point() and not torch.isfinite(value.float()).all():
        yield Problem(name, "holds NaN or infinity", "Train again with a smaller learning rate")


def _renamed(found: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> tuple[Weights, list[Problem]]:
    """Names without what wrappers put before them, where the network's own names have no such part."""
    inner = [part for part in INNER if not any(part in name.split(".") for name in wanted)]
    given: Weights = {}
    problems = []
    for name, value in found.items():
        plain = ".".join(part for part in name.split(".") if part not in inner)
        for prefix in OUTER:
            if not any(other.startswith(prefix) for other in wanted):
                plain = plain.removeprefix(prefix)
        if plain in given:
            problems.append(Problem(name, f"is the second entry for '{plain}'", "Save one network"))
        elif plain not in COUNTERS or plain in wanted:
            given[plain] = value
    return given, problems


def _unpruned(found: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> Weights:
    """`weight_orig` times `weight_mask`, as torch.nn.utils.prune keeps them, under the name `weight`."""
    given = dict(found)
    for name in found:
        mask = name.removesuffix("_orig") + "_mask"
        if name.endswith("_orig") and mask in given and name not in wanted:
            given[name.removesuffix("_orig")] = given.pop(name) * given.pop(mask)
    return given
