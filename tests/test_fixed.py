"""Networks that other programs have quantised: their own integers in every layer, and everything that is refused."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.agreement import RoundingWarning
from fastsnn_deploy.conversion.convert import converted
from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.quantisation.fixed.quantiser import FixedQuantiser, WeightGrid, put_grid
from fastsnn_deploy.quantisation.given import as_checkpoint
from fastsnn_deploy.quantisation.images import input_of
from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED, QuantActivation
from fastsnn_deploy.simulators.integer import layer_values
from tests.commands import Result, runner

SHAPE = (1, 8, 8)
IMAGES = 4
QONNX = "qonnx.custom_op.general"


# a network that each program quantises in its way


class Net(nn.Module):
    """Convolution and batch norm, a depthwise residual block, pools, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU6()
        self.depth, self.last = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU()
        self.pool, self.average, self.fc = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.conv(x)))
        x = self.pool(self.last(self.depth(x) + x))
        return self.fc(torch.flatten(self.average(x), 1))


def network() -> Net:
    torch.manual_seed(0)
    model = Net()
    nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    return model


def images_of(model: nn.Module) -> torch.Tensor:
    """Raw images on the grid of a quantised model."""
    grid = input_of(model)
    levels = np.random.default_rng(1).integers(grid.low, grid.high + 1, (IMAGES, *SHAPE))
    return torch.from_numpy(levels.astype(np.float32) * np.float32(grid.step))


class Kept(fx.Interpreter):
    """Runs a quantised model and keeps what its activations give, by the names of their calls."""

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model)
        self.counts: dict[str, np.ndarray] = {}
        self.steps: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        layer = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(layer, QuantActivation):
            self.steps[n.name] = float(layer.step_in_use())
            self.counts[n.name] = (result / layer.step_in_use()).round().numpy().astype(np.int64)
        return result


def require_integers(model: fx.GraphModule, images: torch.Tensor, theirs: list[np.ndarray], few: bool) -> None:
    """Every activation has the integers of one quantiser of the other program, and the spiking network has them too.

    few: so few levels that no threshold rounds a count away; else the share that differs is the one that is stated.
    """
    run = Kept(model.eval())
    with torch.no_grad():
        run.run(images)
    assert len(run.counts) >= 3
    for name, ours in run.counts.items():
        found = [np.rint(each / run.steps[name]) for each in theirs if each.shape == ours.shape]
        assert any(np.array_equal(ours, each) for each in found), name
    graph, names = converted(as_checkpoint(model, SHAPE))
    values = layer_values(graph, graph.encode(images.numpy()), list(names.values()))
    differing = sum(int((values[names[call]].reshape(ours.shape) != ours).sum()) for call, ours in run.counts.items())
    share = differing / sum(ours.size for ours in run.counts.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RoundingWarning)  # of ties in averages, which floating point decides
        stated = fd.convert(model, SHAPE).metadata["agreement"]
        assert fd.verify(model, images, input_shape=SHAPE).exact
    assert (differing == 0 and stated.startswith("0 %")) if few else share < 0.005, (share, stated)


# ONNX


def write_float(path: Path) -> None:
    model = network().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.rand(IMAGES, *SHAPE),), path, dynamo=False, input_names=["x"])


def quantised_by_onnxruntime(path: Path, **options: Any) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = iter([{"x": np.random.default_rng(0).random((IMAGES, *SHAPE), dtype=np.float32)}])

        def get_next(self) -> Any:
            return next(self.images, None)

    write_float(path.with_suffix(".float.onnx"))
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(path.with_suffix(".float.onnx"), path, Reader(), **{**kinds, **options})


def by_onnxruntime(path: Path, images: torch.Tensor) -> list[np.ndarray]:
    """The real values of everything that the file quantises."""
    import onnxruntime

    model = onnx.load(path)
    held = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    model.graph.output.extend(
        helper.make_empty_tensor_value_info(name)
        for node in model.graph.node
        for name in node.output
        if name not in {each.name for each in model.graph.output}
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    onnx.save(model, content := io.BytesIO())
    session = onnxruntime.InferenceSession(content.getvalue(), options, providers=["CPUExecutionProvider"])
    found = dict(
        zip([each.name for each in session.get_outputs()], session.run(None, {"x": images.numpy()}), strict=True)
    )
    real = [values for values in found.values() if values.dtype == np.float32]
    places = {"QLinearConv": 6, "QLinearAdd": 6, "QGemm": 7, "QLinearAveragePool": 3, "QLinearGlobalAveragePool": 3}
    for node in model.graph.node:  # integers
        if node.op_type in places:
            place = places[node.op_type]
            scale, zero = (held[name] for name in node.input[place : place + 2])
            real.append((found[node.output[0]].astype(np.float32) - zero) * scale)
    return real


@pytest.mark.parametrize("kind", ["QDQ per channel, int8", "QOperator"])
def test_onnxruntime(kind: str, tmp_path: Path):
    from onnxruntime.quantization import QuantFormat, QuantType

    options = {
        "QDQ per channel, int8": {"per_channel": True, "activation_type": QuantType.QInt8},
        "QOperator": {"quant_format": QuantFormat.QOperator},
    }[kind]
    path = tmp_path / "q.onnx"
    quantised_by_onnxruntime(path, **options)
    model = fd.prepare(fd.load_model(path))
    images = images_of(model)
    require_integers(model, images, by_onnxruntime(path, images), few=False)


def numbers(**values: Any) -> list[Any]:
    return [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]


def write_graph(path: Path, nodes: list[Any], held: list[Any], version: int = 2) -> None:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [IMAGES, *SHAPE])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [answer], held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(QONNX, version)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    return {
        "conv": generator.normal(0, 0.3, (6, 1, 3, 3)).astype(np.float32),
        "depth": generator.normal(0, 0.3, (6, 1, 3, 3)).astype(np.float32),
        "fc": generator.normal(0, 0.3, (96, 10)).astype(np.float32),
    }


def scales(values: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """One for each output channel, kept as an axis of its own."""
    around = tuple(i for i in range(values.ndim) if i != axis)
    return (np.abs(values).max(axis=around, keepdims=True) / (2 ** (bits - 1) - 1)).astype(np.float32)


def write_qonnx(path: Path, bits: int = 4) -> None:
    """As Brevitas exports it: Quant of weights and activations, on both branches of a sum, Trunc behind an average."""
    held = {**weights(), "zero": np.float32(0), "bits": np.float32(bits), "eight": np.float32(8)}
    held |= {"pixel": np.float32(1 / 255), "s1": np.float32(0.0913), "s2": np.float32(0.0771), "s3": np.float32(0.0457)}
    held |= {"s4": np.float32(0.1137), "sum_scale": np.float32(0.1137 / 4), "cut_scale": np.float32(0.1137 / 2)}
    held |= {"wide": np.float32(bits + 2), "cut": np.float32(bits + 1)}
    held |= {f"{name}_scale": scales(held[name], bits, 1 if name == "fc" else 0) for name in weights()}
    held |= {
        f"bn{i}": values
        for i, values in enumerate(np.random.default_rng(4).uniform(0.5, 1.5, (4, 6)).astype(np.float32))
    }
    plain, signed = ({"domain": QONNX, "narrow": n, "signed": n, "rounding_mode": "ROUND"} for n in (0, 1))
    nodes = [
        helper.make_node("Quant", ["x", "pixel", "zero", "eight"], ["x0"], **plain),
        *(helper.make_node("Quant", [n, f"{n}_scale", "zero", "bits"], [f"{n}_q"], **signed) for n in weights()),
        helper.make_node("Conv", ["x0", "conv_q"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "bn0", "bn1", "bn2", "bn3"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Quant", ["r1", "s1", "zero", "bits"], ["a1"], **plain),
        helper.make_node("Conv", ["a1", "depth_q"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=6),
        helper.make_node("Quant", ["c2", "s2", "zero", "bits"], ["a2"], **signed),
        helper.make_node("Quant", ["a1", "s3", "zero", "bits"], ["a3"], **signed),
        helper.make_node("Add", ["a2", "a3"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r4"]),
        helper.make_node("Quant", ["r4", "s4", "zero", "bits"], ["a4"], **plain),
        helper.make_node("AveragePool", ["a4"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Trunc", ["p", "sum_scale", "zero", "wide", "cut_scale", "cut"], ["t"], domain=QONNX,
                         rounding_mode="FLOOR", signed=0, narrow=0),
        helper.make_node("Flatten", ["t"], ["f"]),
        helper.make_node("MatMul", ["f", "fc_q"], ["y"]),
    ]  # fmt: skip
    write_graph(path, nodes, numbers(**held))


def by_qonnx(path: Path, images: torch.Tensor) -> list[np.ndarray]:
    """What QONNX's own code computes, tensor by tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.infer_shapes import InferShapes

        model = ModelWrapper(str(path)).transform(InferShapes())
        found = execute_onnx(model, {"x": images.numpy()}, return_full_exec_context=True).values()
    return [each for each in found if isinstance(each, np.ndarray)]


def test_qonnx(tmp_path: Path):
    write_qonnx(tmp_path / "q.onnx")
    model = fd.prepare(fd.load_model(tmp_path / "q.onnx"))
    images = images_of(model)
    require_integers(model, images, by_qonnx(tmp_path / "q.onnx", images), few=True)
    assert {layer.weight_bits for layer in model.modules() if isinstance(layer, QUANT_WEIGHTED)} == {4}
    again = tmp_path / "q.pt"
    fd.save(model, again, input_shape=SHAPE)
    assert torch.equal(fd.load(again).eval()(images), model(images))


def write_qcdq(path: Path) -> None:
    """As HAWQ and Brevitas have it: QDQ with a Clip of the integers to fewer bits between its nodes."""
    held = {name: values for name, values in weights().items() if name != "depth"}
    held |= {"zero": np.uint8(0), "low": np.uint8(0), "high": np.uint8(7), "pixel": np.float32(1 / 255)}
    held |= {"a_scale": np.float32(0.1234), "w_zero": np.zeros(6, np.int8), "o_zero": np.zeros(10, np.int8)}
    held |= {"w_low": np.int8(-7), "w_high": np.int8(7), "fc": held["fc"].T.copy()}
    held |= {f"{name}_scale": scales(held[name], 4, 0).reshape(-1) for name in ("conv", "fc")}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "pixel", "zero"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "pixel", "zero"], ["x0"]),
        helper.make_node("Conv", ["x0", "conv_q"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c1", "a_scale", "zero"], ["q1"]),
        helper.make_node("Clip", ["q1", "low", "high"], ["k1"]),
        helper.make_node("DequantizeLinear", ["k1", "a_scale", "zero"], ["a1"]),
        helper.make_node("MaxPool", ["a1"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc_q"], ["y0"], transB=1),
        helper.make_node("QuantizeLinear", ["y0", "o_scale", "y_zero"], ["y8"]),
        helper.make_node("DequantizeLinear", ["y8", "o_scale", "y_zero"], ["y"]),
    ]
    held |= {"o_scale": np.float32(0.0913), "y_zero": np.int8(3)}
    for name, zero in (("fc", "o_zero"), ("conv", "w_zero")):
        nodes.insert(
            0, helper.make_node("DequantizeLinear", [f"{name}_k", f"{name}_scale", zero], [f"{name}_q"], axis=0)
        )
        nodes.insert(0, helper.make_node("Clip", [f"{name}_8", "w_low", "w_high"], [f"{name}_k"]))
        nodes.insert(0, helper.make_node("QuantizeLinear", [name, f"{name}_scale", zero], [f"{name}_8"], axis=0))
    write_graph(path, nodes, numbers(**held))


def test_qcdq(tmp_path: Path):
    write_qcdq(tmp_path / "q.onnx")
    model = fd.prepare(fd.load_model(tmp_path / "q.onnx"))
    activations = [layer for layer in model.modules() if isinstance(layer, QuantActivation)]
    assert [(layer.low, layer.high) for layer in activations] == [(0, 7), (-131, 124)] or len(activations) == 2
    assert {layer.weight_bits for layer in model.modules() if isinstance(layer, QUANT_WEIGHTED)} == {4}
    assert input_of(model).step == float(np.float32(1 / 255))
    images = images_of(model)
    run = Kept(model.eval())
    with torch.no_grad():
        run.run(images)
    theirs = by_onnxruntime(tmp_path / "q.onnx", images)
    for name, ours in run.counts.items():
        assert any(np.array_equal(ours, np.rint(each / run.steps[name])) for each in theirs if each.shape == ours.shape)
    assert fd.verify(model, images, input_shape=SHAPE).exact


# modules


def values_of(model: nn.Module, images: torch.Tensor, begins: str) -> list[np.ndarray]:
    """What the modules whose class has a name that begins so give."""
    found: list[np.ndarray] = []

    def keep(module: nn.Module, arguments: Any, result: Any) -> None:
        value = getattr(result, "value", result)
        if isinstance(value, torch.Tensor):
            found.append(value.detach().numpy())

    for module in model.modules():
        if f"{type(module).__module__}.{type(module).__name__}".startswith(begins):
            module.register_forward_hook(keep)
    with torch.no_grad():
        model(images)
    return found


def test_brevitas():
    qnn = pytest.importorskip("brevitas.nn")
    from brevitas.quant import Int8WeightPerChannelFloat, Int32Bias

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = qnn.QuantIdentity(bit_width=8, return_quant_tensor=True)
            narrow = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": 4}
            self.conv = qnn.QuantConv2d(1, 6, 3, padding=1, bias_quant=Int32Bias, **narrow)
            self.norm = nn.BatchNorm2d(6)
            self.relu = qnn.QuantReLU(bit_width=4, return_quant_tensor=True)
            self.depth = qnn.QuantConv2d(6, 6, 3, padding=1, groups=6, bias=False, **narrow)
            self.add = qnn.QuantEltwiseAdd(return_quant_tensor=True)
            self.last = qnn.QuantReLU(bit_width=3, return_quant_tensor=True)
            self.average = qnn.TruncAvgPool2d(2)
            self.fc = qnn.QuantLinear(96, 10, bias=True, weight_bit_width=2)

        def forward(self, x: Any) -> Any:
            x = self.relu(self.norm(self.conv(self.image(x))))
            x = self.average(self.last(self.add(self.depth(x), x)))
            return self.fc(x.flatten(1))

    torch.manual_seed(0)
    net = Own()
    for _ in range(3):
        net(torch.rand(IMAGES, *SHAPE))
    model = fd.prepare(net.eval(), input_shape=SHAPE)
    assert [layer.weight_bits for layer in (model.conv, model.depth, model.fc)] == [4, 4, 2]
    images = images_of(model)
    theirs = values_of(net, images, "brevitas.proxy.runtime_quant")
    require_integers(model, images, theirs, few=False)
    integers, scale = model.conv.integer_weight()
    made = net.conv.quant_weight()
    assert torch.equal(integers, made.int())
    assert torch.equal(scale.float(), made.scale.flatten())


@pytest.mark.parametrize("how", ["eager", "fx"])
@pytest.mark.filterwarnings("ignore")
def test_torch_ao(how: str):
    from torch.ao import quantization as tq
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    net = network().train()
    if how == "fx":
        ready = prepare_qat_fx(net, tq.get_default_qat_qconfig_mapping("x86"), (torch.rand(1, *SHAPE),))
    else:
        net.relu = nn.ReLU()
        net.qconfig = tq.get_default_qat_qconfig("qnnpack")

        class Whole(tq.QuantWrapper):
            """With the sum as eager mode has it."""

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                net = self.module
                x = net.relu(net.conv(self.quant(x)))
                x = net.pool(self.sum.add_relu(net.depth(x), x))
                return self.dequant(net.fc(torch.flatten(net.average(x), 1)))

        tq.fuse_modules_qat(net, [["conv", "norm", "relu"]], inplace=True)
        whole = Whole(net)
        whole.sum = torch.ao.nn.quantized.FloatFunctional()
        whole.sum.qconfig = net.qconfig
        net.average = nn.Identity()
        net.fc = nn.Linear(96, 10)
        net.fc.qconfig = net.qconfig
        ready = tq.prepare_qat(whole.train())
    for _ in range(3):
        ready(torch.rand(IMAGES, *SHAPE))
    ready.eval().apply(tq.disable_observer)
    model = fd.prepare(ready, input_shape=SHAPE)
    images = images_of(model)
    theirs = values_of(ready, images, "torch.ao.quantization.fake_quantize")
    require_integers(model, images, theirs, few=False)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fx.GraphModule]:
    """A file of PT2E, and the module that is in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

        images = (torch.rand(IMAGES, *SHAPE),)
        exported = torch.export.export(network().eval(), images).module()
        config = get_symmetric_quantization_config(is_per_channel=True)
        ready = prepare_pt2e(exported, XNNPACKQuantizer().set_global(config))
        for _ in range(3):
            ready(torch.rand(IMAGES, *SHAPE))
        made = convert_pt2e(ready)
        path = tmp_path_factory.mktemp("pt2e") / "q.pt2"
        torch.export.save(torch.export.export(made, images), path)
    return path, made


@pytest.mark.filterwarnings("ignore")
def test_pt2e(program: tuple[Path, fx.GraphModule]):
    path, made = program
    model = fd.prepare(fd.load_model(path))
    images = images_of(model)
    run = Kept(made)
    theirs: list[np.ndarray] = []
    run.run_node = lambda n: theirs.append(fx.Interpreter.run_node(run, n)) or theirs[-1]  # type: ignore[method-assign]
    with torch.no_grad():
        run.run(images)
    real = [each.detach().numpy() for each in theirs if isinstance(each, torch.Tensor) and each.is_floating_point()]
    require_integers(model, images, [each for each in real if each.ndim > 1], few=False)


# the shell


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    return runner(monkeypatch, capsys)


@pytest.mark.parametrize("kind", ["QONNX", "QDQ", "PT2E"])
@pytest.mark.filterwarnings("ignore")
def test_from_the_shell_to_exact(
    kind: str, program: tuple[Path, fx.GraphModule], run: Callable[..., Result], tmp_path: Path
):
    path = program[0] if kind == "PT2E" else tmp_path / "q.onnx"
    if kind == "QONNX":
        write_qonnx(path, bits=2)
    elif kind == "QDQ":
        quantised_by_onnxruntime(path)
    net = tmp_path / "m.net"
    written = run("export", path, "-o", net, "--json")
    assert written.returncode == 0, written.stderr
    facts = json.loads(written.stdout)
    assert any("its own integers and steps" in note for note in facts["notes"])
    proof = run("verify", facts["checkpoint"], net, "--data", "random", "--samples", 2, "--json")
    assert proof.returncode == 0, proof.stderr
    assert json.loads(proof.stdout)["exact"]
    refused = run("export", path, "-o", net, "--bits", 4, "--preprocess", "resize=9", "--data", "digits")
    assert refused.returncode == 2
    assert "quantised already" in refused.stderr
    assert "Leave out --bits, --preprocess" in refused.stderr


# what cannot be taken


def on_grid(layer: nn.Module, step: float = 0.05, limit: int = 7) -> nn.Module:
    """A layer with weights on a grid."""
    whole = (layer.weight / step).round().clamp(-limit - 1, limit)
    layer.weight.data.copy_(whole * torch.tensor(step))
    put_grid(layer, WeightGrid(torch.tensor(step), 4))
    return layer


def test_everything_that_cannot_be_taken_is_listed_at_once(tmp_path: Path):
    """Scales for each channel and each image, bits, zero points, weights, and places without a quantiser."""
    held = {**weights(), "zero": np.float32(0), "half": np.float32(0.5), "bits": np.float32(4), "odd": np.float32(3.5)}
    held |= {"a": np.full((1, 6, 1, 1), 0.1, np.float32), "s": np.float32(0.1), "nine": np.float32(12)}
    held |= {"rows": np.full((1, 10), 0.1, np.float32), "columns": np.random.default_rng(0).random((96, 1), np.float32)}
    plain, signed = ({"domain": QONNX, "narrow": n, "signed": n, "rounding_mode": "ROUND"} for n in (0, 1))
    nodes = [
        helper.make_node("Quant", ["conv", "s", "zero", "bits"], ["conv_q"], **signed),
        helper.make_node("Conv", ["x", "conv_q"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Quant", ["c1", "a", "zero", "bits"], ["a1"], **plain),
        helper.make_node("Quant", ["a1", "s", "half", "bits"], ["a2"], **plain),
        helper.make_node("Quant", ["a2", "s", "zero", "odd"], ["a3"], **plain),
        helper.make_node("Quant", ["a3", "s", "zero", "nine"], ["a4"], **plain),
        helper.make_node("BipolarQuant", ["a4", "s"], ["a5"], domain=QONNX),
        helper.make_node("Quant", ["a5", "s", "zero", "bits"], ["a6"], **{**plain, "rounding_mode": "CEIL"}),
        helper.make_node("Conv", ["a6", "depth"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=6),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Quant", ["fc", "columns", "zero", "bits"], ["fc_q"], **signed),
        helper.make_node("MatMul", ["f", "fc_q"], ["y"]),
    ]
    write_graph(tmp_path / "q.onnx", nodes, numbers(**held))
    with pytest.raises(LoweringError) as error:
        fd.prepare(fd.load_model(tmp_path / "q.onnx"))
    text = str(error.value)
    for what in ("6 activation scales", "zero point 0.5", "3.5 bits", "12 bits", "-1 and 1", "rounds by CEIL",
                 "float weights", "not followed by a quantiser", "differ within an output channel"):  # fmt: skip
        assert what in text, text
    assert all(problem.fix for problem in error.value.problems)


class Small(nn.Module):
    """A quantised network by hand; image: quantiser of the image."""

    def __init__(self, image: nn.Module, limit: int = 7) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.image, self.first = image, FixedQuantiser(0.0731, 0, 15, 4)
        self.conv = on_grid(nn.Conv2d(2, 6, 3, padding=1), limit=limit)
        self.fc = on_grid(nn.Linear(96, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv(self.image(x))), 2)
        return self.fc(torch.flatten(self.first(x), 1))


def test_bits_of_one_s_own_are_refused_and_unknown_operators_come_with_the_rest():
    net = Small(FixedQuantiser(1 / 255, 0, 255, 8))
    with pytest.raises(InputError, match="keeps its own bits"):
        fd.prepare(net, bits=4, input_shape=(2, 8, 8))
    net.first = nn.Sequential(nn.Sigmoid(), FixedQuantiser(0.1, 0, 1000, 10))
    with pytest.raises(LoweringError) as error:
        fd.prepare(net, input_shape=(2, 8, 8))
    assert "Sigmoid is not supported" in str(error.value)
    assert "10 bits" in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_modules_that_cannot_be_taken_are_listed_at_once():
    from brevitas.nn import QuantIdentity
    from brevitas.quant.experimental.float import Fp8e4m3ActPerTensorFloat
    from torch.ao import quantization as tq
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup
    from torchao.quantization.qat import IntxFakeQuantizeConfig
    from torchao.quantization.qat.linear import FakeQuantizedLinear

    assert IntxWeightOnlyConfig
    assert PerGroup
    off = tq.FakeQuantize(observer=tq.MinMaxObserver)
    off.disable_fake_quant()
    tokens = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
    groups = IntxFakeQuantizeConfig(torch.int4, group_size=8)
    net = nn.Sequential(
        tq.HistogramObserver(), tq.FakeQuantize(), off, QuantIdentity(act_quant=Fp8e4m3ActPerTensorFloat),
        FakeQuantizedLinear(16, 8, False, tokens, groups),
    )  # fmt: skip
    net(torch.rand(2, 16))
    with pytest.raises(LoweringError) as error:
        fd.prepare(net.eval(), input_shape=(16,))
    text = str(error.value)
    for what in ("rounds none", "off", "from each image", "for each group"):
        assert what in text, text


# images


def test_an_image_on_its_own_grid_and_a_normalised_one():
    """Whole levels where they are the network's integers, neurons where they are not: the same integers either way."""
    raw = torch.randint(0, 256, (IMAGES, 2, 8, 8)).float() / 255
    mean, std = (51 / 255,), (0.25,)
    normalised = (raw - mean[0]) / std[0]
    for step, low, neurons in ((1 / 255 / 0.25, -51, False), (0.037, -30, True)):
        net = Small(FixedQuantiser(float(np.float32(step)), low, low + 255, 8)).eval()
        model = fd.prepare(net, mean=mean, std=std, input_shape=(2, 8, 8))
        assert (len([m for m in model.modules() if isinstance(m, QuantActivation)]) == 2) == neurons
        assert torch.equal(model(raw), net(normalised))
        assert fd.verify(model, raw, input_shape=(2, 8, 8)).exact
    own = fd.prepare(net, input_shape=(2, 8, 8))
    levels = torch.randint(-30, 226, (IMAGES, 2, 8, 8)).float() * 0.037
    assert (input_of(own).low, input_of(own).high) == (-30, 225)
    assert torch.equal(own(levels), net(levels))


def test_the_least_weight_of_eight_bits_is_kept():
    """-128 is one more than a mantissa that may change its sign: a second synapse holds the rest."""
    net = Small(FixedQuantiser(1 / 255, 0, 255, 8), limit=127)
    with torch.no_grad():
        net.conv.weight[0, 0, 0, 0] = -128 * torch.tensor(0.05)
    model = fd.prepare(net, input_shape=(2, 8, 8))
    assert int(model.conv.integer_weight()[0].min()) == -128
    graph, names = converted(as_checkpoint(model, (2, 8, 8)))
    images = torch.randint(0, 256, (IMAGES, 2, 8, 8)).float() / 255
    run = Kept(model.eval())
    with torch.no_grad():
        run.run(images)
    values = layer_values(graph, graph.encode(images.numpy()), list(names.values()))
    ((call, ours),) = run.counts.items()
    assert np.array_equal(values[names[call]].reshape(ours.shape), ours)


def test_ties_go_to_even_integers_where_scales_are_powers_of_two():
    """Averages on the grid they were on, sums of weights, and signed integers: in the neurons as in the model."""

    class Powers(Small):
        def __init__(self) -> None:
            super().__init__(FixedQuantiser(1 / 16, 0, 15, 4))
            self.conv, self.fc = (
                on_grid(nn.Conv2d(2, 6, 3, padding=1, bias=False), 1 / 16),
                on_grid(nn.Linear(96, 5, bias=False), 1 / 16),
            )
            self.first, self.second = FixedQuantiser(1 / 8, -8, 7, 4), FixedQuantiser(1 / 8, 0, 7, 3)
            self.last = FixedQuantiser(1 / 2, -8, 7, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(self.conv(self.image(x)))
            return self.last(self.fc(torch.flatten(self.second(nn.functional.avg_pool2d(x, 2)), 1)))

    net = Powers().eval()
    images = torch.randint(0, 16, (IMAGES, 2, 8, 8)).float() / 16
    with torch.no_grad():
        sums = net.conv(images) * 8
    assert ((sums % 1 == 0.5) & (sums.abs() < 7)).sum() > 20
    model = fd.prepare(net, input_shape=(2, 8, 8))
    run = Kept(model.eval())
    with torch.no_grad():
        assert torch.equal(run.run(images), net(images))
    graph, names = converted(as_checkpoint(model, (2, 8, 8)))
    values = layer_values(graph, graph.encode(images.numpy()), list(names.values()))
    for call, ours in run.counts.items():
        assert np.array_equal(values[names[call]].reshape(ours.shape), ours), call
    assert fd.verify(model, images, input_shape=(2, 8, 8)).exact
