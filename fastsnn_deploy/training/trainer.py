"""Training by a recipe: seeded, resumable, on CPU or GPU, in one process or several."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.backends import cudnn
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import below, own_files, planned
from fastsnn_deploy.graph.preprocessing import KEY
from fastsnn_deploy.processes import Processes, connected
from fastsnn_deploy.quantisation.bit_plan import apply_plan
from fastsnn_deploy.quantisation.calibration import calibrate
from fastsnn_deploy.quantisation.checkpoint import Checkpoint, load, save, write_plain
from fastsnn_deploy.quantisation.layers import BATCH_NORMS, QuantActivation
from fastsnn_deploy.quantisation.prepare import prepare_planned
from fastsnn_deploy.quantisation.sources.weights import load_weights
from fastsnn_deploy.training.averaging import Averaged
from fastsnn_deploy.training.batches import Batches, alternating
from fastsnn_deploy.training.data import Images, load_chosen
from fastsnn_deploy.training.distillation import distillation_loss
from fastsnn_deploy.training.distributed import Group
from fastsnn_deploy.training.images import apart
from fastsnn_deploy.training.loop import CLIP, Log, Loop, Progress, open_device, placed, quiet
from fastsnn_deploy.training.models import build
from fastsnn_deploy.training.optimisers import optimiser_for
from fastsnn_deploy.training.recipe import Recipe, Stage
from fastsnn_deploy.training.resume import read_state, restore, write_state
from fastsnn_deploy.training.sparsity import Priced
from fastsnn_deploy.training.threads import suited_threads


class Trainer:
    """Trains one recipe. The state after every epoch lies in `<output>.resume` until training has finished.

    A quantised stage that is not the last leaves its quantised model in `<output stem>-<bits>bit<suffix>`, a float one
    its weights in `<output stem>-float<suffix>` where the recipe keeps them or they teach. progress
    gets (done, total) after every step, log a line after every epoch, say what must be read.
    """

    metric = "accuracy"
    calibrated = 256
    """Images that first set the steps of activations."""

    def __init__(
        self,
        recipe: Recipe,
        output: str | Path,
        *,
        data_root: str | Path = "data",
        download: bool = False,
        device: str = "cpu",
        progress: Progress | None = None,
        log: Log | None = None,
        say: Log | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.recipe, self.output = recipe, planned(output)
        kept = {self._stage_file(stage) for stage in recipe.stages[:-1] if stage.bits or self._keeps_float}
        for file in {self.resume_file, *kept}:
            planned(file)
        processes = processes or Processes()
        if processes.size > 1 and device == "cuda":
            device = f"cuda:{processes.rank % processes.local_size}"
        self.device = open_device(device)
        self.group = Group(processes, self.device)
        self.progress, self.log, self.say = progress or quiet, log or quiet, say or log or quiet
        self.data_root = Path(data_root)
        self.figures: dict[str, Any] = {}  # of earlier stages
        self._scales: dict[torch.device, tuple[Tensor, Tensor]] = {}
        # a GPU holds the whole data set, and moves and mirrors the images itself
        train, test = self._load(download)
        self.train_images, self.test_images = train.to(self.device), test.to(self.device)
        self.measured, self.measured_name = self.test_images, "test"
        if recipe.hold_out:
            self.train_images, self.measured = apart(self.train_images, recipe.hold_out, recipe.seed)
            self.measured_name = "held-out"
        self._check_augmentation()
        self._check_batches()
        chosen = recipe.teacher
        self.teacher: nn.Module | None = None
        if chosen is not None and chosen.model is not None and chosen.weights is not None:
            self.teacher = self._teacher(chosen.model, below(self.data_root, chosen.weights, "the teacher's weights"))
        self.epochs = sum(stage.epochs for stage in recipe.stages)

    def _load(self, download: bool) -> tuple[Images, Images]:
        """(training, test) images."""
        recipe, root = self.recipe, self.data_root
        train = load_chosen(recipe.data, "train", root, download, recipe.preprocessing).held()
        return train, load_chosen(recipe.data, "test", root, download, lambda _: train.preprocessing).held()

    @property
    def resume_file(self) -> Path:
        """Where the state after the last finished epoch lies."""
        return self.output.with_name(self.output.name + ".resume")

    def _stage_file(self, stage: Stage) -> Path:
        form = "float" if stage.bits is None else f"{stage.bits}bit"
        return self.output.with_name(f"{self.output.stem}-{form}{self.output.suffix}")

    @property
    def _own_teacher(self) -> bool:
        """The first stage's float network teaches the later ones."""
        return self.recipe.teacher is not None and self.recipe.teacher.model is None

    @property
    def _keeps_float(self) -> bool:
        return self.recipe.keep_float or self._own_teacher

    def run(self, resume: bool = False, restart: bool = False) -> Checkpoint:
        """Train all stages, save the quantised model to `output`, delete the resume file, return the checkpoint.

        With several processes each must call it once; the first one writes the files.

        Args:
            resume: go on after the last finished epoch; of a finished training, return its checkpoint.
            restart: begin anew although the state of an unfinished training is there.

        Raises:
            InputError: such a state is there, and neither is asked for; it is of another recipe; training diverges.
        """
        if resume and (finished := self._finished()) is not None:
            self.say(f"the training is finished: the checkpoint is {self.output}")
            return finished
        if self.resume_file.exists() and not (resume or restart):
            raise InputError(
                f"{self.resume_file}: is the state of an unfinished training. Go on with --resume, or begin anew with "
                "--restart"
            )
        before, cudnn.benchmark = cudnn.benchmark, True  # shapes are few and stay
        try:
            with connected(self.group.processes, "nccl" if self.device.type == "cuda" else "gloo"):
                return self._run(resume)
        finally:
            cudnn.benchmark = before

    def _run(self, resume: bool) -> Checkpoint:
        state = None
        if resume:
            state = read_state(self.resume_file, self.recipe, str(self.device), self.group.processes.size, self.say)
            self.figures = state["figures"]
        self.group.wait()  # the first process deletes that file now or in the end
        if state is None and self.group.first:
            self.resume_file.unlink(missing_ok=True)
        torch.manual_seed(self.recipe.seed)
        model = self._float_network(self.recipe.model, self.recipe.model_options, self.recipe.weights)
        self._check_fit(model)
        with suited_threads(model, self.train_images.raw(slice(0, 2)), self.recipe.batch_size, self.device):
            model = self._stages(model, state)
        checkpoint = self._save(model, self.output)
        if self.group.first:
            self.resume_file.unlink(missing_ok=True)
        return checkpoint

    def _stages(self, model: nn.Module, state: dict[str, Any] | None) -> nn.Module:
        """The model after all stages, or after those that follow a saved state."""
        for number, stage in enumerate(self.recipe.stages):
            model = placed(self._enter(model, stage), self.device, torch.channels_last)
            if state is not None and number < state["stage"]:
                continue  # structure only: the weights come with the state
            if self._own_teacher and number:
                self.teacher = self._teacher(self.recipe.model, self._stage_file(self.recipe.stages[0]))
            self.group.agree(model)
            self._train_stage(model, number, state)
            state = None
            if number + 1 < len(self.recipe.stages):
                self._leave(model, stage)
        return model

    def _finished(self) -> Checkpoint | None:
        """The checkpoint that this recipe has led to, if there is no training to go on with."""
        if self.resume_file.exists() or not self.output.exists():
            return None
        with own_files():
            checkpoint = load(self.output)
        made_by = checkpoint.metadata.get("recipe")
        return checkpoint if made_by == self.recipe.model_dump(mode="json") else None

    def _check_augmentation(self) -> None:
        asked = any(self.recipe.augmentation(stage).autoaugment for stage in self.recipe.stages)
        if asked and self.train_images.highest != 255:
            raise InputError(
                f"recipe '{self.recipe.name}' augments by autoaugment, which is for images of 256 levels; those of "
                f"'{self.recipe.data}' have {self.train_images.highest + 1}"
            )

    def _check_batches(self) -> None:
        images, processes = len(self.train_images.labels), self.group.processes.size
        batch = min(images, self.recipe.batch_size)
        if self.group.smallest(batch) < 2:  # batch norm needs two
            raise InputError(
                f"recipe '{self.recipe.name}': batches of {batch} (batch_size {self.recipe.batch_size}, {images} "
                f"training images) are fewer than two images for each of {processes} processes. Use a greater "
                "batch_size, more images, or fewer processes"
            )

    @property
    def _outputs(self) -> dict[str, int]:
        """Options of the network that follow from the data."""
        return {"channels": self.train_images.shape[0], "classes": self.train_images.classes}

    def _float_network(self, name: str, options: dict[str, int], weights: str | None) -> nn.Module:
        model = build(name, **self._outputs, **options)
        if weights is not None:
            load_weights(model, below(self.data_root, weights, "the recipe's weights"))
        return model

    def _leave(self, model: nn.Module, stage: Stage) -> None:
        """The file of a stage that is not the last."""
        if stage.bits is not None:
            self._save(model, self._stage_file(stage))
        elif self._keeps_float:
            if self.group.first:
                weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
                write_plain(weights, self._stage_file(stage), again=True)
            self.group.wait()

    def _teacher(self, name: str, weights: Path) -> nn.Module:
        options = self.recipe.model_options if self._own_teacher else {}
        teacher = build(name, **self._outputs, **options)
        with own_files():
            load_weights(teacher, weights)
        return self._compiled(placed(teacher.eval().requires_grad_(False), self.device, torch.channels_last))

    def _compiled(self, model: nn.Module) -> nn.Module:
        return torch.compile(model, dynamic=False) if self.recipe.compile else model  # type: ignore[return-value]

    def _check_fit(self, model: nn.Module) -> None:
        images = self.train_images
        try:
            with torch.no_grad():
                shape = tuple(model.eval()(images.raw(slice(0, 2)).cpu()).shape[1:])
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"model '{self.recipe.model}' cannot take the images of '{images.name}', shape {images.shape} "
                f"({reason}). Choose a model for this size"
            ) from error
        self._check_answer(shape)

    def _check_answer(self, shape: tuple[int, ...]) -> None:
        """Raise InputError unless the network's answer has the right shape."""
        classes = self.train_images.classes
        if shape != (classes,):
            raise InputError(f"model '{self.recipe.model}' answers with shape {shape} for {classes} classes")

    def _enter(self, model: nn.Module, stage: Stage) -> nn.Module:
        """The model in the form of a stage: float, freshly quantised, or with other bits."""
        if stage.bits is None:
            return model
        if any(isinstance(module, QuantActivation) for module in model.modules()):
            assert isinstance(model, fx.GraphModule)
            apply_plan(model, self.recipe.plan(stage))
            return model
        images, plan = self.train_images, self.recipe.plan(stage)
        model = placed(model, "cpu", torch.contiguous_format)
        quantised = prepare_planned(model, plan, preprocessing=images.preprocessing, input_shape=images.shape)
        quantised.eval()
        calibrate(quantised, images.raw(slice(0, self.calibrated)).cpu())
        return quantised

    def _train_stage(self, model: nn.Module, number: int, state: dict[str, Any] | None) -> None:
        stage = self.recipe.stages[number]
        optimiser = optimiser_for(model, self.recipe, stage)
        averaged = Averaged(model, stage.average) if stage.average else None
        loop = self._loop(model, optimiser, number, averaged)
        first = 0
        if state is not None:
            try:
                model.load_state_dict(state["model"])
                restore(optimiser, state["optimiser"])
                if averaged is not None:
                    averaged.load(state["average"])
            except Exception as error:  # whatever damaged content may set off
                reason = str(error).split("\n")[0]
                raise InputError(f"{self.resume_file}: does not belong to this recipe ({reason})") from error
            first = state["epoch"]
        before = sum(s.epochs for s in self.recipe.stages[:number])
        for epoch in range(first, stage.epochs):
            loss = self._epoch(loop, number, epoch, before + epoch)
            line = f"stage {number + 1}/{len(self.recipe.stages)} epoch {epoch + 1}/{stage.epochs}: loss {loss:.4f}"
            line += self.priced.line(self.group)
            last = epoch + 1 == stage.epochs
            if (epoch + 1) % self.recipe.test_every == 0 or last:
                with nullcontext() if averaged is None else averaged.applied():
                    line += f", {self.measured_name} {self.metric} {100 * self.accuracy(model, self.measured):.2f} %"
            self.log(line)
            if self.group.first and ((epoch + 1) % self.recipe.resume_every == 0 or last):
                trained = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
                trained |= {"average": {} if averaged is None else averaged.values, "figures": self.figures}
                place = {"stage": number, "epoch": epoch + 1, "processes": self.group.processes.size}
                write_state(self.resume_file, self.recipe, {**place, **trained})
        if averaged is not None:
            averaged.adopt()

    def _loop(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, number: int, averaged: Averaged | None
    ) -> Loop[tuple[Tensor, Any]]:
        stage = self.recipe.stages[number]
        smoothing, sparsity = self.recipe.smoothing(stage), self.recipe.sparsity if stage.bits else 0.0
        self.priced = Priced(model, sparsity, self.train_images.shape, self._compiled)

        def loss(batch: tuple[Tensor, Any]) -> Tensor:
            images, truth = batch
            answer, price = self.priced(self._normalised(model, images))
            return self._loss(answer.float(), images, truth, smoothing) + price

        return Loop(
            model, optimiser, loss, schedule=lambda first, epoch, step, steps: stage.rate(first, epoch + step / steps),
            clip=CLIP, group=self.group, bfloat16=self.recipe.precision == "bfloat16",
            after=quiet if averaged is None else averaged.update, where=f" of stage {number + 1}",
        )  # fmt: skip

    def _epoch(self, loop: Loop[tuple[Tensor, Any]], stage: int, epoch: int, done: int) -> float:
        """One pass over the training images. All randomness follows from (seed, stage, epoch): resuming is exact."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + stage * 10_007 + epoch)
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        loop.model.train()
        if self.recipe.stages[stage].freeze_batch_norm:
            for module in loop.model.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()
        images = len(self.train_images.labels)
        full, rest = divmod(images, self.recipe.batch_size)
        steps = full + (self.group.smallest(rest) > 1)
        batches = self._batches(stage, epoch, generator)
        return loop.epoch(
            epoch, batches, steps, images, lambda step: self.progress(done * steps + step, self.epochs * steps)
        )

    def _loss(self, logits: Tensor, images: Tensor, labels: Any, smoothing: float) -> Tensor:
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        chosen = self.recipe.teacher
        if self.teacher is None or chosen is None:
            return loss
        with torch.no_grad():
            taught = self.teacher(self._on_data_scale(images)).float()
        return (1 - chosen.share) * loss + chosen.share * distillation_loss(logits, taught, chosen.temperature)

    def _batches(self, number: int, epoch: int, generator: torch.Generator) -> Iterator[tuple[Any, int, int]]:
        """This process's part of every batch of an epoch."""
        stage, data = self.recipe.stages[number], self.train_images
        chosen, mirrored = self.recipe.augmentation(stage), None
        if chosen.flip == "alternate":
            mirrored = alternating(len(data.labels), self.recipe.seed * 1_000_003 + number, epoch)
        batches = Batches(data, self.recipe.batch_size, self.group, self.device)
        return batches.epoch(chosen, generator, mirrored, stage.size(epoch))

    def _normalised(self, model: nn.Module, images: Tensor) -> Tensor:
        """A quantised model normalises raw images itself; a float network gets them normalised."""
        if any(isinstance(module, QuantActivation) for module in model.modules()):
            return images
        return self._on_data_scale(images)

    def _on_data_scale(self, images: Tensor) -> Tensor:
        if images.device not in self._scales:  # kept: a copy to a GPU waits for what runs there
            values = (self.train_images.mean, self.train_images.std)
            mean, std = (torch.tensor(value, device=images.device).view(1, -1, 1, 1) for value in values)
            self._scales[images.device] = mean, std
        mean, std = self._scales[images.device]
        return (images - mean) / std

    def accuracy(self, model: nn.Module, data: Images) -> float:
        """Fraction of images whose largest logit is the label's, evaluated in float32 (TF32 on a GPU)."""
        model.eval()
        right = 0
        count = len(data.labels)
        with torch.no_grad():
            for index in torch.split(torch.arange(count)[self.group.share(count)], 500):
                images = data.raw(index).to(self.device, memory_format=torch.channels_last)
                predicted = model(self._normalised(model, images)).flatten(1).argmax(1)
                right += int((predicted == data.labels[index].to(self.device)).sum())
        return int(self.group.sum(torch.tensor(right))) / count

    def _measured(self, trained: nn.Module) -> dict[str, Any]:
        """What the checkpoint says of the test images."""
        return {"quantised_accuracy": self.accuracy(trained, self.test_images)}

    def _save(self, trained: nn.Module, path: Path) -> Checkpoint:
        measured = self._measured(trained)
        model = placed(copy.deepcopy(trained), "cpu", torch.contiguous_format).eval()
        images = self.train_images
        metadata = {
            "data": self.recipe.data,
            KEY: images.preprocessing.plain(),
            "recipe": self.recipe.model_dump(mode="json"),
            **measured,
        }
        checkpoint = Checkpoint(model, images.shape, metadata)  # type: ignore[arg-type]
        if self.group.first:
            save(checkpoint, path, again=True)  # two stages may have the same bits
        return checkpoint
