"""Networks of other programs: every kind of file from the shell to an exact spiking network, and every wrong one."""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

import fastsnn_deploy as fd
from fastsnn_deploy.quantisation.sources import Request, read_source
from fastsnn_deploy.reading import ROOM
from tests.commands import Result, runner

SHAPE = (1, 8, 8)


class Block(nn.Module):
    """A residual block, so that a file must keep more than a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)) + x)


class Net(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.block, self.pool, self.drop = Block(), nn.MaxPool2d(2), nn.Dropout()
        self.fc = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.block(self.stem(x)))
        return self.fc(self.drop(x.reshape(x.shape[0], -1)))


def network() -> Net:
    torch.manual_seed(0)
    model = Net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def write_program(path: Path, batch: int = 1, decomposed: bool = False, dynamic: bool = False) -> None:
    dims = {"x": {0: torch.export.Dim("b")}} if dynamic else None
    program = torch.export.export(network(), (torch.rand(batch, *SHAPE),), dynamic_shapes=dims)
    torch.export.save(program.run_decompositions() if decomposed else program, path)


def write_onnx(path: Path, **options: Any) -> None:
    torch.onnx.export(network(), (torch.rand(1, *SHAPE),), path, dynamo=False, **options)


def write_graph(
    path: Path, nodes: list[Any], held: list[Any], shape: list[Any], opsets: list[Any] | None = None
) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [answer], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *(opsets or [])]), path)


def write_lightning(path: Path) -> None:
    state = {f"model._orig_mod.{name}": value for name, value in network().state_dict().items()}
    hyper = argparse.Namespace(lr=0.1)
    torch.save({"state_dict": state, "hyper_parameters": hyper, "epoch": 3, "optimizer_states": [{}]}, path)


def write_pruned(path: Path) -> None:
    model = network()
    prune.random_unstructured(model.block.conv, "weight", 0.5)
    torch.save({"net": model.state_dict()}, path)


FILES: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "program.pt2": (write_program, False),
    "decomposed.pt2": (lambda path: write_program(path, decomposed=True), False),
    "dynamic.pt2": (lambda path: write_program(path, 2, dynamic=True), False),
    "traced.pt": (lambda path: torch.jit.trace(network(), torch.rand(1, *SHAPE)).save(path), False),
    "scripted.pt": (lambda path: torch.jit.script(network()).save(path), False),
    "static.onnx": (write_onnx, False),
    "open.onnx": (lambda path: write_onnx(path, input_names=["x"], dynamic_axes={"x": {0: "n"}}), False),
    "unfolded.onnx": (
        lambda path: write_onnx(path, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False), False
    ),
    "bare.pth": (lambda path: torch.save(network().state_dict(), path), True),
    "old.pth": (lambda path: torch.save(network().state_dict(), path, _use_new_zipfile_serialization=False), True),
    "parallel.pth": (lambda path: torch.save({"model": nn.DataParallel(network()).state_dict()}, path), True),
    "average.pth": (lambda path: torch.save({"ema": AveragedModel(network()).state_dict()}, path), True),
    "lightning.ckpt": (write_lightning, True),
    "tensors.safetensors": (lambda path: save_file(network().state_dict(), path), True),
}  # fmt: skip
"""How each file is written, and whether it needs a network to be put into."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what writes them is deprecated, and users still have what it wrote
        for name, (write, _) in FILES.items():
            write(folder / name)
        write_pruned(folder / "pruned.pth")
        torch.save(network(), folder / "whole.pth")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    return runner(monkeypatch, capsys)


# every kind


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_is_the_network(name: str, files: Path):
    loaded = fd.load_model(files / name, Net if FILES[name][1] else None)
    images = torch.rand(4, *SHAPE)
    torch.testing.assert_close(loaded(images), network()(images), rtol=1e-5, atol=1e-5)
    if FILES[name][1]:
        return  # it is the user's own module
    paths = dict(fd.prepare(loaded, bits=4).named_modules())
    assert {"stem.0", "block.conv", "fc"} <= paths.keys() or name in ("static.onnx", "open.onnx")
    assert "fc" in paths


@pytest.mark.parametrize("name", ["program.pt2", "scripted.pt", "static.onnx", "parallel.pth", "tensors.safetensors"])
def test_from_the_shell_to_exact(name: str, files: Path, run: Callable[..., Result], tmp_path: Path):
    net, own = tmp_path / "m.net", ["--model", f"{__file__}:Net"] if FILES.get(name, (None, False))[1] else []
    written = run(
        "export", files / name, *own, "--bits", 3, "--weight-bits", 4, "--data", "digits", "-o", net, "--json"
    )
    assert written.returncode == 0, written.stderr
    facts = json.loads(written.stdout)
    assert facts["checkpoint"] == str(tmp_path / "m-3bit.pt")
    assert any("without training: steps from 256 training images of digits" in note for note in facts["notes"])
    proof = run("verify", facts["checkpoint"], net, "--samples", 5, "--json")
    assert proof.returncode == 0, proof.stderr
    assert json.loads(proof.stdout)["exact"]


def test_a_trusted_pickle_from_the_shell(files: Path, run: Callable[..., Result], tmp_path: Path):
    options = ("--bits", 2, "--data", "digits", "-o", tmp_path / "m.net", "--checkpoint", tmp_path / "q.pt")
    refused = run("export", files / "whole.pth", *options)
    assert refused.returncode == 2
    for part in ("whole pickled module (tests.test_sources.Net)", "runs whatever code", "--trust-pickle",
                 "torch.export.save(torch.export.export("):  # fmt: skip
        assert part in refused.stderr
    assert run("export", files / "whole.pth", "--trust-pickle", *options).returncode == 0
    assert run("verify", tmp_path / "q.pt", tmp_path / "m.net", "--samples", 3).returncode == 0


def test_a_float_network_is_never_rounded_unasked(files: Path, run: Callable[..., Result], tmp_path: Path):
    for options, says in (
        ((), "Give --bits and --data"),
        (("--bits", 4), "Give --data"),
        (("--data", "digits"), "Give --bits"),
        (("--bits", 4, "--data", "random"), "random images say nothing"),
    ):
        result = run("export", files / "program.pt2", *options, "-o", tmp_path / "no.net")
        assert result.returncode == 2
        assert says in result.stderr
    assert not list(tmp_path.iterdir())
    for function in (fd.convert, fd.load):
        with pytest.raises(fd.InputError, match=r"float network, not a quantised model. Load it with fd.load_model"):
            function(files / "program.pt2")


def test_outputs_are_chosen_and_rectifiers_replaced(run: Callable[..., Result], tmp_path: Path):
    (tmp_path / "both.py").write_text(
        "from torch import nn\n"
        "class Both(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv, self.act = nn.Conv2d(1, 4, 3, 2), nn.SiLU()\n"
        "        self.answer, self.other = nn.Linear(36, 10), nn.Linear(36, 2)\n"
        "    def forward(self, x):\n"
        "        x = self.act(self.conv(x)).flatten(1)\n"
        "        return {'answer': self.answer(x), 'other': self.other(x)}\n"
    )
    namespace: dict[str, Any] = {}
    exec((tmp_path / "both.py").read_text(), namespace)
    torch.save(namespace["Both"]().state_dict(), tmp_path / "w.pt")
    command = (tmp_path / "w.pt", "--model", f"{tmp_path / 'both.py'}:Both", "--data", "digits", "--bits", 4)
    refused = run("export", *command, "-o", tmp_path / "m.net")
    assert refused.returncode == 2
    assert "SiLU" in refused.stderr
    assert "answer" in refused.stderr
    choices = ("--output", "answer", "--replace-activations", "relu")
    with pytest.warns(UserWarning, match="Fine-tune it"):
        assert run("check", *command, *choices).returncode == 0
    with pytest.warns(UserWarning, match="Fine-tune it"):
        made = run("export", *command, *choices, "-o", tmp_path / "m.net", "--checkpoint", tmp_path / "q.pt")
    assert made.returncode == 0, made.stderr
    assert run("verify", tmp_path / "q.pt", tmp_path / "m.net", "--samples", 3).returncode == 0


def test_info_says_what_a_file_is(files: Path, run: Callable[..., Result]):
    for name, kind in (("program.pt2", "a torch.export program"), ("static.onnx", "ONNX"), ("bare.pth", "weights")):
        result = run("info", files / name)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(f"{files / name}: {kind}")
        assert "`fastsnn-deploy check` says what would become of it" in result.stdout


def test_a_checkpoint_of_ours_is_a_quantised_model(checkpoint_file: Path, run: Callable[..., Result], tmp_path: Path):
    assert fd.convert(fd.load_model(checkpoint_file)).outputs
    result = run("export", checkpoint_file, "--bits", 4, "-o", tmp_path / "no.net")
    assert result.returncode == 2
    assert "is quantised already. Leave out --bits" in result.stderr


def test_pruned_weights_are_those_behind_the_masks(files: Path):
    weight = fd.load_model(files / "pruned.pth", Net).block.conv.weight
    assert 0.4 < float((weight == 0).float().mean()) < 0.6


class FirstForm:
    """A tensor as torch 0.3 and before pickled it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor.contiguous()

    def __reduce__(self) -> Any:
        storage = self.tensor.storage()
        return torch._utils._rebuild_tensor, (storage, 0, tuple(self.tensor.shape), self.tensor.stride())


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_weights_of_the_first_versions_of_torch(tmp_path: Path):
    net = network()
    old = {f"module.{name}": FirstForm(tensor) for name, tensor in net.state_dict().items() if tensor.dim()}
    torch.save({"state_dict": old, "best_prec1": 91.7}, tmp_path / "old.th", _use_new_zipfile_serialization=False)
    read = fd.load_model(tmp_path / "old.th", f"{__file__}:Net")
    assert all(
        torch.equal(tensor, read.state_dict()[name]) for name, tensor in net.state_dict().items() if tensor.dim()
    )


def test_the_weights_of_a_key(tmp_path: Path):
    first, second = network(), network()
    nn.init.zeros_(second.fc.bias)
    torch.save({"model": first.state_dict(), "ema": second.state_dict(), "epoch": 1}, tmp_path / "two.pth")
    loaded = read_source(Request(tmp_path / "two.pth", Net))
    assert torch.equal(loaded.model.fc.bias, first.fc.bias)
    assert loaded.notes == ("the weights are those under 'model'; the file also holds ema: choose with --key",)
    assert not fd.load_model(tmp_path / "two.pth", Net, key="ema").fc.bias.any()
    with pytest.raises(fd.InputError, match=r"no weights under the key 'best'. Its keys with weights: model, ema"):
        fd.load_model(tmp_path / "two.pth", Net, key="best")


def test_all_misfits_at_once(files: Path, tmp_path: Path):
    state = network().state_dict()
    del state["fc.bias"], state["stem.1.weight"]
    state |= {
        "head.weight": torch.zeros(3),
        "fc.weight": torch.zeros(5, 64),
        "stem.0.weight": torch.full((4, 1, 3, 3), np.nan),
    }
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(fd.InputError) as caught:
        fd.load_model(tmp_path / "wrong.pth", Net)
    assert {(p.where, p.what) for p in caught.value.problems} == {
        ("fc.bias", "is missing: the network wants (10,)"),
        ("stem.1.weight", "is missing: the network wants (4,)"),
        ("head.weight", "has no place in this network ((3,))"),
        ("fc.weight", "has shape (5, 64), the network wants (10, 64)"),
        ("stem.0.weight", "holds NaN or infinity"),
    }
    with pytest.raises(fd.InputError, match="weights without a network") as caught:
        fd.load_model(files / "bare.pth")
    for part in ("--model", "package.module:builder", "torchvision:NAME", "timm:NAME", "stem.0.weight (4, 1, 3, 3)"):
        assert part in str(caught.value)


# names


def test_names_of_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = fd.load_model(weights_of(tmp_path, "lenet(width=4)"), "lenet(width=4)")
    assert model.conv1.out_channels == 4
    name = "torchvision:squeezenet1_1(num_classes=7)"
    assert fd.load_model(weights_of(tmp_path, name), name).num_classes == 7
    file = tmp_path / "w.pth"
    for wrong, says in (
        ("torchvision:resnet81", "is not known. Did you mean resnet18"),
        ("lenet(8)", "options are written as lenet(num_classes=10"),
        ("lenet(width=open('x'))", "options are written as"),
        ("lenet(colour=2)", "unexpected keyword argument 'colour'"),
        ("lanet", "Did you mean 'lenet'"),
        (f"{__file__}:SHAPE", "cannot be built"),
    ):
        with pytest.raises(fd.InputError) as caught:
            fd.load_model(file, wrong)
        assert says in str(caught.value), wrong
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(fd.InputError, match=r"needs timm. Install it with `pip install timm`"):
        fd.load_model(file, "timm:resnet10t")


def weights_of(folder: Path, name: str) -> Path:
    from fastsnn_deploy.training.models import build

    torch.save(build(name).state_dict(), folder / "w.pth")
    return folder / "w.pth"


def test_onnx_is_named_where_it_is_missing(files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        fd.InputError, match=r"onnx is not installed. Install it with .pip install 'fastsnn-deploy\[onnx\]'"
    ):
        fd.load_model(files / "static.onnx")


# wrapped modules in Python


def averaged(model: nn.Module) -> nn.Module:
    return AveragedModel(model)


def weight_normed(model: Any) -> nn.Module:
    parametrizations.weight_norm(model.block.conv)
    return model


def pruned(model: Any) -> nn.Module:
    prune.l1_unstructured(model.block.conv, "weight", 0.5)
    return model


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled, averaged, weight_normed, pruned])
def test_wrapped_modules(wrap: Callable[[nn.Module], nn.Module]):
    model = wrap(network()).eval()
    before = copy.deepcopy(network().state_dict())
    prepared = fd.prepare(model, bits=4, input_shape=SHAPE)
    fd.calibrate(prepared, np.random.default_rng(0).random((8, *SHAPE)))
    assert fd.verify(prepared, np.random.default_rng(1).random((3, *SHAPE))).exact
    assert {"stem.0", "fc"} <= dict(prepared.named_modules()).keys()
    assert all(torch.equal(value, before[name]) for name, value in network().state_dict().items())


# ONNX, operator by operator


def operators() -> dict[str, list[Any]]:
    """Small graphs from `image` to `y`, each with what the operator can have."""
    n = helper.make_node
    i64 = lambda *v: np.array(v, dtype=np.int64)  # noqa: E731
    weight = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
    return {
        "Conv same": [n("Conv", ["image", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2]), ("w", weight)],
        "Conv uneven": [n("Conv", ["image", "w"], ["y"], pads=[0, 1, 2, 1], dilations=[1, 2]), ("w", weight)],
        "Conv groups": [n("Conv", ["image", "w"], ["y"], group=2), ("w", weight[:, :1])],
        "ConvTranspose": [
            n("ConvTranspose", ["image", "w"], ["y"], strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1]),
            ("w", weight[:2]),
        ],
        "Gemm": [
            n("Flatten", ["image"], ["f"]), n("Gemm", ["f", "w", "b"], ["y"], alpha=2.0, beta=0.5, transB=1),
            ("w", np.random.default_rng(1).normal(size=(5, 72)).astype(np.float32)), ("b", np.float32([1, 2, 3, 4, 5])),
        ],
        "BatchNormalization": [
            n("BatchNormalization", ["image", "g", "b", "m", "v"], ["y"], epsilon=1e-2), ("g", np.float32([1, 2])),
            ("b", np.float32([0, 1])), ("m", np.float32([0.5, 0])), ("v", np.float32([1, 4])),
        ],
        "Clip": [n("Clip", ["image", "a", "b"], ["y"]), ("a", np.float32(0)), ("b", np.float32(0.5))],
        "arithmetic": [
            n("Mul", ["image", "g"], ["a"]), n("Sub", ["a", "two"], ["b"]), n("Div", ["b", "two"], ["c"]),
            n("Sum", ["c", "image", "image"], ["y"]), ("g", np.float32([[[1]], [[3]]])), ("two", np.float32(2)),
        ],
        "AveragePool": [
            n("AveragePool", ["image"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
        ],
        "MaxPool": [n("MaxPool", ["image"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
        "global": [n("GlobalAveragePool", ["image"], ["g"]), n("Squeeze", ["g", "axes"], ["y"]), ("axes", i64(2, 3))],
        "ReduceMean": [n("ReduceMean", ["image"], ["y"], axes=[2, 3], keepdims=0)],
        "Pad": [n("Pad", ["image", "p"], ["y"]), ("p", i64(0, 0, 1, 2, 0, 0, 0, 1))],
        "Resize": [
            n("Resize", ["image", "", "s"], ["y"], mode="nearest", nearest_mode="floor",
              coordinate_transformation_mode="asymmetric"),
            ("s", np.float32([1, 1, 2, 3])),
        ],
        "Resize sizes": [n("Resize", ["image", "", "", "s"], ["y"], mode="nearest"), ("s", i64(1, 2, 12, 18))],
        "Split and Concat": [
            n("Split", ["image"], ["a", "b"], axis=1), n("Concat", ["b", "a"], ["y"], axis=1),
        ],
        "Slice": [
            n("Slice", ["image", "s", "e", "axes", "by"], ["y"]), ("s", i64(1, 0)), ("e", i64(2**60, -1)),
            ("axes", i64(2, 3)), ("by", i64(2, 1)),
        ],
        "shuffle": [
            n("Reshape", ["image", "s"], ["a"]), n("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
            n("Reshape", ["b", "t"], ["y"]), ("s", i64(0, 2, 1, 6, 6)), ("t", i64(1, -1, 6, 6)),
        ],
        "shape": [
            n("Shape", ["image"], ["s"]), n("Gather", ["s", "zero"], ["n"], axis=0),
            n("Unsqueeze", ["n", "zero1"], ["u"]),
            n("Concat", ["u", "rest"], ["t"], axis=0), n("Reshape", ["image", "t"], ["y"]), ("zero", np.int64(0)),
            ("zero1", i64(0)), ("rest", i64(-1)),
        ],
        "Gather": [n("Gather", ["image", "i"], ["y"], axis=1), ("i", i64(1, 0))],
        "unsigned bytes": [
            n("QuantizeLinear", ["image", "s", "z"], ["q"]), n("DequantizeLinear", ["q", "s", "z"], ["d"]),
            n("DequantizeLinear", ["w", "s", "z"], ["dw"]), n("Conv", ["d", "dw"], ["y"]),
            ("s", np.float32(1 / 64)), ("z", np.uint8(0)),
            ("w", np.random.default_rng(2).integers(0, 9, (4, 2, 3, 3)).astype(np.uint8)),
        ],
    }  # fmt: skip


@pytest.mark.parametrize("name", operators())
def test_operators_are_those_of_onnx(name: str, tmp_path: Path):
    """Against ONNX's own reference, on levels of 1/64, which its quantisers keep; and for another batch."""
    parts = operators()[name]
    nodes = [part for part in parts if not isinstance(part, tuple)]
    held = [numpy_helper.from_array(np.asarray(part[1]), part[0]) for part in parts if isinstance(part, tuple)]
    write_graph(tmp_path / "one.onnx", nodes, held, [1, 2, 6, 6])
    module, plain = fd.load_model(tmp_path / "one.onnx"), onnx.load(tmp_path / "one.onnx")
    if name == "unsigned bytes":
        plain.opset_import[0].version = 19  # the first that the reference has
    reference = ReferenceEvaluator(plain)
    images = (np.random.default_rng(3).integers(0, 64, (3, 2, 6, 6)) / 64).astype(np.float32)
    with torch.no_grad():
        found = module(torch.from_numpy(images)).numpy()
    wanted = np.concatenate([reference.run(None, {"image": image[None]})[0] for image in images])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_operators_without_a_form_are_listed_together(tmp_path: Path):
    nodes = [
        helper.make_node("LSTM", ["image", "w", "w"], ["a"], name="/rnn/LSTM", hidden_size=2),
        helper.make_node("MaxPool", ["image"], ["b"], name="/pool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Conv", ["b", "w"], ["y"], name="/conv", unknown=3),
    ]
    held = [numpy_helper.from_array(np.zeros((1, 2, 1, 1), dtype=np.float32), "w")]
    write_graph(tmp_path / "bad.onnx", nodes, held, [1, 2, 6, 6])
    with pytest.raises(fd.InputError) as caught:
        fd.load_model(tmp_path / "bad.onnx")
    assert [(p.where, p.what) for p in caught.value.problems] == [
        ("LSTM '/rnn/LSTM'", "is not supported"),
        ("MaxPool '/pool'", "has other pads before than behind"),
        ("Conv '/conv'", "has unknown=3, which is not supported"),
    ]


# files that are wrong


WEIGHT = '_name": "fc.weight"'
"""Where a program names a parameter."""


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def changed(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], more: dict[str, bytes]) -> Path:
    """An archive with other bytes in its entries, and with more of them."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        top = before.namelist()[0].partition("/")[0]
        for info in before.infolist():
            if (data := change(info.filename, before.read(info))) is not None:
                after.writestr(info.filename, data)
        for name, data in more.items():
            after.writestr(f"{top}/{name}", data)
    return target


def in_model(old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return data
        assert old in data.decode()
        return data.decode().replace(old, new).encode()

    return change


def test_nothing_in_a_file_runs(files: Path, tmp_path: Path):
    mark = tmp_path / "mark"
    evil = pickle.dumps(Evil(mark))
    command = f"__import__('os').system('touch {mark}')"

    def same(name: str, data: bytes) -> bytes:
        return data

    def with_pickle(name: str, data: bytes) -> bytes:
        return data.replace(b'"use_pickle": false', b'"use_pickle": true') if "weights_config" in name else data

    torch.save({"model": network().state_dict(), "x": Evil(mark)}, tmp_path / "state.pth")
    torch.save(Evil(mark), tmp_path / "evil.pth")
    (tmp_path / "raw.pkl").write_bytes(evil)
    program, dynamic = files / "program.pt2", files / "dynamic.pt2"
    attribute = json.dumps(f'fc") or getattr(__import__("os"),"system")("touch {mark}") or ("')[1:-1]
    bad = io.BytesIO()
    torch.save(((Evil(mark),), {}), bad)
    made = {
        "opaque": changed(program, tmp_path / "1.pt2", same, {"data/constants/opaque_obj_0": evil}),
        "library": changed(program, tmp_path / "2.pt2", same, {"data/aotinductor/model/x.so": b"\x7fELF"}),
        "pickled weights": changed(program, tmp_path / "3.pt2", with_pickle, {}),
        "expression": changed(dynamic, tmp_path / "4.pt2", in_model('"Symbol(', f'"{command} or Symbol('), {}),
        "target": changed(program, tmp_path / "5.pt2", in_model("torch.ops.aten.relu.default", "torch.hub.load"), {}),
        "name": changed(program, tmp_path / "6.pt2", in_model('"name": "relu"', f'"name": "a={command},b"'), {}),
        "parameter": changed(program, tmp_path / "8.pt2", in_model(WEIGHT, f'_name": "{attribute}"'), {}),
        "tree": changed(program, tmp_path / "9.pt2", in_model('"out_spec": "', '"out_spec": "default_factory'), {}),
        "examples": changed(
            program, tmp_path / "7.pt2", lambda name, data: bad.getvalue() if "sample_inputs" in name else data, {}
        ),
    }  # fmt: skip
    for kind, path in made.items():
        with pytest.raises(fd.InputError) as caught:
            fd.load_model(path)
        assert "holds what could run any code; refused" in str(caught.value), kind
    for path in (tmp_path / "evil.pth", tmp_path / "raw.pkl"):
        with pytest.raises(fd.InputError):
            fd.load_model(path, Net)
    assert isinstance(fd.load_model(tmp_path / "state.pth", Net), Net)
    assert not mark.exists()
    os.system(f"touch {mark}")  # what would have happened
    assert mark.exists()


def test_torchscript_that_writes_files_is_refused(tmp_path: Path):
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.save(x, "written")
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Writes()).save(tmp_path / "writes.pt")
    with pytest.raises(fd.InputError, match="holds operations that are not run here") as caught:
        fd.load_model(tmp_path / "writes.pt")
    assert [p.where for p in caught.value.problems] == ["aten::save"]


def wrong_files(files: Path, folder: Path) -> dict[str, Path]:
    made = {}
    for name in ("program.pt2", "scripted.pt", "static.onnx", "bare.pth", "old.pth", "tensors.safetensors"):
        whole = (files / name).read_bytes()
        for kind, size in (("half", len(whole) // 2), ("start", 12)):
            (folder / f"{kind}-{name}").write_bytes(whole[:size])
            made[f"{kind} of {name}"] = folder / f"{kind}-{name}"
    with zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2 * ROOM))
    (folder / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "lite.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    np.savez(folder / "arrays.npz", a=np.zeros(3))
    (folder / "text.pt").write_text("hello")
    (folder / "empty.pt").touch()
    torch.save({"epoch": 3}, folder / "nothing.pth")
    torch.save([1, 2], folder / "list.pth")
    names = ("bomb.pth", "keras.h5", "lite.tflite", "arrays.npz", "text.pt", "empty.pt", "nothing.pth", "list.pth", "")
    return made | {name or "a folder": folder / name for name in names} | {"nowhere": folder / "nowhere.pt"}


def test_every_wrong_file_ends_in_one_message(files: Path, tmp_path: Path):
    for kind, path in wrong_files(files, tmp_path).items():
        with pytest.raises(fd.InputError) as caught:
            fd.load_model(path, None if "pt2" in kind or "scripted" in kind or "onnx" in kind else Net)
        message = caught.value.message
        assert "\n" not in message, kind
        assert str(path) in message, kind
        assert 15 < len(message) < 600, kind
    with pytest.raises(fd.InputError, match="would take"):
        fd.load_model(tmp_path / "bomb.pth", Net)
    with pytest.raises(fd.InputError, match=r"Keras can be saved as ONNX"):
        fd.load_model(tmp_path / "keras.h5")


def test_options_that_do_not_fit_the_file(files: Path):
    with pytest.raises(fd.InputError, match=r"holds its network itself. Leave out --model"):
        fd.load_model(files / "program.pt2", Net)
    with pytest.raises(fd.InputError, match="has no keys to choose from"):
        fd.load_model(files / "static.onnx", key="ema")
    with pytest.raises(fd.InputError, match="model: got 3"):
        fd.load_model(files / "bare.pth", 3)  # type: ignore[arg-type]
    with pytest.raises(fd.InputError, match="returns a str"):
        fd.load_model(files / "bare.pth", lambda: "net")  # type: ignore[arg-type, return-value]
    with pytest.raises(fd.InputError, match="key: got 3"):
        fd.load_model(files / "bare.pth", Net, key=3)  # type: ignore[arg-type]
    with pytest.raises(fd.InputError, match="path of the checkpoint"):
        fd.load_model(3)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(files / "scripted.pt")
    with pytest.raises(fd.InputError, match="cannot follow TorchScript"):
        fd.prepare(script)
    with pytest.raises(fd.InputError, match="exported in training mode"):
        fd.load_model(trained(files / "trained.pt2"))


def trained(path: Path) -> Path:
    torch.export.save(torch.export.export(network().train(), (torch.rand(2, *SHAPE),)), path)
    return path
