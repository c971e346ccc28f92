"""Every reader of strangers' files: the files that it starts from, how they are changed, and what is then done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.errors import LoweringError
from fastsnn_deploy.graph import load as load_graph
from fastsnn_deploy.reading import json_of
from tests import mutations as m

CORPUS = Path(__file__).parent / "corpus"
"""One file for each way in; `failed/` holds files that once ended otherwise than in one clear message."""

MOST = 20_000
"""Neurons and synapses of a network that is also run: a fuzzer has no time for more."""


@dataclass(frozen=True)
class Reader:
    """One way in. files: of the corpus. change: a mutator. read: path -> what it holds; use: what comes next with it.

    Both raise errors of this package for whatever is wrong with a file.
    """

    files: tuple[str, ...]
    change: m.Mutator
    read: Callable[[Path], Any]
    use: Callable[[Any], Any] = lambda held: held


def network() -> nn.Module:
    """The float network that the weights of the corpus belong to."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3)
    )


def simulate(network: Any) -> None:
    """One image through a spiking network or a stock network, a few steps; what it says of itself, too."""
    network.summary()
    json.dumps(network.to_dict())
    if isinstance(network, fd.SpikingGraph):
        if sum(node.size for node in network.nodes) < MOST:
            image = np.full((1, *network.input.shape), network.input.high) - network.input.offset.reshape(
                (-1, *(1,) * (len(network.input.shape) - 1))
            )
            fd.simulate(network, fd.Encoded(image), engine="reference", steps=4)
    elif sum(int(np.prod(layer.shape)) for layer in network.layers) < MOST:
        fd.evaluate(network, np.zeros((1, *network.layers[0].shape), dtype=np.int64))


def deploy(model: Any) -> None:
    """A quantised model to integers, and one image through them. What has no exact spiking form is refused."""
    try:
        simulate(fd.convert(model))
    except LoweringError:
        return


def prepare(model: nn.Module) -> None:
    """A float network to a quantised model, where it says what it takes. What has no such form is refused."""
    meta = getattr(model, "meta", {})
    try:
        fd.prepare(model, input_shape=meta.get("input_shape", (1, 6, 6)))
    except LoweringError:
        return


def hardware(path: Path) -> Any:
    """A hardware profile, and a network on it."""
    return fd.map_cores(load_graph(CORPUS / "graph.safetensors"), str(path), suggest=False)


def mapping(path: Path) -> Any:
    """Tiles and places, and the network that they belong to."""
    return fd.map_cores(load_graph(CORPUS / "graph.safetensors"), "loihi2", mapping=path)


def recipe(path: Path) -> Any:
    """A recipe."""
    from fastsnn_deploy.training.recipe import load_recipe

    return load_recipe(path)


def task(path: Path) -> Any:
    """What a network answers."""
    from fastsnn_deploy.tasks.base import read_task

    return read_task(str(path))


def measured(path: Path) -> Any:
    """What a chip has measured."""
    from fastsnn_deploy.reporting.measured import read_measured

    return read_measured(path)


def state(path: Path) -> Any:
    """The state of an unfinished training."""
    from fastsnn_deploy.training.recipe import load_recipe
    from fastsnn_deploy.training.resume import read_state

    return read_state(path, load_recipe(CORPUS / "recipe.yaml"), "cpu", 1, lambda line: None)


def data(path: Path) -> Any:
    """Labelled images."""
    return fd.load_data(str(path), split="test")


def images(found: Any) -> None:
    """The first of them, as a network takes them."""
    found.select(slice(0, 2)).raw(slice(0, 2))


def masks(path: Path) -> Any:
    """Images and masks in one file."""
    from fastsnn_deploy.tasks.sources import load_scenes

    return load_scenes(str(path), "test", task="segmentation")


def boxes(name: str) -> Callable[[Path], Any]:
    """Boxes beside one image; name: what the file is called in its folder."""

    def read(path: Path) -> Any:
        from fastsnn_deploy.tasks.sources import load_scenes

        folder = path.parent / f"{path.stem}-boxes"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "images" / "a.png").write_bytes((CORPUS / "picture.png").read_bytes())
        if name == "data.yaml":
            (folder / "labels").mkdir(exist_ok=True)
            (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        (folder / name).write_bytes(path.read_bytes())
        return load_scenes(str(folder), "test", task="detection")

    return read


def pictures(path: Path) -> Any:
    """A folder of pictures, one a class."""
    folder = path.parent / f"{path.stem}-pictures"
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / "a.png").write_bytes(path.read_bytes())
    return fd.load_data(str(folder), split="test")


def report(path: Path) -> Any:
    """JSON of any kind, with the rules of all readers."""
    return json_of(path.read_text("utf-8", "replace"), path, "file")


def script(path: Path) -> Any:
    """TorchScript, which does not say what it takes."""
    return fd.load_model(path, input_shape=(1, 6, 6))


def weights(path: Path) -> Any:
    """Weights of a given network."""
    return fd.load_model(path, network)


READERS: dict[str, Reader] = {
    "checkpoint": Reader(("model.pt", "packed.pt"), m.either(m.torch_changed, m.bytes_changed), fd.load, deploy),
    "spiking graph": Reader(
        ("graph.safetensors",), m.either(m.safetensors_changed, m.bytes_changed), load_graph, simulate
    ),
    "NetX": Reader(("model.net",), m.either(m.hdf5_changed, m.bytes_changed), fd.read, simulate),
    "stock NetX": Reader(("stock.net",), m.either(m.hdf5_changed, m.bytes_changed), fd.read, simulate),
    "NIR": Reader(("model.nir",), m.either(m.hdf5_changed, m.bytes_changed), fd.read, simulate),
    "NIR of others": Reader(("foreign.nir",), m.either(m.hdf5_changed, m.bytes_changed), fd.read, simulate),
    "ONNX": Reader(("net.onnx", "codes.onnx"), m.either(m.onnx_changed, m.bytes_changed), fd.load_model, prepare),
    "QONNX": Reader(("quant.onnx",), m.either(m.onnx_changed, m.bytes_changed), fd.load_model, prepare),
    "TorchScript": Reader(("script.pt",), m.either(m.zip_changed, m.bytes_changed), script, prepare),
    "torch.export": Reader(("program.pt2",), m.either(m.zip_changed, m.bytes_changed), fd.load_model, prepare),
    "weights": Reader(("weights.pth", "old.pth"), m.either(m.torch_changed, m.bytes_changed), weights, prepare),
    "safetensors": Reader(("weights.safetensors",), m.either(m.safetensors_changed, m.bytes_changed), weights),
    "pickled module": Reader(("pickled.pth",), m.either(m.bytes_changed, m.zip_changed), fd.load_model),
    "recipe": Reader(("recipe.yaml",), m.either(m.yaml_changed, m.bytes_changed), recipe),
    "hardware profile": Reader(("profile.yaml",), m.either(m.yaml_changed, m.bytes_changed), hardware),
    "task": Reader(("task.yaml",), m.either(m.yaml_changed, m.bytes_changed), task),
    "mapping": Reader(("mapping.json",), m.either(m.json_changed, m.bytes_changed), mapping),
    "measured run": Reader(("measured.json",), m.either(m.json_changed, m.bytes_changed), measured),
    "training state": Reader(("state.resume",), m.either(m.torch_changed, m.bytes_changed), state),
    "npz": Reader(("data.npz", "splits.npz"), m.either(m.zip_changed, m.bytes_changed), data, images),
    "npz of masks": Reader(("masks.npz",), m.either(m.zip_changed, m.bytes_changed), masks),
    "COCO": Reader(("coco.json",), m.either(m.json_changed, m.bytes_changed), boxes("test.json")),
    "CSV of boxes": Reader(("boxes.csv",), m.either(m.text_changed, m.bytes_changed), boxes("test.csv")),
    "YOLO": Reader(("data.yaml",), m.either(m.yaml_changed, m.bytes_changed), boxes("data.yaml")),
    "Parquet and Arrow": Reader(("data.parquet", "data.arrow"), m.bytes_changed, data, images),
    "tar shards": Reader(("data.tar",), m.bytes_changed, data, images),
    "picture": Reader(("picture.png", "picture.jpg", "picture.gif"), m.bytes_changed, pictures, images),
}
