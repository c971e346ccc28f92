"""Capture of whole kinds: lines, borders, bilinear upsampling, outputs by name, other rectifiers, causes said once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.conversion import resample
from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.quantisation import Checkpoint, calibrate, prepare, save
from fastsnn_deploy.quantisation.filters import Bilinear, BorderAverage, Filter, UnevenAverage
from fastsnn_deploy.simulators.integer import integer_logits
from tests.scripts import script
from tests.test_capture import integers_follow, prepared, same_with_quantisers_off, settled
from tests.test_quantize import Net, conv

FAMILIES = script("families")


def pictures(*shape: int) -> Tensor:
    return (torch.rand(6, *shape, generator=torch.Generator().manual_seed(3)) * 255).round() / 255


# --- lines ---------------------------------------------------------------------------------------------------------


def line(inputs: int = 3, outputs: int = 4, kernel: int = 3, **options: Any) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, **options)


LINES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "layers": (
        lambda: nn.Sequential(
            line(), settled(nn.BatchNorm1d(4)), nn.ReLU(), nn.MaxPool1d(2), nn.Dropout1d(), line(4, 6, 5), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3),
        ), (3, 32),
    ),
    "a line as the answer": (lambda: nn.Sequential(line(), nn.ReLU(), nn.AvgPool1d(2), line(4, 5)), (3, 16)),
    "residual, parts, pads": (
        lambda: Net(
            lambda n, x: (
                y := F.relu(n.a(F.pad(x, (2, 0)))), z := torch.cat([F.relu(n.b(y) + y), y], 1),
                n.c(z.chunk(2, 1)[0][:, 1:, ::2]),
            )[-1], a=nn.Conv1d(3, 4, 3), b=line(4, 4), c=line(3, 2),
        ), (3, 16),
    ),
    "up and over": (
        lambda: Net(
            lambda n, x: n.d(F.interpolate(F.relu(n.u(F.relu(n.c(x)))), scale_factor=2, mode="linear").amax(2)),
            c=line(stride=2), u=nn.ConvTranspose1d(4, 4, 2, stride=2), d=nn.Linear(4, 3),
        ), (3, 16),
    ),
    "a spectrum read as a map": (
        lambda: Net(lambda n, x: n.d(F.relu(n.c(x.unsqueeze(1))).mean((2, 3))), c=conv(1), d=nn.Linear(4, 3)), (6, 16)
    ),
    "a vector read as a map": (
        lambda: Net(lambda n, x: n.d(F.relu(n.c(x.view(-1, 1, 8, 8))).mean((2, 3))), c=conv(1), d=nn.Linear(4, 3)),
        (64,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_lines_are_maps_of_one_row(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build, shape = LINES[name]
    model = build().eval()
    quantised = prepared(model, shape)
    taken = quantised.meta["input_shape"]
    assert len(taken) == 3
    images = pictures(*taken)
    graph = integers_follow(quantised, tmp_path, images)
    with torch.no_grad():
        wanted = model(images.view(6, *shape)).numpy()
    assert np.corrcoef(integer_logits(graph, images.numpy()).ravel(), wanted.ravel())[0, 1] > 0.999


# --- weights that depend on the place ------------------------------------------------------------------------------

PLACES: dict[str, Callable[[], nn.Module]] = {
    "borders that do not count": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "wide borders": lambda: nn.AvgPool2d(5, 2, 2, count_include_pad=False),
    "ceil_mode": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "a last window that is cut": lambda: nn.AvgPool2d((2, 3), 2, ceil_mode=True, count_include_pad=False),
    "to a size that does not divide": lambda: nn.AdaptiveAvgPool2d((3, 5)),
    "to even windows": lambda: nn.AdaptiveAvgPool2d((7, 8)),
    "maximum over even windows": lambda: nn.AdaptiveMaxPool2d((7, None)),  # type: ignore[arg-type]
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear by other factors": lambda: nn.Upsample(scale_factor=(3, 1), mode="bilinear"),
    "bilinear to half": lambda: nn.Upsample(scale_factor=0.5, mode="bilinear"),
    "a window larger than the map": lambda: nn.Sequential(nn.MaxPool2d(4), nn.MaxPool2d(3, 2, ceil_mode=True)),
    "-inf beside a maximum": lambda: nn.Sequential(
        nn.ConstantPad2d((0, 1, 0, 1), float("-inf")), nn.MaxPool2d(3, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_weights_that_depend_on_the_place(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(), nn.ReLU(), PLACES[name](), conv(4))
    quantised = prepared(model)
    same_with_quantisers_off(model, quantised)
    integers_follow(quantised, tmp_path)


@pytest.mark.parametrize(
    ("layer", "sides"),
    [
        (BorderAverage((3, 3), (1, 1), (1, 1), False, False), (5, 9)),
        (BorderAverage((3, 2), (2, 2), (1, 0), True, True), (8, 7)),
        (BorderAverage((5, 7), (1, 2), (2, 3), False, False), (9, 11)),
        (UnevenAverage((3, 5)), (8, 7)),
        (Bilinear((2, 4)), (3, 5)),
        (Bilinear((8, 3)), (2, 2)),
    ],
    ids=str,
)
def test_matrices_taps_and_borders_are_the_layer(layer: Filter, sides: tuple[int, int]) -> None:
    """rows @ x @ columns.T is the layer, and T + E is each of them, in whole numbers."""
    x = torch.rand(2, 3, *sides, dtype=torch.float64)
    matrices = [layer.matrix(side, axis) for axis, side in enumerate(sides)]
    assert torch.allclose(torch.einsum("ay,ncyx,bx->ncab", matrices[0], x, matrices[1]), layer(x))
    for axis, matrix in enumerate(matrices):
        found = layer.regular(axis)
        taps = None if found is None else resample.q.Taps(tuple(found[0]), *found[1:])
        made = resample._axis(matrix.numpy(), taps, layer.up)
        borders = sum(np.outer(place, window) for window, place in made.edges)
        steady = np.rint(matrix.numpy() * made.divisor) - borders
        middle = steady[:, steady.shape[1] // 2] if layer.up else steady[steady.shape[0] // 2]
        assert len(made.edges) <= 4 or found is None
        assert found is None or np.abs(middle).max() == np.abs(made.taps).max()


def test_weights_beyond_eight_bits_become_two_synapses(tmp_path: Path) -> None:
    """15 * 15 of a bilinear upsampling by 8, at the output, as segmentation networks have it."""
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 4, stride=4), nn.ReLU(), conv(4, 2), nn.Upsample(scale_factor=8, mode="bilinear"))
    graph = integers_follow(prepared(model, (3, 16, 16)), tmp_path, pictures(3, 16, 16))
    assert sum(getattr(node, "stride", None) == (8, 8) for node in graph.nodes) == 2
    netx.write(graph, tmp_path / "m.net")
    again: Any = netx.read(tmp_path / "m.net")
    images = pictures(3, 16, 16).numpy()
    assert np.array_equal(integer_logits(again, images), integer_logits(graph, images))


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "align_corners=True has other weights"),
        (nn.Upsample(scale_factor=1.5, mode="bilinear"), r"mode 'bilinear' by \(1.5, 1.5\)"),
        (nn.Upsample(scale_factor=2, mode="bicubic"), "mode 'bicubic'"),
        (nn.AdaptiveAvgPool2d(15), r"adaptive pool from \(8, 8\) to \(15, 15\)"),
        (nn.AdaptiveMaxPool2d(3), r"adaptive pool from \(8, 8\) to \(3, 3\)"),
        (nn.ConstantPad2d(1, float("-inf")), "computes something else|pads"),
    ],
)
def test_what_has_no_form_is_refused_with_its_place(layer: nn.Module, what: str) -> None:
    with pytest.raises(LoweringError, match=rf"(2|3)( \(.*\))?: .*({what})"):
        prepared(nn.Sequential(conv(), nn.ReLU(), layer, conv(4)))


def test_the_mean_of_one_pixel_is_the_pixel() -> None:
    model = Net(lambda n, x: n.f(F.relu(n.c(x)).mean((2, 3))), c=conv(), f=nn.Linear(4, 3))
    assert prepared(model, (3, 1, 1))(pictures(3, 1, 1)).shape == (6, 3)


def test_a_linear_layer_on_channels_last_is_a_convolution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Net(
        lambda n, x: n.c(n.l(F.relu(n.b(x)).permute(0, 2, 3, 1)).relu().permute(0, 3, 1, 2)),
        b=conv(), l=nn.Linear(4, 6), c=conv(6, 3),
    )  # fmt: skip
    quantised = prepared(model)
    same_with_quantisers_off(model, quantised)
    integers_follow(quantised, tmp_path)


# --- outputs ---------------------------------------------------------------------------------------------------------


def heads(n: Any, x: Tensor) -> Any:
    y = F.relu(n.a(x))
    return {"out": n.b(y), "aux": [n.c(y), None]}


def test_an_output_is_chosen_by_its_name() -> None:
    model = Net(heads, a=conv(), b=conv(4, 3), c=conv(4, 2)).eval()
    wanted = model(pictures(3, 8, 8))
    for name, tensor in (("out", wanted["out"]), ("aux.0", wanted["aux"][0])):
        quantised = prepared(model, output=name)
        calibrate(quantised, pictures(3, 8, 8))
        got = quantised.eval()(pictures(3, 8, 8))
        assert got.shape == tensor.shape
        assert torch.corrcoef(torch.stack([got.flatten(), tensor.flatten()]))[0, 1] > 0.999
        assert hasattr(quantised, "b" if name == "out" else "c")
        assert not hasattr(quantised, "c" if name == "out" else "b")
    with pytest.raises(
        LoweringError, match=r"'out' \(3, 8, 8\), 'aux.0' \(2, 8, 8\). Choose one, such as output='out'"
    ):
        prepared(model)
    with pytest.raises(InputError, match=r"output 'aux' is not known. Did you mean 'aux.0'\?"):
        prepared(model, output="aux")
    single = Net(lambda n, x: {"out": n.b(F.relu(n.a(x))), "none": None}, a=conv(), b=conv(4, 3))
    assert prepared(single)(pictures(3, 8, 8)).shape == (6, 3, 8, 8)
    assert (
        prepared(Net(lambda n, x: (n.a(x), n.b(x)), a=conv(), b=conv(3, 5)), output=1)(pictures(3, 8, 8)).shape[1] == 5
    )


# --- rectifiers ------------------------------------------------------------------------------------------------------


def test_a_single_tensor_has_no_name() -> None:
    with pytest.raises(InputError, match=r"output 'nope': the network returns a single tensor. Leave out the name"):
        prepare(nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2)), output="nope")


RECTIFIERS = [
    nn.SiLU(), nn.GELU("tanh"), nn.LeakyReLU(0.1, inplace=True), nn.PReLU(4), nn.Hardswish(True), nn.ELU(inplace=True),
    nn.SELU(), nn.CELU(), nn.Mish(), nn.Softplus(), nn.RReLU(),
]  # fmt: skip


@pytest.mark.parametrize("layer", RECTIFIERS, ids=lambda layer: type(layer).__name__)
def test_rectifiers_become_relu_where_that_is_asked_for(layer: nn.Module) -> None:
    model = nn.Sequential(conv(), settled(nn.BatchNorm2d(4)), layer, conv(4))
    kind = type(layer).__name__
    with pytest.raises(LoweringError, match=f"{kind} is not supported. Use ReLU: replace_activations='relu' does it"):
        prepared(model)
    with pytest.warns(UserWarning, match=f"1 {kind} became ReLU: .* Fine-tune it"):
        quantised = prepared(model, replace_activations="relu")
    assert quantised.meta["replaced"] == (kind,)
    same_with_quantisers_off(nn.Sequential(model[0], model[1], nn.ReLU(), model[3]), quantised)


def test_functions_are_replaced_too_and_gates_are_not() -> None:
    model = Net(lambda n, x: n.b(F.silu(n.a(x), inplace=True) + F.leaky_relu(n.c(x))), a=conv(), b=conv(4), c=conv())
    with pytest.warns(UserWarning, match="1 silu and 1 leaky_relu became ReLU"):
        prepared(model, replace_activations="relu")
    with pytest.raises(LoweringError, match="Sigmoid is not supported"):
        prepared(nn.Sequential(conv(), nn.Sigmoid(), conv(4)), replace_activations="relu")
    with pytest.raises(InputError, match="replace_activations 'gelu' is not known"):
        prepared(model, replace_activations="gelu")
    plain = prepared(nn.Sequential(conv(), nn.ReLU(), conv(4)), replace_activations="relu")
    assert "replaced" not in plain.meta


# --- causes ----------------------------------------------------------------------------------------------------------


def test_a_cause_is_said_once_whatever_the_sizes() -> None:
    layers = [layer for width in (3, 4, 5) for layer in (conv(width, width + 1), nn.SiLU(), nn.GroupNorm(1, width + 1))]
    with pytest.raises(LoweringError) as caught:
        prepared(nn.Sequential(*layers, nn.Upsample(scale_factor=1.5), nn.Upsample(scale_factor=2.5)))
    assert str(caught.value).splitlines()[0] == "Sequential holds 3 kinds of thing without a spiking form"
    places = [problem.where for problem in caught.value.problems]
    assert [place.split(",")[0] for place in places] == ["3 places", "3 places", "2 places"]
    assert places[0] == "3 places, first 1"


# --- pages -----------------------------------------------------------------------------------------------------------


def test_the_page_of_operations_is_that_of_the_rules() -> None:
    operators = script("operators_page")
    assert operators.PAGE.read_text() == operators.page()
    assert "|  |" not in operators.page()


def test_the_page_of_networks_is_that_of_the_record() -> None:
    record = json.loads(FAMILIES.RECORD.read_text())
    assert FAMILIES.PAGE.read_text() == FAMILIES.page(record)
    assert set(record) <= set(FAMILIES.names())
    inside = {name: entry for name, entry in record.items() if entry["state"] == "in"}
    assert sum(name.startswith("timm:") for name in inside) >= 36
    assert all(entry.get("exact") is not False for entry in record.values())
    assert all(entry["causes"] for entry in record.values() if entry["state"] != "in")
    assert len(set(FAMILIES.VERIFIED.split()) & set(inside)) >= 25


@pytest.mark.parametrize("name", ["own:yolo_tiny", "torchvision:squeezenet1_1"])
def test_small_networks_as_users_have_them(name: str) -> None:
    entry = FAMILIES.tried(name, exact=False)
    assert entry["state"] == "in", entry


@pytest.mark.slow
@pytest.mark.scheduled
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", FAMILIES.VERIFIED.split())
def test_networks_as_users_have_them_are_exact(name: str) -> None:
    ((_, entry),) = FAMILIES.all_of([name], True, 1)
    assert entry["state"] == "in", entry
    assert entry["exact"], entry


def test_what_is_prepared_is_saved_with_its_filters(tmp_path: Path) -> None:
    quantised = prepare(nn.Sequential(conv(), nn.ReLU(), nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(4)), 4)
    calibrate(quantised, pictures(3, 8, 8))
    save(Checkpoint(quantised, (3, 8, 8)), tmp_path / "m.pt")
    assert any(isinstance(module, Filter) for module in quantised.modules())
