"""The one training loop: recipes, tasks, fine-tuning and `fit` bring their batches, their loss and their optimiser."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.processes import Processes
from fastsnn_deploy.quantisation.structure import WEIGHTED
from fastsnn_deploy.training.distributed import Group

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""progress(done, total), after every step."""

Log = Callable[[str], None]
"""log(line), after every epoch."""

Schedule = Callable[[float, int, int, int], float]
"""schedule(first learning rate, epoch, step, steps of an epoch) -> learning rate of this step."""


CLIP = 5.0
"""Greatest norm of the gradient of recipes and `fit`."""


def quiet(*_: object) -> None:
    """Nothing to show."""


class Loop(Generic[T]):
    """Steps of an optimiser over batches, an epoch at a time.

    Args:
        model: the network whose parameters move; whether it is in training mode is the caller's choice.
        optimiser: over parameters of `model`; its learning rates are the ones that `schedule` starts from.
        loss: mean loss of a batch, a scalar. Runs in bfloat16 where `bfloat16` says so.
        schedule: learning rates; None leaves them as they are.
        clip: greatest norm of the gradient; None for any.
        group: processes that train together, on one device.
        after: called after every step of the optimiser.
        where: ends the message when the training diverges, as in " of stage 1".
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Callable[[T], Tensor],
        *,
        schedule: Schedule | None = None,
        clip: float | None = None,
        group: Group | None = None,
        bfloat16: bool = False,
        after: Callable[[], None] = quiet,
        where: str = "",
    ) -> None:
        self.model, self.optimiser, self.loss = model, optimiser, loss
        self.schedule, self.clip, self.bfloat16, self.where = schedule, clip, bfloat16, where
        self.after = after
        self.group = group or Group(Processes(), torch.device("cpu"))
        self.rates = [group["lr"] for group in optimiser.param_groups]

    def epoch(
        self, number: int, batches: Iterable[tuple[T, int, int]], steps: int, images: int,
        advance: Callable[[int], None] = quiet,
    ) -> float:  # fmt: skip
        """One pass.

        Args:
            number: of the epoch, from 0.
            batches: (what `loss` takes, images in it, images in the whole batch of all processes).
            steps: how many batches there are.
            images: what the sum of all losses is divided by.
            advance: called with the number of steps done.

        Returns:
            The mean loss, of all processes.

        Raises:
            InputError: the loss or a parameter is no finite number.
        """
        losses: list[tuple[Tensor, int]] = []  # read at the end: reading one waits for the device
        for step, (batch, own, whole) in enumerate(batches):
            if self.schedule is not None:
                for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                    group["lr"] = self.schedule(rate, number, step, steps)
            with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.bfloat16):
                loss = self.loss(batch)
            self.optimiser.zero_grad(set_to_none=True)
            part = loss if own == whole else loss * (own / whole)
            part.backward()  # type: ignore[no-untyped-call]
            self.group.sum_gradients(self.model.parameters())
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimiser.step()
            self.after()
            losses.append((loss.detach(), own))
            advance(step + 1)
        self.group.average_statistics(self.model)
        total = sum(float(loss) * own for loss, own in losses)
        total = float(self.group.sum(torch.tensor(total, dtype=torch.float64)))
        if not math.isfinite(total) or not all(torch.isfinite(p).all() for p in self.model.parameters()):
            raise InputError(
                f"training diverged in epoch {number + 1}{self.where}: the loss is {total / images}. Lower the "
                "learning rate"
            )
        return total / images


def warn_unless_lower(losses: Sequence[float]) -> None:
    """Warn the caller's caller if several epochs did not lower the loss, and say what helps."""
    if len(losses) > 1 and losses[-1] >= losses[0]:
        warnings.warn(
            f"the loss did not fall: {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last. Deep networks "
            "with random weights amplify rounding until their gradients are noise: train the float network first and "
            "prepare that, or use more images a step and more epochs. A trained network needs a lower learning rate",
            UserWarning,
            stacklevel=4,
        )


def half_cosine(angle: float) -> float:
    """From 1 at angle 0 to 0 at angle pi."""
    return 0.5 * (1 + math.cos(angle))


def decay_weights_only(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameters for an optimiser: weights of layers decay; biases, batch norm and steps do not."""
    decayed = {id(m.weight) for m in model.modules() if isinstance(m, WEIGHTED)}
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]


def placed(model: nn.Module, device: str | torch.device, layout: torch.memory_format) -> nn.Module:
    """The model on a device, with its four-dimensional weights in a layout."""
    return model.to(device).to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def open_device(name: str) -> torch.device:
    """A device by torch's name. Raises InputError if it cannot be used."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device '{name}' cannot be used ({str(error).splitlines()[0]}). Use --device cpu") from error
    return device
