"""Layer-wise fine-tuning of detectors and segmentation networks: judged by their figure of merit, all else the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.tasks.base import Task
from fastsnn_deploy.tasks.evaluate import AT_ONCE
from fastsnn_deploy.tasks.scenes import Scenes
from fastsnn_deploy.training.finetune import Finetuner, Settings, published_graph


class TaskFinetuner(Finetuner):
    """`Finetuner` for a task that needs boxes or masks. scenes: training images with the truth."""

    most = 1.0

    def __init__(
        self, checkpoint: Checkpoint, task: Task, scenes: Scenes, settings: Settings | None = None, **options: Any
    ) -> None:
        self.task, self.scenes, self.judged = task, scenes, task.metric
        super().__init__(checkpoint, scenes.images(), settings, **options)

    def _correct(self, checkpoint: Checkpoint) -> float:
        graph = published_graph(checkpoint, self.settings.neurons)
        runner, meter = open_engine(graph, self.engine, self.threads), self.task.meter()
        for index in torch.split(self.held_out, AT_ONCE):
            run = runner.run(graph.input.encode(self.data.for_input(graph.input, index)))
            answer = kind_of(graph).logits(graph, run.final(graph.outputs[0]))
            meter.add(torch.from_numpy(answer.astype(np.float32)), self.scenes.answers(index))
        return meter.figures()[self.task.metric]
