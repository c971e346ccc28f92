"""The networks that a search starts from, and what becomes of one with fewer bits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fastsnn_deploy.errors import InputError, Problem, wrong_type
from fastsnn_deploy.graph.preprocessing import KEY
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.quantisation.bit_plan import hidden_layers
from fastsnn_deploy.quantisation.given import as_checkpoint
from fastsnn_deploy.quantisation.layers import QuantActivation, QuantInput
from fastsnn_deploy.quantisation.post_training.fewer import bits_in_use, with_bits
from fastsnn_deploy.quantisation.post_training.quantize import quantize
from fastsnn_deploy.training.images import Images

MOST_BITS = 8

FIGURES = ("quantised_accuracy", "figures", "agreement")
"""What metadata say of a network that is not true of one with other bits."""


@dataclass(frozen=True, eq=False)
class Start:
    """One network. trained: at its bits; a float one is at 8 and is not tried so unless asked to. bits, weight_bits: of
    each layer that may have fewer, by path; least_bits, least_weight_bits: the fewest it may have."""

    checkpoint: Checkpoint
    trained: bool
    bits: Mapping[str, int]
    weight_bits: Mapping[str, int]
    least_bits: Mapping[str, int]
    least_weight_bits: Mapping[str, int]

    def is_whole(self, bits: Mapping[str, int], weight_bits: Mapping[str, int]) -> bool:
        """Whether these are its own bits."""
        return dict(bits) == dict(self.bits) and dict(weight_bits) == dict(self.weight_bits)

    @cached_property
    def digest(self) -> str:
        """What tells this network from others: SHA-256 of its weights and steps."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.checkpoint.model.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def with_bits(
        self, bits: Mapping[str, int], weight_bits: Mapping[str, int], images: Tensor, iterations: int, seed: int
    ) -> Checkpoint:
        """The checkpoint with other bits; itself where nothing is another. Arguments as of `fewer.with_bits`."""
        model = with_bits(self.checkpoint.model, bits, weight_bits, images, iterations, seed)
        if model is self.checkpoint.model:
            return self.checkpoint
        kept = {key: value for key, value in self.checkpoint.metadata.items() if key not in FIGURES}
        return replace(self.checkpoint, model=model, metadata=kept)


def starts_of(models: Any, images: Images, taught: Tensor, seed: int = 0) -> dict[str, Start]:
    """Networks by name.

    Args:
        models: a quantised model, a Checkpoint, the path of one, or a float network, whose images are normalised as
            `images` says; several of them as a sequence, or by name.
        images: training images.
        taught: raw images of them, from which a float network gets its steps.
        seed: as of `quantize`.

    Raises:
        InputError: one of them is no network, or nothing is given; LoweringError if one has no spiking form.
    """
    networks = dict(named(models))
    if not networks:
        raise InputError("there is no network to tune. Give a checkpoint, or a float network")
    made = {name: _start(model, images, taught, seed) for name, model in networks.items()}
    shapes = {name: each.checkpoint.input_shape for name, each in made.items()}
    if len(set(shapes.values())) > 1:
        problems = [Problem(name, f"takes images {list(shape)}") for name, shape in shapes.items()]
        raise InputError("the networks take different images, so they cannot be compared", problems)
    return made


def named(models: Any) -> Iterator[tuple[str, Any]]:
    """Networks with names: those that are given, those of files where they differ, paths, or numbers."""
    if isinstance(models, Mapping) and all(isinstance(name, str) for name in models):
        yield from models.items()
        return
    several = isinstance(models, Sequence) and not isinstance(models, (str, bytes, nn.Module))
    given = list(models) if several else [models]
    files = [Path(each).name for each in given if isinstance(each, (str, Path))]
    for number, model in enumerate(given, 1):
        if isinstance(model, (str, Path)):
            unique = files.count(Path(model).name) == 1
            yield Path(model).name if unique else os.fspath(model), model
        else:
            yield f"model {number}" if several else "model", model


def _start(model: Any, images: Images, taught: Tensor, seed: int) -> Start:
    trained = not isinstance(model, nn.Module) or any(isinstance(each, QuantInput) for each in model.modules())
    if isinstance(model, (str, os.PathLike, nn.Module, Checkpoint)) and trained:
        checkpoint = as_checkpoint(model)
    elif isinstance(model, nn.Module):
        checkpoint = _quantised(model, images, taught, seed)
    else:
        raise wrong_type(
            "the network", model, "a quantised model, a checkpoint or its path, or a float torch.nn.Module"
        )
    bits, weight_bits = bits_in_use(checkpoint.model)
    least, least_weights = dict.fromkeys(bits, 1), dict.fromkeys(weight_bits, 2)
    for path, module in hidden_layers(checkpoint.model):
        if isinstance(module, QuantActivation):
            least[path] = max(least[path], 2 if module.signed else 1)
        else:
            least_weights[path] = max(least_weights[path], module._rule.lowest_bits)
    return Start(checkpoint, trained, bits, weight_bits, least, least_weights)


def _quantised(model: nn.Module, images: Images, taught: Tensor, seed: int) -> Checkpoint:
    """A float network at 8 bits, its channels equalised: what fewer bits are made from."""
    found = quantize(
        model, taught, MOST_BITS, MOST_BITS, stages=("equalisation",), preprocessing=images.preprocessing, seed=seed,
        input_shape=images.shape,
    )  # fmt: skip
    return Checkpoint(found.model, images.shape, {KEY: images.preprocessing.plain(), "data": images.name})
