"""Layer-wise fine-tuning: each layer learns to undo what arriving spikes out of order did to it.

A spiking network that stops after its window (T = 2**bits - 1 steps) makes mistakes that grow from layer to layer,
because a neuron decides before all its input has come. Layer by layer, from the second to the last but one, the
network is simulated, and weights and batch norm move so that the counts come closer to the quantised network's.
Source: Fast-SNN (arXiv 2305.19868), section on layer-wise fine-tuning, and its official code (`snn_ft.py`).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn import functional as F

from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.files import own_files
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.quantisation import Checkpoint, canonicalise
from fastsnn_deploy.quantisation.checkpoint import read_plain, write_plain
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.training.data import Images
from fastsnn_deploy.training.finetune_layers import Layer, activation, find_layers, proxy, spike_rates
from fastsnn_deploy.training.loop import Log, Loop, Progress, quiet

STATE_FORMAT = "fastsnn-deploy fine-tuning state"

OF_OTHER_WEIGHTS = ("quantised_accuracy", "figures")
"""Metadata that do not hold any more after fine-tuning."""


@dataclass(frozen=True)
class Settings:
    """images: training images to learn from; held_out: others of them, on which a change must prove itself.

    epochs: passes over the images for each layer. learning_rate, momentum, weight_decay: of SGD; those of the official
    code for ResNets, weight decay on weights only. batch: the official code has 128; fewer images need more steps.
    neurons: "unary" (with negative spikes) or "unsigned". force: keep every change.
    """

    images: int = 2000
    held_out: int = 1000
    epochs: int = 1
    batch: int = 50
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    neurons: str = "unary"
    force: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("images", "held_out", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, must be at least 1")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning_rate is {self.learning_rate}, must be positive and finite")


@dataclass(frozen=True)
class LayerRecord:
    """loss: mean squared error to the quantised model's activation in the last epoch, before each step; in squared
    real units.

    correct: held-out images that the spiking network got right with the change; of other tasks than classification
    their figure of merit. kept: whether the change stayed.
    """

    name: str
    loss: float
    correct: float
    kept: bool


def published_graph(checkpoint: Checkpoint, neurons: str = "unary") -> SpikingGraph:
    """The graph of a checkpoint with the published schedule: constant input and bias, T steps a layer, then silence."""
    return for_window(with_neurons(convert(checkpoint), neurons))


class Finetuner:
    """Fine-tunes one checkpoint. The state after every layer lies in `state_file` until all are done.

    data: training images, of which `settings.images` teach and `settings.held_out` others judge. The checkpoint given
    is not changed. Only one layer at a time has gradients, and images go through in batches, so memory does not grow
    with the depth or with the number of images. engine, threads: as `open_engine` takes them.
    """

    judged = "correct"
    """What changes are judged by."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        data: Images,
        settings: Settings | None = None,
        *,
        state_file: str | Path | None = None,
        engine: str = "cpu",
        threads: int | None = None,
        progress: Progress | None = None,
        log: Log | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.data, self.engine, self.threads = data.held(), engine, threads
        self.state_file = None if state_file is None else Path(state_file)
        self.progress, self.log = progress or quiet, log or quiet
        self.source = dataclasses.replace(checkpoint, model=canonicalise(checkpoint.model).eval())
        graph = published_graph(self.source, self.settings.neurons)
        layers = [layer for layer in find_layers(self.source.model, graph) if layer.name not in graph.outputs]
        self.layers = tuple(layer for layer in layers[1:] if layer.parameters)
        if not self.layers:
            raise InputError("the network has no layer between its first and its last one: nothing can be fine-tuned")
        self._split()

    def run(self, resume: bool = False, restart: bool = False) -> Checkpoint:
        """Fine-tune all layers; delete the state file; return the new checkpoint.

        resume: go on after the last finished layer. restart: begin anew although the state of an unfinished run is
        there, which is refused otherwise.

        Its metadata has the key `finetune`: settings, held-out images right before and after, a record a layer. What
        was measured of other weights goes. Raises InputError if the state file is missing, damaged
        or of another run, and if a layer diverges.
        """
        if self.state_file is not None and self.state_file.exists() and not (resume or restart):
            raise InputError(
                f"{self.state_file}: is the state of an unfinished run. Go on with --resume, or begin anew with "
                "--restart"
            )
        tuned = dataclasses.replace(self.source, model=copy.deepcopy(self.source.model))
        tuned.model.requires_grad_(False)
        records: list[LayerRecord] = []
        if resume:
            before, records = self._read_state(tuned)
        else:
            before = self._correct(tuned)
            self._write_state(tuned, before, records)
        for number in range(len(records), len(self.layers)):
            best = self._after(before, records)
            record = self._layer(tuned, number, best)
            records.append(record)
            self.log(self._line(number, best, record))
            self._write_state(tuned, before, records)
        metadata = {key: value for key, value in self.source.metadata.items() if key not in OF_OTHER_WEIGHTS}
        metadata["finetune"] = {
            "settings": asdict(self.settings),
            f"held_out_{self.judged}_before": before,
            f"held_out_{self.judged}_after": self._after(before, records),
            "layers": [asdict(record) for record in records],
        }
        tuned.model.requires_grad_(True)
        if self.state_file is not None:
            self.state_file.unlink(missing_ok=True)
        return Checkpoint(tuned.model, self.source.input_shape, metadata)

    def _after(self, before: float, records: list[LayerRecord]) -> float:
        kept = [record.correct for record in records if record.kept]
        return kept[-1] if kept else before

    @property
    def most(self) -> float:
        """What `_correct` gives where everything is right."""
        return self.settings.held_out

    def _line(self, number: int, best: float, record: LayerRecord) -> str:
        share = 100 / self.most
        what = "images right" if self.judged == "correct" else self.judged
        return (
            f"layer {number + 1}/{len(self.layers)} {record.name}: loss {record.loss:.5f}, held-out {what} "
            f"{best * share:.2f} % -> {record.correct * share:.2f} %, {'kept' if record.kept else 'undone'}"
        )

    def _split(self) -> None:
        wanted, found = self.settings.images + self.settings.held_out, len(self.data.labels)
        if wanted > found:
            raise InputError(
                f"'{self.data.name}' has {found} training images; {self.settings.images} to learn from and "
                f"{self.settings.held_out} held out are {wanted}. Ask for fewer"
            )
        order = torch.randperm(found, generator=torch.Generator().manual_seed(self.settings.seed))
        self.taught, self.held_out = order[: self.settings.images], order[self.settings.images : wanted]

    def _correct(self, checkpoint: Checkpoint) -> float:
        """Held-out images that the spiking network gets right after its window."""
        graph = published_graph(checkpoint, self.settings.neurons)
        levels, labels = self.data.for_input(graph.input, self.held_out), self.data.labels[self.held_out].numpy()
        engine = open_engine(graph, self.engine, self.threads)
        return evaluate(graph, levels, labels, engine=engine, topk=(1,)).topk[0].correct

    def _layer(self, tuned: Checkpoint, number: int, best: float) -> LayerRecord:
        """Tune one layer in place; undo it unless more held-out images come out right."""
        layer = self.layers[number]
        parameters = {name: tuned.model.get_parameter(name) for name in layer.parameters}
        original = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        optimiser = torch.optim.SGD(self._groups(parameters), lr=self.settings.learning_rate,
                                    momentum=self.settings.momentum)  # fmt: skip
        tuned.model.eval()  # statistics of batch norm stay
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        loop: Loop[Tensor] = Loop(
            tuned.model, optimiser, lambda index: self._loss(tuned, layer, index), where=f" of layer '{layer.name}'"
        )
        loss = 0.0
        for epoch in range(self.settings.epochs):
            loss = self._epoch(loop, number, epoch)
        for parameter in parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        correct = self._correct(tuned)
        kept = self.settings.force or correct > best
        if not kept:
            for name, parameter in parameters.items():
                parameter.copy_(original[name])
        self._advance(number, self.settings.epochs, 0)
        return LayerRecord(layer.name, loss, correct, kept)

    def _groups(self, parameters: dict[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
        """Weight decay for weights only: one-dimensional parameters are biases, batch norm, and steps."""
        return [
            {
                "params": [p for p in parameters.values() if (p.dim() > 1) is decayed],
                "weight_decay": self.settings.weight_decay if decayed else 0.0,
            }
            for decayed in (True, False)
        ]

    def _epoch(self, loop: Loop[Tensor], number: int, epoch: int) -> float:
        """One pass over the images. The order follows from (seed, layer, epoch), so that resuming is exact."""
        seed = self.settings.seed * 1_000_003 + number * 10_007 + epoch
        order = torch.randperm(len(self.taught), generator=torch.Generator().manual_seed(seed))
        parts = torch.split(self.taught[order], self.settings.batch)
        batches = ((index, len(index), len(index)) for index in parts)
        return loop.epoch(epoch, batches, len(parts), len(self.taught), lambda step: self._advance(number, epoch, step))

    def _loss(self, tuned: Checkpoint, layer: Layer, index: Tensor) -> Tensor:
        """Squared error between the layer's real counts and the quantised model's; the gradient takes the way of the
        quantised model."""
        images = self.data.raw(index)
        target = activation(self.source.model, layer, images)
        try:
            graph = published_graph(tuned, self.settings.neurons)
        except LoweringError as error:
            raise InputError(f"layer '{layer.name}' cannot be converted any more. Lower the learning rate") from error
        emitted = graph.input.encode(self.data.for_input(graph.input, index))
        rates = spike_rates(graph, (*layer.sources, layer.name), emitted, self.engine, self.threads)
        spiked = rates.pop(layer.name)
        smooth = proxy(tuned.model, layer, images, rates)
        return F.mse_loss(smooth + (spiked - smooth).detach(), target)

    def _advance(self, number: int, epoch: int, batch: int) -> None:
        batches = -(-self.settings.images // self.settings.batch)
        each = self.settings.epochs * batches
        self.progress(number * each + epoch * batches + batch, len(self.layers) * each)

    def _identity(self) -> str:
        """Fingerprint of what determines the result: settings, weights to start from, data set."""
        digest = hashlib.sha256(repr((asdict(self.settings), self.data.name, len(self.data.labels))).encode())
        for name, tensor in self.source.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _write_state(self, tuned: Checkpoint, before: float, records: list[LayerRecord]) -> None:
        if self.state_file is not None:
            state = {
                "format": STATE_FORMAT,
                "identity": self._identity(),
                "before": before,
                "records": [asdict(record) for record in records],
                "model": tuned.model.state_dict(),
            }
            write_plain(state, self.state_file, again=True)

    def _read_state(self, tuned: Checkpoint) -> tuple[float, list[LayerRecord]]:
        if self.state_file is None:
            raise InputError("there is no state file to resume from. Name one")
        with own_files():
            state = read_plain(self.state_file, "fine-tuning state")
        if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
            raise InputError(f"{self.state_file}: is not a fine-tuning state of this program")
        if state.get("identity") != self._identity():
            raise InputError(
                f"{self.state_file}: belongs to another run. Use the same checkpoint, data and settings, or start anew"
            )
        try:
            records = TypeAdapter(list[LayerRecord]).validate_python(state["records"])
            if [record.name for record in records] != [layer.name for layer in self.layers[: len(records)]]:
                raise ValueError("layers differ")
            tuned.model.load_state_dict(state["model"])
            return float(state["before"]), records
        except Exception as error:  # whatever damaged content may set off
            reason = str(error).split("\n")[0]
            raise InputError(f"{self.state_file}: is damaged ({reason:.200}). Start anew") from error
