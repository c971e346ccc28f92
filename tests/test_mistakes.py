"""Every public function with every wrong kind: one error of this package that says what it got and what it needs."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

import fastsnn_deploy as fd
from fastsnn_deploy.graph import save as save_graph
from tests.commands import Result, runner

SHAPE = (1, 8, 8)
PIXELS = np.random.default_rng(1).integers(0, 256, (6, *SHAPE)).astype(np.uint8)
REAL = PIXELS / 255
LABELS = np.arange(6)


def network(channels: int = 1, width: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def calibrated(model: nn.Module, **options: Any) -> Any:
    model = fd.prepare(model, input_shape=SHAPE, **options)
    fd.calibrate(model, PIXELS)
    return model


def with_weight(change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight = nn.Parameter(change(model[0].weight.detach()), requires_grad=False)
    return model


class Items(Dataset):  # type: ignore[type-arg]
    """The same item again and again."""

    def __init__(self, item: Any, count: int = 6) -> None:
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.item


class Endless(IterableDataset):  # type: ignore[type-arg]
    """No length."""

    def __iter__(self) -> Iterator[Any]:
        return iter([(PIXELS[0], 0)])


@dataclass(frozen=True)
class Given:
    """One network as everything that it can be, and every kind of file."""

    folder: Path
    model: Any
    snn: Any
    unseen: Any

    def fresh(self) -> Any:
        """What `prepare` gives, which has seen no image."""
        return copy.deepcopy(self.unseen)

    def file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("mistakes")
    model = calibrated(network())
    snn = fd.convert(model)
    fd.save(model, folder / "a.pt")
    fd.export(snn, folder / "a.net")
    fd.export(snn, folder / "stock.net", target="stock-lif")
    fd.export(snn, folder / "a.nir", format="nir")
    save_graph(snn, folder / "a.safetensors")
    for name in ("a.pt", "a.net", "a.nir"):
        whole = (folder / name).read_bytes()
        (folder / f"half-{name}").write_bytes(whole[: len(whole) // 2])
    (folder / "empty").touch()
    (folder / "text").write_text("hello")
    (folder / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    os.mkfifo(folder / "pipe")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "nowhere").symlink_to("/dev/null")
    return Given(folder, model, snn, fd.prepare(network(), input_shape=SHAPE))


def refused(call: Callable[[], Any], *says: str) -> str:
    """The message of the one error that a call ends in, which holds all of `says`."""
    with pytest.raises(fd.DeployError) as caught:
        call()
    error, message = caught.value, str(caught.value)
    assert error.exit_code in (2, 3), message
    assert "\n" not in error.message, message
    assert 15 < len(error.message) < 500, message
    for part in says:
        assert part in message, message
    return message


# models

NO_MODULES: dict[str, Any] = {
    "a state_dict": network().state_dict(), "a function": torch.relu, "None": None, "a number": 3, "a class": nn.ReLU,
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_MODULES)
def test_no_model_at_all(kind: str, given: Given):
    wrong = NO_MODULES[kind]
    got = {"a state_dict": "an OrderedDict", "None": "None", "a number": "3 (int)", "a class": "the class ReLU"}
    says = (got.get(kind, "a builtin_function_or_method"), "needs")
    for begin in (fd.prepare, lambda model: fd.quantize(model, PIXELS)):
        refused(lambda begin=begin: begin(wrong), f"takes a torch.nn.Module, not a {type(wrong).__name__}")
    for call in (
        lambda: fd.calibrate(wrong, PIXELS), lambda: fd.fit(wrong, (PIXELS, LABELS), progress=False),
        lambda: fd.convert(wrong), lambda: fd.convert(wrong, SHAPE), lambda: fd.verify(wrong, PIXELS),
        lambda: fd.save(wrong, given.file("no.pt")), lambda: fd.export(wrong, given.file("no.net")),
    ):  # fmt: skip
        refused(call, *says, "a quantised model: what fd.prepare or fd.load gives")
    for function in (fd.simulate, fd.evaluate, fd.profile):
        refused(lambda function=function: function(wrong, PIXELS), *says, "a spiking network")
    refused(lambda: fd.map_cores(wrong), *says, "a spiking network")
    refused(lambda: fd.tune(wrong, "cores<=1", (PIXELS, LABELS), samples=2, profile_samples=1, images=2))
    if wrong is not None:  # then the network itself is meant
        refused(lambda: fd.verify(given.model, PIXELS, net=wrong), *says, "a spiking network")


def test_a_model_of_another_stage(given: Given):
    plain, prepared = network(), given.fresh()
    for call in (
        lambda: fd.calibrate(plain, PIXELS), lambda: fd.fit(plain, (PIXELS, LABELS)), lambda: fd.convert(plain, SHAPE),
        lambda: fd.save(plain, given.file("no.pt")), lambda: fd.export(plain, given.file("no.net")),
        lambda: fd.verify(plain, PIXELS),
    ):  # fmt: skip
        refused(call, "Sequential is not a quantised model. Call prepare first")
    for call in (
        lambda: fd.convert(prepared), lambda: fd.export(prepared, given.file("no.net")),
        lambda: fd.verify(prepared, PIXELS),
    ):  # fmt: skip
        refused(call, "has never seen data", "calibrate")
    refused(lambda: fd.prepare(given.model), "is prepared already")
    refused(lambda: fd.prepare(given.snn), "takes a torch.nn.Module, not a SpikingGraph")
    refused(lambda: fd.calibrate(given.snn, PIXELS), "got a SpikingGraph", "fd.prepare")
    refused(lambda: fd.convert(given.snn), "got a SpikingGraph", "fd.prepare")
    refused(lambda: fd.convert(fd.prepare(network(), input_shape=None)), "input_shape=(C, H, W)")
    for function in (fd.simulate, fd.evaluate, fd.profile):
        refused(lambda function=function: function(given.model, PIXELS), "got a GraphModule", "fd.convert")
        refused(lambda function=function: function(given.file("a.pt"), PIXELS), "is a checkpoint", "export")
    refused(lambda: fd.simulate(given.file("stock.net"), PIXELS), "got a StockNetwork", "SpikingGraph")
    assert not list(given.folder.glob("no.*"))


def test_weights_that_are_no_floats():
    refused(lambda: fd.prepare(network().to("meta")), "0.weight: is on the meta device", "Load the weights")
    refused(lambda: fd.prepare(with_weight(lambda w: w.to_sparse())), "0.weight: is torch.sparse_coo", "dense")
    refused(lambda: fd.prepare(with_weight(lambda w: w.to(torch.int8))), "0.weight: is torch.int8", "floating-point")
    refused(lambda: fd.prepare(with_weight(lambda w: w / 0)), "0.weight: holds NaN or infinity")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_work(dtype: torch.dtype):
    model = network().to(dtype)
    prepared = fd.prepare(model, input_shape=SHAPE)
    assert {p.dtype for p in prepared.parameters()} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {dtype}
    fd.calibrate(prepared, torch.tensor(REAL).to(dtype))
    assert fd.convert(prepared).outputs


# images

NOTHING = "one array or tensor of numbers"
WRONG_IMAGES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "NHWC": (PIXELS.transpose(0, 2, 3, 1), ("(6, 8, 8, 1)", "Put the channels first")),
    "NaN": (np.full((2, *SHAPE), np.nan), ("NaN or infinity",)),
    "infinite": (np.full((2, *SHAPE), np.inf), ("NaN or infinity",)),
    "0 to 255 as floats": (PIXELS.astype(float), ("255], outside [0, 1]", "divide them by 255")),
    "normalised": ((REAL - 0.5) / 0.5, ("outside [0, 1]", "seem normalised")),
    "three channels": (np.random.rand(2, 3, 8, 8), ("(2, 3, 8, 8)", "(N, 1, 8, 8)")),
    "no channels": (np.random.rand(8, 8), ("(8, 8)", "(N, 1, 8, 8)")),
    "five dimensions": (REAL[None], ("(1, 6, 1, 8, 8)", "(N, 1, 8, 8)")),
    "complex": (REAL + 0j, ("complex128", "uint8")),
    "None": (None, ("got None", NOTHING)),
    "a name": ("digits", ("'digits' (str)", NOTHING)),
    "a path": (Path("digits"), ("Path", NOTHING)),
    "a dict": ({"images": PIXELS}, ("got a dict", NOTHING)),
    "a model": (network(), ("got a Sequential", NOTHING)),
    "images and labels": ((PIXELS, LABELS), ("got a tuple", NOTHING)),
    "rows of different lengths": ([[1, 2], [3]], ("got a list", NOTHING)),
    "words": (["a", "b"], ("got a list", NOTHING)),
    "sparse": (torch.rand(2, *SHAPE).to_sparse(), ("sparse_coo", "dense")),
    "meta": (torch.rand(2, *SHAPE, device="meta"), ("'meta'", "needs a dense tensor with values")),
}


@pytest.mark.parametrize("kind", WRONG_IMAGES)
def test_images(kind: str, given: Given):
    images, says = WRONG_IMAGES[kind]
    fresh = given.fresh()
    refused(lambda: fd.calibrate(fresh, images), *says)
    for function in (fd.simulate, fd.evaluate, fd.profile, fd.verify):
        refused(lambda function=function: function(given.snn, images), *says)
    if images is not None:  # then there are none
        export = {"target": "sigma-delta", "images": images}
        refused(lambda: fd.export(given.snn, given.file("no.net"), **export), *says)
    count = len(images) if hasattr(images, "__len__") and not isinstance(images, (str, dict)) else 2
    if kind not in ("images and labels", "five dimensions", "no channels", "a model"):  # a batch with labels of its own
        refused(lambda: fd.fit(fresh, (images, LABELS[:count]), epochs=1, progress=False), *says)


def test_images_that_say_too_little(given: Given):
    fresh = given.fresh()
    refused(lambda: fd.calibrate(fresh, PIXELS[:0]), "no images")
    refused(lambda: fd.calibrate(fresh, PIXELS * 0), "constant images (0 everywhere)")
    refused(lambda: fd.calibrate(fresh, np.full_like(PIXELS, 51)), "constant images (0.2 everywhere)")
    fd.calibrate(fresh, PIXELS)
    assert fd.convert(fresh) == given.snn  # nothing stayed of what was refused
    fd.calibrate(fresh, PIXELS[0])
    one = fd.convert(fresh)
    assert one != given.snn
    with pytest.raises(fd.InputError):
        fd.calibrate(fresh, PIXELS * 0)
    assert fd.convert(fresh) == one
    fd.calibrate(fresh, REAL)
    assert fd.convert(fresh) == given.snn  # a second calibration takes effect
    refused(lambda: fd.profile(given.snn, PIXELS[:0]), "no image")
    refused(lambda: fd.verify(given.snn, PIXELS[:0]), "no image")
    refused(lambda: fd.simulate(given.snn, PIXELS[:0]), "no image")
    assert fd.evaluate(given.snn, PIXELS[:0]).images == 0


def test_encoded_images_of_another_network(given: Given):
    far = fd.Encoded(np.full((2, *SHAPE), 300))
    for function in (fd.simulate, fd.evaluate, fd.profile, fd.verify):
        refused(lambda function=function: function(given.snn, far), "[300, 300]", "[0, 255]")
        refused(lambda function=function: function(given.snn, far[:, :, 1:]), "(2, 1, 7, 8)", "(N, 1, 8, 8)")
        refused(lambda function=function: function(given.snn, far * 0.5), "float64", "integers")


def test_a_data_set_of_other_images():
    digits, three = fd.load_data("digits"), fd.prepare(network(3), input_shape=(3, 8, 8))
    refused(lambda: fd.calibrate(three, digits), "(N, 3, 8, 8)")
    refused(lambda: fd.fit(three, digits, epochs=1, progress=False), "(N, 3, 8, 8)", "digits")
    fd.calibrate(three, np.random.default_rng(0).random((4, 3, 8, 8)))
    refused(lambda: fd.evaluate(fd.convert(three), digits), "(N, 3, 8, 8)", "digits")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Endless(), ("got an Endless", "length")),
        (Items((PIXELS[0], 0), 0), ("",)),
        (Items("a"), ("'a' (str)", NOTHING)),
        (Items({"image": PIXELS[0]}), ("got a dict", NOTHING)),
    ],
)
def test_data_sets_without_images(data: Any, says: tuple[str, ...], given: Given):
    refused(lambda: fd.calibrate(given.fresh(), data), *says)


# labels

WRONG_LABELS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "float": (LABELS + 0.5, ("float64", "integers")),
    "negative": (LABELS - 1, ("from -1 to 4", "class")),
    "too large": (LABELS + 9, ("from 9 to 14", "class")),
    "too few": (LABELS[:3], ("(3,)", "(6,)")),
    "one-hot": (np.eye(10, dtype=int)[LABELS], ("(6, 10)", "(6,)")),
    "names": (list("abcdef"), ("<U1", "integers")),
    "bool": (LABELS > 2, ("bool", "integers")),
    "ragged": ([[1], [2, 3]], ("object", "integers")),
    "a number": (3, ("()", "(6,)")),
    "a tensor of floats": (torch.tensor(LABELS).float(), ("float32", "integers")),
}


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_labels(kind: str, given: Given):
    labels, says = WRONG_LABELS[kind]
    fresh = given.fresh()
    refused(lambda: fd.evaluate(given.snn, PIXELS, labels), *says)
    refused(lambda: fd.fit(fresh, (PIXELS, labels), epochs=1, progress=False), *says)
    refused(lambda: fd.fit(fresh, (PIXELS, LABELS), (PIXELS, labels), epochs=1, progress=False), *says)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, ("got None", "(images, labels)")),
        (PIXELS, ("got a ndarray", "(images, labels)")),
        (Endless(), ("got an Endless", "length")),
        ((PIXELS[:0], LABELS[:0]), ("at least two images",)),
        (Items((PIXELS[0], 0), 0), ("at least two images",)),
        (Items((PIXELS[0], 0.5)), ("float64", "integers")),
        (Items((PIXELS[0], "cat")), ("<U3", "integers")),
        (Items((PIXELS[0], 12)), ("from 12 to 12", "0 to 9")),
        (Items(PIXELS[0]), ("ndarray", "(image, label)")),
        (Items(("x", 0)), ("'x' (str)", NOTHING)),
        (Items((np.random.rand(3, 8, 8), 0)), ("(6, 3, 8, 8)", "(N, 1, 8, 8)")),
    ],
)
def test_training_data(data: Any, says: tuple[str, ...], given: Given):
    fresh = given.fresh()
    refused(lambda: fd.fit(fresh, data, epochs=1, progress=False), *says)


# options

Options = dict[str, tuple[dict[str, Any], ...]]
WRONG_OPTIONS: Options = {
    "prepare": (
        {"bits": 0}, {"bits": 9}, {"bits": 1.5}, {"bits": True}, {"bits": "2"}, {"weight_bits": 1}, {"first_bits": 99},
        {"mean": 0.5}, {"mean": "half"}, {"mean": (1, 2, 3)}, {"mean": (np.nan,)}, {"std": 0}, {"std": (0,)},
        {"input_step": "a"}, {"input_step": -1}, {"input_levels": 255}, {"input_levels": (0, 1.5)},
        {"input_levels": (9, 0)}, {"activation": "lsp"}, {"activation": 3}, {"weight": "unifrom"}, {"levels": 1.5},
        {"bits_by_layer": 3}, {"bits_by_layer": {3: 2}}, {"bits_by_layer": {"0": "x"}}, {"output_bits": 0.5},
    ),
    "convert": (
        {"neurons": "unray"}, {"neurons": 3}, {"neurons": "burst0"}, {"schedule": "sometimes"}, {"schedule": 3},
        {"steps": 3}, {"input": "onec"}, {"bias": 3}, {"allow_loss": "no"},
        *({"start_delay": steps} for steps in (-1, 1.5, True, "a", 10**9)),
        *({"schedule": "window", "steps": steps} for steps in (0, -1, 1.5, True, "a", 10**5, 10**9)),
    ),
    "simulate": tuple({"steps": steps} for steps in (0, -1, 1.5, True, "a", 10**9)),
    "evaluate": (*({"steps": steps} for steps in (0, -1, 1.5, True, "a")), {"progress": 3}),
    "profile": (
        *({"steps": steps} for steps in (0, -1, 1.5, True, "a")), {"progress": 3}, {"hardware": 3}, {"hardware": None},
        {"hardware": "ghost.yaml"}, {"hardware": "speck2f"}, {"engine": "cup", "steps": 3},
    ),
    "verify": (
        {"backend": "lavva"}, {"backend": 3}, {"batch": 0}, {"batch": 1.5}, {"batch": "a"}, {"models": "slow"},
        {"timeout": -1}, {"timeout": "a"}, {"progress": 3},
    ),
    "tune": (
        {"hardware": 3}, {"hardware": "horowitz45-int8"}, {"aim": "speed"}, {"aim": 3}, {"codes": []},
        {"codes": "graded"}, {"bits": 2},
        {"bits": [0]}, {"bits": [9]}, {"bits": [1.5]}, {"weight_bits": [1]}, {"start_delays": [-1]},
        {"start_delays": [10**6]}, {"same_bits": 1}, {"fixed": 3}, {"fixed": {"code": 1.5}}, {"fixed": {"colour": 3}},
        {"trials": 0}, {"trials": True}, {"storage": 3}, {"storage": "trials.txt"}, {"study": ""}, {"study": 3},
        {"samples": 0}, {"samples": 10**9}, {"profile_samples": 3}, {"images": 1}, {"images": 10**9},
        {"iterations": -1}, {"iterations": "a"}, {"seed": -1}, {"seed": 10**30}, {"engine": "cup"},
        {"allow_loss": "no"}, {"progress": 3}, {"tell": 3}, {"test": 3}, {"test": (PIXELS, LABELS / 2)},
        {"judges": (PIXELS[:1], LABELS[:1])},
    ),
    "compare_targets": (
        {"hardware": 3}, {"hardware": []}, {"hardware": "speck2f"}, {"hardware": ["loihi2", "lohi2"]}, {"targets": []},
        {"targets": "graded"}, {"targets": 3},
        {"spiking_images": 0}, {"spiking_images": 1.5}, {"allow_loss": "no"}, {"progress": 3},
    ),
    "map_cores": (
        {"hardware": 3}, {"hardware": None}, {"hardware": "ghost.yaml"}, {"hardware": "horowitz45-int8"},
        {"objective": "speed"}, {"objective": 3}, {"cores": 0}, {"cores": 1.5}, {"cores": True}, {"cores": "a"},
        {"mapping": "ghost.json"}, {"mapping": 3}, {"host_input": "no"}, {"suggest": 1},
    ),
    "export_sanafe": (
        {"hardware": 3}, {"hardware": None}, {"hardware": "ghost.yaml"}, {"hardware": "speck2f"}, {"mapping": 3},
        {"mapping": "ghost.json"},
    ),
    "export": ({"target": 3}, {"target": None}, {"format": 3}, {"target": "sigma-delta"}),
    "fit": (
        {"epochs": 0}, {"epochs": 1.5}, {"epochs": "a"}, {"epochs": True}, {"batch_size": 1}, {"batch_size": 2.5},
        {"learning_rate": -1}, {"learning_rate": "a"}, {"learning_rate": np.nan}, {"weight_decay": -1},
        {"weight_decay": "a"}, {"device": "gpu"}, {"device": "abacus"}, {"seed": 1.5}, {"seed": "a"}, {"workers": -1},
        {"workers": "a"}, {"progress": 3}, {"teacher": 3}, {"shift": -1}, {"shift": 0.5},
        {"sparsity": -1}, {"sparsity": "a"}, {"sparsity": np.inf},
    ),
    "quantize": (
        {"bits": 0}, {"weight_bits": 9}, {"mean": "half"}, {"thresholds": "msee"}, {"thresholds": 3},
        {"stages": "rounding"}, {"stages": 3}, {"stages": ("roundin",)}, {"most_images": 1}, {"most_images": "a"},
        {"iterations": 0}, {"iterations": 1.5}, {"seed": -1}, {"progress": 3}, {"test": 3},
        {"test": (PIXELS, LABELS / 2)},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "options"), [(n, each) for n, all in WRONG_OPTIONS.items() for each in all], ids=str)
def test_options(name: str, options: dict[str, Any], given: Given):
    arguments: dict[str, tuple[Any, ...]] = {
        "prepare": (network(),), "convert": (given.model,), "export": (given.snn, given.file("no.net")),
        "fit": (given.fresh(), (PIXELS, LABELS)), "map_cores": (given.snn,), "quantize": (network(), PIXELS),
        "export_sanafe": (given.snn, PIXELS, given.file("no.net")),
        "tune": (given.model, "cores<=1", (PIXELS, LABELS)),
    }  # fmt: skip
    usual = {
        "fit": {"epochs": 1, "progress": False}, "tune": {"samples": 2, "profile_samples": 1, "images": 2, "trials": 1}
    }  # fmt: skip
    keywords = usual.get(name, {}) | options
    message = refused(lambda: getattr(fd, name)(*arguments.get(name, (given.snn, PIXELS)), **keywords))
    assert any(key in message or str(value) in message for key, value in options.items())
    assert not given.file("no.net").exists()


def test_names_get_a_guess(given: Given):
    out = given.file("no.net")
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: fd.export(given.snn, out, target="signedif"), "Did you mean 'signed-if'?"),
        (lambda: fd.export(given.snn, out, format="netz"), "Did you mean 'netx'?"),
        (lambda: fd.compare_targets(given.snn, PIXELS, targets=["burst0"]), "Did you mean 'burst"),
        (lambda: fd.profile(given.snn, PIXELS, "lohi2"), "Did you mean 'loihi2'?"),
        (lambda: fd.verify(given.snn, PIXELS, backend="lavva"), "Did you mean 'lava'?"),  # type: ignore[arg-type]
        (lambda: fd.load_data("digist"), "Did you mean 'digits'?"),
        (lambda: fd.load_data("digits", "tset"), "Did you mean 'test'?"),  # type: ignore[arg-type]
    ]
    for function in (fd.simulate, fd.evaluate, fd.profile):
        for wrong, guess in (("refrence", "Did you mean 'reference'?"), (3, "'3'"), (None, "'None'")):
            cases.append((lambda f=function, w=wrong: f(given.snn, PIXELS, engine=w), guess))  # type: ignore[misc]
    for call, says in cases:
        refused(call, "is not known", says, "Known: ")


@pytest.mark.parametrize(
    "shape", [8, "1x8x8", (8, 8, 1.0), (1, -8, 8), (2, 1, 8, 8), (8, 8), (None, 8, 8), (), (1, 0, 0)]
)
def test_shapes(shape: Any, given: Given):
    file = given.file("a.pt")
    for call in (
        lambda: fd.convert(given.model, shape), lambda: fd.convert(file, shape),
        lambda: fd.save(given.model, given.file("no.pt"), input_shape=shape),
        lambda: fd.verify(given.model, PIXELS, input_shape=shape),
    ):  # fmt: skip
        refused(call, "input_shape", "is not (C, H, W) or (N,)")
    refused(lambda: fd.prepare(network(), input_shape=shape), "(C, H, W)" if shape != (8, 8) else "(8, 8)")


def test_images_of_another_size(given: Given):
    for shape in ((3, 8, 8), (8, 8, 1), (1, 2, 2)):
        refused(lambda shape=shape: fd.prepare(network(), input_shape=shape), str(shape), "does not pass")
        refused(lambda shape=shape: fd.convert(given.model, shape), str(shape), "prepared for images of shape")
        refused(lambda shape=shape: fd.convert(given.file("a.pt"), shape), str(shape))


# files

NETWORKS = {
    "ghost.net": "no such NetX file", "half-a.net": "damaged", "half-a.nir": "damaged", "empty": "is empty",
    "pointer": "Git LFS pointer", ".": "is a folder", "a.pt": "is a checkpoint", "a.safetensors": "is a spiking graph",
    "pipe": "is a device or a pipe", "nowhere": "is a device or a pipe", "circle": "cannot be read", "text": "HDF5",
    "text/a.net": "no such NetX file", "n" * 5000: "cannot be read", "half-a.pt": "HDF5",
}  # fmt: skip
CHECKPOINTS = {
    "ghost.pt": "no such checkpoint", "half-a.pt": "damaged", "empty": "is empty", "pointer": "Git LFS pointer",
    ".": "is a folder", "a.net": "is an exported network", "a.nir": "is a NIR file", "a.safetensors": "spiking graph",
    "pipe": "is a device or a pipe", "nowhere": "is a device or a pipe", "circle": "cannot be read", "text": "PyTorch",
    "n" * 5000: "cannot be read",
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS, ids=lambda name: name[:20])
def test_files_in_place_of_a_network(name: str, given: Given):
    file, says = given.file(name), NETWORKS[name]
    refused(lambda: fd.read(file), says)
    refused(lambda: fd.read(str(file)), says)
    for function in (fd.simulate, fd.evaluate, fd.profile):
        refused(lambda function=function: function(file, PIXELS), says)
    refused(lambda: fd.map_cores(file), says)
    refused(lambda: fd.verify(given.model, PIXELS, net=file), says)


@pytest.mark.parametrize("name", CHECKPOINTS, ids=lambda name: name[:20])
def test_files_in_place_of_a_checkpoint(name: str, given: Given):
    file, says = given.file(name), CHECKPOINTS[name]
    for call in (
        lambda: fd.load(file), lambda: fd.convert(file), lambda: fd.verify(str(file), PIXELS),
        lambda: fd.export(file, given.file("no.net")), lambda: fd.save(file, given.file("no.pt")),  # type: ignore[arg-type]
    ):  # fmt: skip
        refused(call, says)
    assert not list(given.folder.glob("no.*"))


@pytest.mark.parametrize("path", [3, None, b"a.net", ["a.net"], 1.5])
def test_what_is_no_path(path: Any, given: Given):
    says = ("got None" if path is None else "needs", "a string or a pathlib.Path")
    for call in (
        lambda: fd.read(path), lambda: fd.load(path), lambda: fd.export(given.snn, path),
        lambda: fd.save(given.model, path),
    ):  # fmt: skip
        refused(call, *says)
    if path is not None:
        refused(lambda: fd.load_data("cifar10", root=path), *says)
    refused(lambda: fd.load_data(path), "needs the name")


@pytest.mark.parametrize("name", [".", "text/x.net", "n" * 5000, "a\0b"], ids=lambda name: name[:20])
def test_places_that_cannot_be_written(name: str, given: Given):
    mapping = fd.map_cores(given.snn)
    for call in (
        lambda: fd.export(given.snn, given.file(name)), lambda: fd.save(given.model, given.file(name)),
        lambda: mapping.save(given.file(name)),
    ):  # fmt: skip
        refused(call, "folder" if name == "." else "cannot be written")
    assert not list(given.folder.glob("*.tmp"))


def test_folders_are_made(given: Given, tmp_path: Path):
    fd.export(given.snn, tmp_path / "new" / "folder" / "a.net")
    assert fd.read(tmp_path / "new" / "folder" / "a.net") == given.snn


def test_metadata_that_is_no_plain_data(given: Given):
    for wrong in ("text", [1], 3):
        refused(lambda wrong=wrong: fd.save(given.model, given.file("no.pt"), metadata=wrong), "needs a dict")
    refused(lambda: fd.save(given.model, given.file("no.pt"), metadata={"a": object()}), "is a object")


def test_verify_with_other_layers(given: Given):
    wider, other = calibrated(network(width=7)), calibrated(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    for model in (wider, other):
        for net in (given.snn, given.file("a.net"), given.file("stock.net"), given.file("a.nir")):
            refused(lambda m=model, n=net: fd.verify(m, PIXELS, net=n), "does not hold this network's layers")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("evaluate", "ghost.net", "--data", "random"), "no such NetX file"),
        (("evaluate", "pipe", "--data", "random"), "is a device or a pipe"),
        (("evaluate", "a.net", "--data", "text"), "is not an .npz file"),
        (("profile", "a.pt", "--data", "random"), "is a checkpoint"),
        (("profile", "half-a.net", "--data", "random"), "damaged"),
        (("export", "pointer"), "Git LFS pointer"),
        (("export", "a.pt", "-o", "text/x.net"), "cannot be written"),
        (("export", "a.pt", "-o", "."), "is a folder"),
        (("verify", "a.net", "--data", "random"), "is an exported network"),
        (("verify", "half-a.pt", "--data", "random"), "damaged"),
        (("run", "a.safetensors", "--data", "random"), "is a spiking graph"),
        (("info", "pipe"), "pipe"),
        (("map", "a.pt"), "is a checkpoint"),
        (("map", "a.net", "-o", "a.net"), "a.net"),
        (("map", "a.net", "--mapping", "text"), "is not JSON"),
    ],
)
def test_the_shell(
    arguments: tuple[str, ...], says: str, given: Given,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    monkeypatch.chdir(given.folder)
    result: Result = runner(monkeypatch, capsys)(*arguments)
    assert result.returncode == 2, result.stderr
    assert says in " ".join(result.stderr.split()), result.stderr
    assert "Traceback" not in result.stderr
