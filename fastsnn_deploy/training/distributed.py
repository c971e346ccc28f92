"""Training in several processes: each computes its share of every batch, and all take the same step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastsnn_deploy.processes import Processes, talking
from fastsnn_deploy.quantisation.layers import BATCH_NORMS


class Group:
    """The processes that train together; with one process every method leaves its arguments as they are.

    Gradients are summed, weights agree in all processes at every step. Batch norm sees each process's own share of a
    batch, as in torch's DistributedDataParallel; its running statistics are averaged after every epoch.
    """

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self.processes = processes
        self.device = device

    @property
    def first(self) -> bool:
        """This process writes files and says what happens."""
        return self.processes.first

    def share(self, count: int) -> slice:
        """This process's part of a batch."""
        return self.processes.share(count)

    def smallest(self, count: int) -> int:
        """Images in the smallest share of a batch."""
        return count // self.processes.size

    def agree(self, model: nn.Module) -> None:
        """All parameters and buffers as the first process has them."""
        if self.processes.size > 1:
            with talking(self.processes), torch.no_grad():
                for value in model.state_dict().values():
                    whole = value.contiguous()
                    dist.broadcast(whole, 0)
                    value.copy_(whole)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient becomes its sum over the processes; a parameter that no process used keeps none."""
        if self.processes.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        used = self.sum(torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.float32))
        chosen = [parameter for parameter, count in zip(trained, used.tolist(), strict=True) if count]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
        total = self.sum(torch.cat([part.flatten() for part in parts])) if parts else torch.zeros(0)
        for parameter, part in zip(chosen, torch.split(total, [p.numel() for p in chosen]), strict=True):
            parameter.grad = part.view_as(parameter).contiguous()

    def average_statistics(self, model: nn.Module) -> None:
        """The running statistics of every batch norm become their mean over the processes."""
        if self.processes.size > 1:
            for module in model.modules():
                if isinstance(module, BATCH_NORMS):
                    for statistic in (module.running_mean, module.running_var):
                        if statistic is not None:
                            statistic.copy_(self.sum(statistic.clone()) / self.processes.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, on the device of `values`."""
        if self.processes.size == 1:
            return values
        whole = values.detach().to(self.device).contiguous()
        with talking(self.processes):
            dist.all_reduce(whole)
        return whole.to(values.device)

    def wait(self) -> None:
        """Until every process is here."""
        self.sum(torch.zeros(1))
