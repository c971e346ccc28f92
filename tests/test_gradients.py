"""Gradients of quantised networks: as good as rounding leaves them, and training goes on with them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastsnn_deploy as fd
from fastsnn_deploy.quantisation import QuantActivation
from fastsnn_deploy.quantisation.layers import quantisers_off

IMAGES = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 5


def prepared(depth: int) -> nn.Module:
    """A chain of convolutions with batch norm and random weights, at 8 bits, in training mode."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(8 if i else 3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=None), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(8, 5))
    network.train()(IMAGES)
    model = fd.prepare(network, 8, 8, input_shape=(3, 4, 4))
    fd.calibrate(model, IMAGES)
    return model.train()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    model = copy.deepcopy(model)
    F.cross_entropy(model(IMAGES), LABELS).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def joined(found: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([found[name].flatten() for name in names])


def add_noise(module: nn.Module, arguments: object, output: Tensor) -> Tensor:
    """As much as rounding to 8 bits: a hundredth of the activation's spread, on what is active."""
    noise = (torch.rand_like(output) - 0.5) * 12**0.5
    return output + noise * (output != 0) * 0.01 * output.detach().std()


@pytest.mark.parametrize("depth", [3, 16])
def test_rounding_costs_a_gradient_no_more_than_noise_of_its_size(depth: int):
    """In a deep network with random weights that is much, and nothing that a quantiser could do better."""
    model = prepared(depth)
    mine = gradients(model)
    with quantisers_off(model):
        right = gradients(model)
        for activation in (m for m in model.modules() if isinstance(m, QuantActivation)):
            activation.register_forward_hook(add_noise)
        noisy = gradients(model)
    weights = [name for name in right if not name.endswith("step")]

    def cosine(found: dict[str, Tensor]) -> float:
        return float(F.cosine_similarity(joined(found, weights), joined(right, weights), 0))

    assert cosine(mine) > cosine(noisy) - 0.1
    assert cosine(mine) > 0.95 or depth > 3
    last = [name for name in weights if right[name].dim() > 1][-1:]
    assert float(F.cosine_similarity(joined(mine, last), joined(right, last), 0)) > 0.98
    steps = [name for name in mine if name.endswith("step")]
    assert joined(mine, steps).norm() < 0.1 * joined(mine, [*mine]).norm()  # learned steps do not take over


@pytest.mark.parametrize("depth", [3, 16])
def test_three_steps_lower_the_loss(depth: int):
    model = prepared(depth)
    optimiser, losses = torch.optim.Adam(model.parameters(), 1e-4), []
    for _ in range(4):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(IMAGES), LABELS)
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
    assert losses[3] < losses[0]


def test_fit_says_that_the_loss_did_not_fall():
    model = fd.prepare(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), 8, 8, input_shape=(3, 4, 4))
    with pytest.warns(UserWarning, match=r"the loss did not fall: .* train the float network first"):
        fd.fit(model, (IMAGES, LABELS), epochs=2, learning_rate=100.0, progress=False)
