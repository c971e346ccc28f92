"""Checkpoints: bit-identical after a round trip, and harmless whatever they hold."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.quantisation import Checkpoint, QuantActivation, calibrate, load, prepare, save
from fastsnn_deploy.training.models import build


class Mixed(nn.Module):
    """Residual, concatenation, option-A shortcut, upsampling, and a module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.body = nn.ModuleDict({"left": nn.Conv2d(4, 4, 3, padding=1), "right": nn.Conv2d(4, 4, 1)})
        self.down = nn.Conv2d(8, 12, 3, 2, 1, groups=4)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.stem(x)))
        x = torch.cat([self.pool(F.relu(self.body["left"](x) + x)), F.relu(self.body["right"](x))], 1)
        y = F.relu(self.down(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
        y = F.interpolate(y, scale_factor=2)
        return self.head(F.dropout(y.mean((2, 3)), training=self.training))  # type: ignore[no-any-return]


def mixed_quantised() -> Any:
    torch.manual_seed(0)
    quantised = prepare(Mixed().eval(), 3, 4, mean=(0.1, 0.2, 0.3), std=(0.2, 0.3, 0.4))
    calibrate(quantised, torch.rand(4, 3, 8, 8))
    return quantised


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "model.pt"
    save(Checkpoint(mixed_quantised(), (3, 8, 8), {"data": "none", "accuracy": 0.5}), path)
    return path.read_bytes()


@pytest.fixture
def file(saved: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(saved)
    return path


def content_of(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(file, weights_only=True)
    return content


def steps(quantised: nn.Module) -> dict[str, int]:
    return {name: id(module.step) for name, module in quantised.named_modules() if isinstance(module, QuantActivation)}


# --- round trip --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits-net", "lenet", "resnet20", "mixed"])
def test_round_trip_is_bit_identical(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    shape = {"lenet": (1, 28, 28), "mixed": (3, 8, 8)}.get(name, (1, 8, 8))
    model = Mixed() if name == "mixed" else build(name, channels=1, classes=10)
    quantised = prepare(model.eval(), 2, 4)
    images = torch.rand(8, *shape)
    calibrate(quantised, images)
    save(Checkpoint(quantised, shape, {"a": [1, {"b": None}]}, {"epoch": 3}), tmp_path / "model.pt")
    read = load(tmp_path / "model.pt")
    assert torch.equal(read.model.eval()(images), quantised(images))
    assert (read.input_shape, read.metadata, read.training) == (shape, {"a": [1, {"b": None}]}, {"epoch": 3})
    # of a source line only the file's last folder is kept
    meta = {
        node.name: (node.meta["module"], "/".join(node.meta["line"].rsplit("/", 2)[-2:]))
        for node in quantised.graph.nodes
    }
    assert {node.name: (node.meta["module"], node.meta["line"]) for node in read.model.graph.nodes} == meta
    save(read, tmp_path / "again.pt")
    assert torch.equal(load(tmp_path / "again.pt").model.eval()(images), quantised(images))


def test_tied_steps_stay_tied_after_training(file: Path) -> None:
    quantised = load(file).model
    groups = steps(quantised)
    assert len(set(groups.values())) < len(groups)
    original = steps(mixed_quantised())
    assert [a == b for a in groups.values() for b in groups.values()] == [
        a == b for a in original.values() for b in original.values()
    ]
    optimiser = torch.optim.SGD(quantised.parameters(), lr=0.1)
    quantised.train()(torch.rand(4, 3, 8, 8)).square().sum().backward()
    optimiser.step()
    again = file.with_name("again.pt")
    save(Checkpoint(quantised, (3, 8, 8)), again)
    assert steps(quantised) == groups
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(load(again).model.eval()(images), quantised.eval()(images))


def test_the_file_is_plain_data(file: Path) -> None:
    content = content_of(file)
    assert content["format"] == "fastsnn-deploy checkpoint"
    assert content["metadata"] == {"data": "none", "accuracy": 0.5}


def test_training_can_go_on_after_loading(file: Path) -> None:
    quantised = load(file).model
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in quantised.parameters())


# --- refused on load ---------------------------------------------------------------------------------------------


def refused(path: Path, *fragments: str) -> InputError:
    before = sorted(path.parent.iterdir()) if path.parent.exists() else []
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    for fragment in fragments:
        assert fragment in message
    assert len(message.splitlines()) == 1 + len(caught.value.problems)
    assert (sorted(path.parent.iterdir()) if path.parent.exists() else []) == before
    return caught.value


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.target}",))


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.pt", "no such checkpoint")
    refused(tmp_path / "nowhere" / "none.pt", "no such checkpoint")
    refused(tmp_path, "is a folder")
    (tmp_path / "empty.pt").touch()
    refused(tmp_path / "empty.pt", "empty")


def test_truncated_anywhere(file: Path) -> None:
    whole = file.read_bytes()
    for length in (1, 2, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        refused(file, "damaged")


def test_random_bytes(tmp_path: Path) -> None:
    for seed in range(40):
        path = tmp_path / "random.pt"
        path.write_bytes(np.random.default_rng(seed).bytes(1 + seed * 20))
        refused(path, "damaged")


def test_flipped_bytes_never_escape(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    random = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 20):
            damaged[place] ^= int(random.integers(1, 256))
        file.write_bytes(damaged)
        with contextlib.suppress(InputError):  # damage in unused bytes may go unnoticed
            load(file)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize("wrap", [lambda bomb: bomb, lambda bomb: {"format": "fastsnn-deploy checkpoint", "x": bomb}])
def test_pickled_objects_are_not_executed(
    write: Callable[[Any, Path], Any], wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    trace, path = tmp_path / "created", tmp_path / "bomb.pt"
    write(wrap(Bomb(trace)), path)
    refused(path)
    assert not trace.exists()
    torch.load(tmp_path / "bomb.pt", weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())
    assert trace.exists()  # the bomb is real


def test_whole_module_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Sequential(nn.Linear(2, 2)), path)
    refused(path, "pickled Python objects", "Sequential", "fd.save")
    torch.save(nn.Linear(2, 2).state_dict(), path)
    refused(path, "not a checkpoint of fastsnn-deploy", "prepare")
    for value in ([1, 2], torch.ones(2), {"format": "other"}, {"format": torch.ones(3)}, None):
        torch.save(value, path)
        refused(path, "not a checkpoint of fastsnn-deploy")


@pytest.mark.parametrize("version", [0, 3, "1", None, True, 1.0, torch.ones(3)])
def test_other_versions(version: Any, file: Path) -> None:
    torch.save({**content_of(file), "version": version}, file)
    refused(file, "version", "this program reads up to 2")


def test_all_unusable_weights_are_listed(file: Path) -> None:
    content = content_of(file)
    content["state"]["head.weight"][0, 0] = float("nan")
    content["state"]["down.bias"][1] = float("inf")
    content["state"]["stem.1.running_var"][0] = -float("inf")
    torch.save(content, file)
    error = refused(file, "unusable weights")
    assert sorted(problem.where.split(": ")[1] for problem in error.problems) == [
        "down.bias", "head.weight", "stem.1.running_var"
    ]  # fmt: skip


Forge = Callable[[dict[str, Any]], None]


def rename_layer(new: str) -> Forge:
    def forge(content: dict[str, Any]) -> None:
        architecture, state = content["architecture"], content["state"]
        architecture["modules"][new] = architecture["modules"].pop("head")
        next(node for node in architecture["nodes"] if node["target"] == "head")["target"] = new
        for name in [name for name in state if name.startswith("head.")]:
            state[new + name[4:]] = state.pop(name)

    return forge


def node_value(kind: str, key: str, value: Any) -> Forge:
    def forge(content: dict[str, Any]) -> None:
        next(node for node in content["architecture"]["nodes"] if node["op"] == kind)[key] = value

    return forge


def config_value(layer: str, key: str, value: Any) -> Forge:
    def forge(content: dict[str, Any]) -> None:
        content["architecture"]["modules"][layer]["config"][key] = value

    return forge


def set_value(key: str, value: Any) -> Forge:
    return lambda content: content.update({key: value})


LAYER_NAMES = (
    "__class__", "training", "forward", "register_buffer", "_modules", "__dict__", "state_dict", "eval", "graph",
    "meta", "recompile", "_graph", "a-b", "a b", "", ".", "a..b", "x(); import os", "x\nimport os",
    "forward.__globals__", "self", "class", "stem.0.inner", "\uff21\uff22", "__init__.x",
)  # fmt: skip
NODE_NAMES = ("x = 1; import os", "self", "import", "1a", "", "a.b", "a\nb", "\uff58", "x(", 5, None)


@pytest.mark.parametrize("name", LAYER_NAMES)
def test_layer_names_that_reach_further_than_layers(name: str, file: Path) -> None:
    content = content_of(file)
    rename_layer(name)(content)
    torch.save(content, file)
    refused(file, "damaged")


@pytest.mark.parametrize("kind", ["placeholder", "call_module", "call_function"])
@pytest.mark.parametrize("name", NODE_NAMES)
def test_node_names_that_are_code(name: Any, kind: str, file: Path) -> None:
    content = content_of(file)
    node_value(kind, "name", name)(content)
    torch.save(content, file)
    refused(file, "damaged")


@pytest.mark.parametrize("name", ["x = 1", "self", "*args", "x: __import__('os')", "class", 3])
def test_input_names_that_are_code(name: Any, file: Path) -> None:
    content = content_of(file)
    node_value("placeholder", "target", name)(content)
    torch.save(content, file)
    refused(file, "damaged")


@pytest.mark.parametrize("target", ["eval", "__class__", "train", "requires_grad_", "stem", "body", "none", "graph"])
def test_calls_of_anything_but_layers(target: str, file: Path) -> None:
    content = content_of(file)
    node_value("call_module", "target", target)(content)
    torch.save(content, file)
    refused(file, "damaged")


def test_a_legal_new_name_loads(file: Path) -> None:
    content = content_of(file)
    rename_layer("classifier.0")(content)
    torch.save(content, file)
    assert torch.equal(load(file).model.eval()(images := torch.rand(2, 3, 8, 8)), mixed_quantised()(images))


FORGED: dict[str, Forge] = {
    "huge layer": config_value("head", "out_features", 10**6 * 5),
    "impossible layer": config_value("head", "out_features", 10**15),
    "negative layer": config_value("head", "in_features", -1),
    "size is a string": config_value("head", "in_features", "12"),
    "bits is a list": config_value("head", "weight_bits", [4]),
    "too many bits": config_value("head", "weight_bits", 33),
    "fractional bits": config_value("head", "weight_bits", 4.5),
    "unknown option": config_value("head", "device", "cuda"),
    "device option": config_value("head", "dtype", "float64"),
    "zero groups": config_value("down", "groups", 0),
    "huge image": config_value("image", "channels", 10**12),
    "no input step": config_value("image", "step", 0.0),
    "no std": config_value("image", "std", float("nan")),
    "unknown layer type": lambda c: c["architecture"]["modules"]["head"].update(type="Module"),
    "unknown function": node_value("call_function", "target", "eval"),
    "unknown operation": node_value("call_module", "op", "call_method"),
    "attribute access": node_value("call_module", "op", "get_attr"),
    "second input": node_value("call_module", "op", "placeholder"),
    "forward reference": lambda c: c["architecture"]["nodes"][1].update(operands=["output"]),
    "no operand": node_value("call_module", "operands", []),
    "three terms": lambda c: next(n for n in c["architecture"]["nodes"] if n["target"] == "add")["operands"].append(
        "x"
    ),
    "no nodes": lambda c: c["architecture"].update(nodes=[]),
    "no output": lambda c: c["architecture"]["nodes"].pop(),
    "nodes is a number": lambda c: c["architecture"].update(nodes=3),
    "modules is a list": lambda c: c["architecture"].update(modules=[]),
    "tied is nonsense": lambda c: c["architecture"].update(tied=[["head", "image"]]),
    "tied to nothing": lambda c: c["architecture"].update(tied=[["a", "b"]]),
    "no architecture": lambda c: c.pop("architecture"),
    "architecture is text": set_value("architecture", "import os"),
    "no state": lambda c: c.pop("state"),
    "state is a list": set_value("state", [1]),
    "weight is a number": lambda c: c["state"].update({"head.weight": 3}),
    "weight missing": lambda c: c["state"].pop("head.weight"),
    "weight unknown": lambda c: c["state"].update({"extra": torch.ones(1)}),
    "weight of another shape": lambda c: c["state"].update({"head.weight": torch.ones(5, 13)}),
    "weight of another type": lambda c: c["state"].update({"head.weight": torch.ones(5, 12, dtype=torch.float64)}),
    "sparse weight": lambda c: c["state"].update({"head.weight": torch.ones(5, 12).to_sparse()}),
    "one number for all weights": lambda c: c["state"].update({"head.weight": torch.ones(1, 1).expand(5, 12)}),
    "shape is empty": set_value("input_shape", []),
    "shape is negative": set_value("input_shape", [3, -8, 8]),
    "shape is text": set_value("input_shape", "388"),
    "metadata is a number": set_value("metadata", 3),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_content(name: str, file: Path) -> None:
    content = content_of(file)
    FORGED[name](content)
    torch.save(content, file)
    refused(file, "the checkpoint is damaged")


def test_a_huge_layer_takes_no_memory(file: Path) -> None:
    """5 TB promised in the architecture, backed by a single stored number."""
    content = content_of(file)
    sizes = {"in_features": 12, "out_features": 10**7}
    content["architecture"]["modules"]["head"]["config"].update(sizes)
    content["state"]["head.weight"] = torch.ones(1, 1).expand(10**7, 12)
    content["state"]["head.bias"] = torch.ones(1).expand(10**7)
    torch.save(content, file)
    refused(file, "fewer numbers than its shape")


def test_state_of_another_network(file: Path) -> None:
    other = prepare(build("digits-net").eval())
    content = content_of(file)
    content["state"] = dict(other.state_dict())
    torch.save(content, file)
    refused(file, "weights are missing or unknown")


# --- save --------------------------------------------------------------------------------------------------------


def test_float_networks_are_not_saved(tmp_path: Path) -> None:
    from fastsnn_deploy.quantisation import canonicalise

    model = canonicalise(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(2, 2)))
    with pytest.raises(LoweringError) as caught:
        save(Checkpoint(model, (1, 8, 8)), tmp_path / "model.pt")
    assert len(caught.value.problems) == 3
    assert not list(tmp_path.iterdir())


def test_metadata_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    metadata = {"accuracy": np.float64(0.5), "nested": [{"path": tmp_path}], "fine": 1}
    with pytest.raises(InputError) as caught:
        save(Checkpoint(mixed_quantised(), (3, 8, 8), metadata), tmp_path / "model.pt")
    assert [problem.where for problem in caught.value.problems] == ["metadata.accuracy", "metadata.nested[0].path"]
    assert not list(tmp_path.iterdir())


def test_full_disk_keeps_the_old_file(file: Path) -> None:
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            save(Checkpoint(mixed_quantised(), (3, 8, 8)), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_interrupted_write_keeps_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(Checkpoint(mixed_quantised(), (3, 8, 8)), file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    for path in (tmp_path / "plain" / "model.pt", tmp_path, Path("/proc/none/model.pt")):
        with pytest.raises(InputError, match=r"cannot be written|is a folder"):
            save(Checkpoint(mixed_quantised(), (3, 8, 8)), path)
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_saving_does_not_change_the_quantised(tmp_path: Path) -> None:
    quantised = mixed_quantised().train()
    before = copy.deepcopy(quantised.state_dict())
    save(Checkpoint(quantised, (3, 8, 8)), tmp_path / "model.pt")
    assert quantised.training
    assert all(torch.equal(before[name], tensor) for name, tensor in quantised.state_dict().items())


def test_a_checkpoint_names_no_folder_of_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    save(Checkpoint(mixed_quantised(), (3, 8, 8)), file)
    lines = [node["line"] for node in torch.load(file, weights_only=True)["architecture"]["nodes"]]
    assert any(line.startswith("tests/test_checkpoint.py:") for line in lines)
    assert not any(line.startswith("/") for line in lines)
