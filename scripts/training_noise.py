"""How rounding to 8 bits changes the gradient of networks: of trained ones hardly, of deep random ones entirely.

    python scripts/training_noise.py --data-root FOLDER

FOLDER holds cifar10 and weights/, as recipes use them. Every network is in training mode (batch statistics, no dropout)
on 8 images of CIFAR-10; torchvision's see them at 64 x 64 pixels, with random weights and statistics settled on images.
Compared with the gradient of the float network, as cosines, are the gradients of the quantised network and of the
float network whose activations carry noise of 1, 3 or 10 parts in a thousand of their spread; rounding to 8 bits is
about 10. Then three steps of an optimiser: loss after them over loss before, with plain SGD on a clipped gradient and
with Adam, float and quantised. Results go to docs/records/training_noise.json.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import fastsnn_deploy as fd
from fastsnn_deploy.files import write_file
from fastsnn_deploy.quantisation import QuantActivation
from fastsnn_deploy.quantisation.layers import BATCH_NORMS, quantisers_off
from fastsnn_deploy.training.models.registry import build

RECORD = Path(__file__).parents[1] / "docs/records/training_noise.json"
NORMALISATION = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
NOISES = (0.001, 0.003, 0.01)
IMAGES, BATCH = 64, 8
"""For statistics and calibration, and of a step."""
OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 1e-3),
    "adam": lambda parameters: torch.optim.Adam(parameters, 1e-4),
}


NETWORKS = ("shufflenet_v2_x0_5", "mobilenet_v2", "mnasnet0_5", "regnet_x_400mf")
"""Of torchvision."""


def networks(root: Path, images: Tensor) -> Iterator[tuple[str, nn.Module, Tensor, dict[str, Any]]]:
    """Name, network, images it takes, and options of `prepare`."""
    weights = root / "weights/resnet20-12fca82f.th"
    yield "resnet20 trained", fd.load_model(weights, "resnet20"), images, NORMALISATION
    yield "resnet20 random", settled(build("resnet20"), images), images, NORMALISATION
    large = F.interpolate(images, scale_factor=2)
    for name in NETWORKS:
        yield f"{name} random", settled(getattr(torchvision.models, name)(num_classes=10), large), large, {}


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """The model, with statistics of batch norm from the images and without dropout."""
    for module in model.modules():
        if isinstance(module, BATCH_NORMS):
            module.momentum = None
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        model.train()(images)
    return model


def gradient(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradient of the loss by the weights and biases, not by learned steps."""
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    named = model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None and not name.endswith("step")}


def cosines(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """Of the whole gradients, and of the parts in the first and last weights."""
    matrices = [name for name, value in theirs.items() if value.dim() > 1]
    parts = {"all": list(theirs), "first": matrices[:1], "last": matrices[-1:]}

    def joined(gradients: dict[str, Tensor], names: list[str]) -> Tensor:
        return torch.cat([gradients[name].flatten() for name in names])

    return {
        key: round(float(F.cosine_similarity(joined(mine, names), joined(theirs, names), 0)), 3)
        for key, names in parts.items()
    }


def noisy(model: nn.Module, share: float) -> list[Any]:
    """Hooks that add even noise to what is active; share: standard deviation over that of the activation."""

    def add(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        noise = (torch.rand_like(output) - 0.5) * 12**0.5
        return output + noise * (output != 0) * share * output.detach().std()

    return [m.register_forward_hook(add) for m in model.modules() if isinstance(m, QuantActivation)]


def after_three_steps(model: nn.Module, images: Tensor, labels: Tensor, optimiser: torch.optim.Optimizer) -> float:
    """Loss after three steps over the loss before."""
    losses = []
    for step in range(4):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        losses.append(float(loss.detach()))
        if step < 3:
            loss.backward()
            if isinstance(optimiser, torch.optim.SGD):
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    return round(losses[-1] / losses[0], 4)


def measure(float_model: nn.Module, images: Tensor, labels: Tensor, options: dict[str, Any]) -> dict[str, Any]:
    """Everything about one network."""
    model = fd.prepare(float_model, 8, 8, input_shape=tuple(images.shape[1:]), **options)
    fd.calibrate(model, images)
    model.train()
    few, named = images[:BATCH], labels[:BATCH]
    cosine: dict[str, Any] = {"8 bits": gradient(copy.deepcopy(model), few, named)}
    with quantisers_off(model):
        right = gradient(copy.deepcopy(model), few, named)
        for share in NOISES:
            copied = copy.deepcopy(model)
            hooks = noisy(copied, share)
            cosine[f"noise {share}"] = gradient(copied, few, named)
            for hook in hooks:
                hook.remove()
    steps: dict[str, float] = {}
    for name, make in OPTIMISERS.items():
        copied = copy.deepcopy(model)
        steps[f"{name}, 8 bits"] = after_three_steps(copied, few, named, make(copied.parameters()))
        copied = copy.deepcopy(model)
        with quantisers_off(copied):
            steps[f"{name}, float"] = after_three_steps(copied, few, named, make(copied.parameters()))
    return {
        "cosine": {key: cosines(each, right) for key, each in cosine.items()},
        "loss after three steps": steps,
    }


def main() -> None:
    """Measure all networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    data = fd.load_data("cifar10", "train", options.data_root)
    images, labels = torch.as_tensor(data.raw(slice(0, IMAGES))), data.labels[:IMAGES]
    record: dict[str, Any] = {
        "date": str(datetime.date.today()), "torch": torch.__version__, "threads": torch.get_num_threads()
    }  # fmt: skip
    for name, model, taken, others in networks(options.data_root, images):
        record[name] = measure(model, taken, labels, others)
        print(name, json.dumps(record[name]), flush=True)
        write_file(RECORD, json.dumps(record, indent=1) + "\n", again=True)


if __name__ == "__main__":
    main()
