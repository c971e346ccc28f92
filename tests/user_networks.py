"""Networks as users write them, each with what must become of it.

A builder returns (model, input shape). `EXPECT` says, by name: "same" goes in, and with 8 bits the integer network
follows the float network; "refuse" is refused by `prepare`, with the place; "either" is one of the two. Weights are
random, made lively by `settle_statistics`; images are made-up pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Case = tuple[nn.Module, tuple[int, ...]]
Builder = Callable[[], Case]

CASES: dict[str, Builder] = {}
EXPECT: dict[str, str] = {}


def case(expect: str, name: str | None = None) -> Callable[[Builder], Builder]:
    """Register a builder."""

    def add(builder: Builder) -> Builder:
        key = name or builder.__name__
        CASES[key], EXPECT[key] = builder, expect
        return builder

    return add


def images(shape: tuple[int, ...], n: int = 32, seed: int = 1) -> Tensor:
    """Pictures that differ in colour, contrast, direction and scale, on the 8-bit grid, [n, *shape]."""
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: torch.rand(*s, generator=g)  # noqa: E731
    channels, size = shape[0], shape[1:]
    grids = torch.meshgrid(*(torch.linspace(0, 1, s) for s in size), indexing="ij")
    wave = torch.zeros(n, channels, *size)
    one = (1,) * len(size)
    for _ in range(4):
        phase = r(n, channels, *one) * 6.3
        for grid in grids:
            phase = phase + (r(n, 1, *one) * 2 - 1) * 25 * grid
        wave = wave + torch.sin(phase) * r(n, channels, *one)
    x = r(n, channels, *one) + wave * r(n, 1, *one) * 0.5 + (r(n, channels, *size) - 0.5) * 0.1
    return (x.clamp(0, 1) * 255).round() / 255


def settle_statistics(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Batch-norm statistics from pictures, as after training; the model's mode stays as it was."""
    was = model.training
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.momentum = None
    model.train()
    with torch.no_grad():
        for seed in range(5, 15 if norms else 5):
            model(images(shape, 16, seed))
    model.train(was)


def conv(i: int, o: int, **k: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, padding=1, **k)


class Net(nn.Module):
    """conv-ReLU-conv-ReLU-pool-linear with one place to vary."""

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.c1, self.c2, self.fc = conv(3, width), conv(width, width), nn.Linear(width * 16, classes)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.c1(x))
        x = F.max_pool2d(F.relu(self.c2(x)), 4)
        return self.fc(x.flatten(1))


# ---- the model's own arithmetic must survive capture


@case("either")
def forward_hook() -> Case:
    m = Net()
    m.c1.register_forward_hook(lambda mod, a, out: out * 2.0 - 0.3)
    return m, (3, 16, 16)


@case("either")
def forward_pre_hook() -> Case:
    m = Net()
    m.c2.register_forward_pre_hook(lambda mod, a: (a[0] * 0.5 + 0.2,))
    return m, (3, 16, 16)


@case("either")
def weight_norm_old() -> Case:
    m = Net()
    torch.nn.utils.weight_norm(m.c2)
    m.c2.weight_g.data.mul_(3.0)
    return m, (3, 16, 16)


@case("either")
def spectral_norm_old() -> Case:
    m = Net()
    torch.nn.utils.spectral_norm(m.c2)
    return m, (3, 16, 16)


@case("same")
def weight_norm_parametrized() -> Case:
    m = Net()
    torch.nn.utils.parametrizations.weight_norm(m.c2)
    return m, (3, 16, 16)


@case("same")
def training_branch() -> Case:
    class M(Net):
        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.c1(x))
            if self.training:
                x = x * 0.25 + 0.5
            x = F.max_pool2d(F.relu(self.c2(x)), 4)
            return self.fc(x.flatten(1))

    m = M()
    m.train()
    return m, (3, 16, 16)


@case("same")
def stochastic_depth_in_train_mode() -> Case:
    from torchvision.ops import StochasticDepth

    class M(Net):
        def __init__(self) -> None:
            super().__init__()
            self.drop = StochasticDepth(0.5, "row")

        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.c1(x))
            x = F.relu(x + self.drop(self.c2(x)))
            return self.fc(F.max_pool2d(x, 4).flatten(1))

    m = M()
    m.train()
    return m, (3, 16, 16)


@case("same")
def in_place_relu_seen_by_the_shortcut() -> Case:
    class M(Net):
        def __init__(self) -> None:
            super().__init__()
            self.id, self.act = nn.Identity(), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Any:
            x = self.c1(x)
            y = self.id(x)
            x = self.c2(self.act(x))
            x = F.relu(x + y)  # y has been rectified in place
            return self.fc(F.max_pool2d(x, 4).flatten(1))

    return M(), (3, 16, 16)


@case("same")
def relu6_that_clips() -> Case:
    class M(Net):
        def forward(self, x: Tensor) -> Any:
            x = F.relu6(self.c1(x))
            x = F.max_pool2d(F.relu6(self.c2(x)), 4)
            return self.fc(x.flatten(1))

    m = M()
    m.c1.weight.data.mul_(25.0)
    return m, (3, 16, 16)


@case("same")
def one_layer_named_with_a_minus() -> Case:
    m = nn.Sequential()
    for name, layer in [
        ("conv-1", conv(3, 8)),
        ("relu/1", nn.ReLU()),
        ("pool 1", nn.MaxPool2d(4)),
        ("flat:1", nn.Flatten()),
        ("class", nn.Linear(128, 10)),
    ]:
        m.add_module(name, layer)
    return m, (3, 16, 16)


# ---- no trained integer may lose a bit without a word


def _pooled(classes: int, width: int, side: int) -> Case:
    class M(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.bn = conv(3, width), nn.BatchNorm2d(width)
            self.fc = nn.Linear(width, classes)

        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.bn(self.c1(x)))
            return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))

    return M(), (3, side, side)


case("same", "global_pool_28x28x64")(lambda: _pooled(10, 64, 28))
case("same", "global_pool_64x64x16")(lambda: _pooled(10, 16, 64))

# ---- the image's own grid


@case("same")
def batch_norm_on_the_image() -> Case:
    class M(Net):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Any:
            return super().forward(self.bn(x))

    return M(), (3, 16, 16)


@case("same")
def image_joins_the_features() -> Case:
    class M(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.c2, self.fc = conv(3, 8), conv(11, 8), nn.Linear(128, 10)

        def forward(self, x: Tensor) -> Any:
            y = F.relu(self.c2(torch.cat([x, F.relu(self.c1(x))], 1)))
            return self.fc(F.max_pool2d(y, 4).flatten(1))

    return M(), (3, 16, 16)


# ---- spellings


@case("same")
def max_pool_over_the_whole_map() -> Case:
    class M(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.fc = conv(3, 16), nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.c1(x))
            x = F.max_pool2d(x, x.size()[2:])
            return self.fc(x.squeeze(3).squeeze(2))

    return M(), (3, 8, 8)


@case("same")
def means_one_after_the_other() -> Case:
    class M(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.fc = conv(3, 16), nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Any:
            return self.fc(F.relu(self.c1(x)).mean(3).mean(2))

    return M(), (3, 8, 8)


@case("same")
def contiguous_and_view() -> Case:
    class M(Net):
        def forward(self, x: Tensor) -> Any:
            x = F.max_pool2d(F.relu(self.c2(F.relu(self.c1(x.contiguous())))), 4)
            return self.fc(x.contiguous().view(x.shape[0], -1))

    return M(), (3, 16, 16)


@case("same")
def sums_and_torch_add() -> Case:
    class M(Net):
        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.c1(x))
            x = F.relu(sum([self.c2(x), x]))
            x = F.relu(torch.add(self.c2(x), x, alpha=1))
            return self.fc(F.max_pool2d(x, 4).flatten(1))

    return M(), (3, 16, 16)


@case("same")
def clamp_and_hardtanh() -> Case:
    class M(Net):
        def __init__(self) -> None:
            super().__init__()
            self.h = nn.Hardtanh(0, 6)

        def forward(self, x: Tensor) -> Any:
            x = self.c1(x).clamp(min=0)
            x = F.max_pool2d(self.h(self.c2(x)), 4)
            return self.fc(x.flatten(1))

    return M(), (3, 16, 16)


@case("same")
def zero_pad_and_f_pad() -> Case:
    class M(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.ZeroPad2d((0, 1, 0, 1))
            self.c1, self.c2, self.fc = nn.Conv2d(3, 8, 2), nn.Conv2d(8, 8, 3, stride=2), nn.Linear(8 * 64, 10)

        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.c1(self.p(x)))
            x = F.relu(self.c2(F.pad(x, (1, 0, 1, 0))))
            return self.fc(x.flatten(1))

    return M(), (3, 16, 16)


@case("same")
def default_arguments() -> Case:
    class M(Net):
        def forward(self, x: Tensor, return_features: bool = False, scale: float = 1.0) -> Any:
            x = F.relu(self.c1(x))
            x = F.max_pool2d(F.relu(self.c2(x)), 4).flatten(1)
            return (x, self.fc(x)) if return_features else self.fc(x)

    return M(), (3, 16, 16)


@case("same")
def data_parallel() -> Case:
    return nn.DataParallel(Net()), (3, 16, 16)


@case("same")
def averaged_model() -> Case:
    return torch.optim.swa_utils.AveragedModel(Net()), (3, 16, 16)


# ---- refusals belong to `prepare`


@case("either")
def average_pool_that_does_not_count_its_padding() -> Case:
    class M(Net):
        def forward(self, x: Tensor) -> Any:
            x = F.avg_pool2d(F.relu(self.c1(x)), 3, 1, 1, count_include_pad=False)
            return self.fc(F.max_pool2d(F.relu(self.c2(x)), 4).flatten(1))

    return M(), (3, 16, 16)


@case("refuse")
def two_inputs() -> Case:
    class M(Net):
        def forward(self, x: Tensor, y: Tensor) -> Any:
            return super().forward(x + y)

    return M(), (3, 16, 16)


@case("refuse")
def gelu_and_attention() -> Case:
    class M(Net):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Any:
            x = F.gelu(self.c1(x))
            t = x.flatten(2).transpose(1, 2)
            t, _ = self.a(t, t, t)
            x = torch.sigmoid(self.c2(t.transpose(1, 2).reshape(x.shape)))
            return self.fc(F.max_pool2d(x, 4).flatten(1))

    return M(), (3, 16, 16)


@case("same")
def transposed_convolution() -> Case:
    class M(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c1, self.up, self.c2 = conv(3, 8, stride=2), nn.ConvTranspose2d(8, 8, 2, stride=2), conv(8, 4)

        def forward(self, x: Tensor) -> Any:
            return self.c2(F.relu(self.up(F.relu(self.c1(x)))))

    return M(), (3, 16, 16)


def _torchvision(name: str, side: int) -> Case:
    import torchvision

    return getattr(torchvision.models, name)(num_classes=10), (3, side, side)


for _name, _side in [("regnet_x_400mf", 64), ("shufflenet_v2_x0_5", 64), ("mobilenet_v2", 64), ("mnasnet0_5", 64)]:
    case("same", f"torchvision_{_name}")(lambda n=_name, s=_side: _torchvision(n, s))
