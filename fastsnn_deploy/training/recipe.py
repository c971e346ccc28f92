"""Training recipes: everything that decides the weights, in one YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.graph.preprocessing import Preprocessing
from fastsnn_deploy.quantisation.bit_plan import BitPlan
from fastsnn_deploy.quantisation.quantisers import ACTIVATION_QUANTISERS, WEIGHT_QUANTISERS
from fastsnn_deploy.reading import of_schema, read_yaml
from fastsnn_deploy.training.loop import half_cosine


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


CLASSIFICATION = "classification"

Bits = Annotated[int, Field(ge=1, le=8)]
WeightBits = Annotated[int, Field(ge=2, le=8)]


class Augment(_Strict):
    """shift: random translation by up to so many pixels, zero-level padding. flip: random mirror image.

    flip "alternate": mirrored in every other epoch, half of the images in the first. Source: Jordan, arXiv 2404.00498,
    section 3.6. autoaugment: the policy that was learned for CIFAR-10. cutout: side of a square hole, 0 for none.
    Of boxes and masks only: zoom: size changes by up to this factor, either way. upside_down: random mirror image
    across the horizontal. light: brightness changes by up to this share, either way.
    """

    shift: int = Field(default=0, ge=0)
    flip: bool | Literal["alternate"] = False
    autoaugment: bool = False
    cutout: int = Field(default=0, ge=0)
    zoom: float = Field(default=1.0, ge=1)
    upside_down: bool = False
    light: float = Field(default=0.0, ge=0, lt=1)


class Stage(_Strict):
    """One stretch of training; each starts from the weights of the one before.

    bits: activation bits, null for floating point (first stage only). levels: greatest activation integer in place
    of 2**bits - 1; bits then follows. epochs, learning_rate: cosine from learning_rate to zero over the stage, after
    a linear rise over `warmup` epochs (true: one), together one cycle. milestones: epochs after which the learning
    rate is a tenth, in place of the cosine. weight_decay, label_smoothing, augment: in place of the recipe's.
    freeze_batch_norm: normalise by the running statistics, as in use, and leave them as they are; with few bits the
    mismatch to those of a batch costs accuracy. average: the stage leaves, and is measured by, the exponential moving
    average of its weights and statistics with this decay a step; 0 for none. sizes: {epoch: height and width} to which
    training images are scaled from that epoch on; before the first and without any, as they are.
    """

    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    bits: int | None = Field(default=None, ge=1, le=8)
    levels: int | None = Field(default=None, ge=1, le=255)
    weight_bits: int = Field(default=4, ge=2, le=8)
    warmup: float = Field(default=0.0, ge=0)
    milestones: tuple[PositiveInt, ...] = ()
    weight_decay: float | None = Field(default=None, ge=0)
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    augment: Augment | None = None
    freeze_batch_norm: bool = False
    average: float = Field(default=0.0, ge=0, lt=1)
    sizes: dict[NonNegativeInt, PositiveInt] = {}

    @model_validator(mode="before")
    @classmethod
    def _bits_of_levels(cls, given: Any) -> Any:
        if isinstance(given, dict) and type(levels := given.get("levels")) is int:
            if given.get("bits", levels.bit_length()) != levels.bit_length():
                raise ValueError(f"{levels} levels are {levels.bit_length()} bits. Leave out bits")
            return {**given, "bits": levels.bit_length()}
        return given

    def size(self, epoch: int) -> int | None:
        """Height and width of the training images in an epoch, None for their own."""
        begun = [first for first in self.sizes if first <= epoch]
        return self.sizes[max(begun)] if begun else None

    def rate(self, first: float, epoch: float) -> float:
        """Learning rate in the midst of an epoch, counted from 0. first: the stage's own, or a share of it."""
        warm = min(1.0, (epoch + 0.01) / self.warmup) if self.warmup else 1.0
        if self.milestones:
            return warm * first * 0.1 ** sum(epoch >= milestone for milestone in self.milestones)
        return warm * first * half_cosine(math.pi * epoch / self.epochs)


class Normalisation(_Strict):
    """Mean and standard deviation per channel of raw values, for float weights that were trained with others."""

    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)


class Teacher(_Strict):
    """A float network of the zoo whose softened answers are learned besides the labels.

    weights: its state_dict, a path below the data root. Without `model` and `weights` the float network of the first
    stage teaches the later ones. temperature and share: the loss is
    share * temperature**2 * KL(teacher, quantised model) + (1 - share) * cross entropy. Source: Hinton et al.,
    arXiv 1503.02531, section 2.
    """

    model: str | None = None
    weights: str | None = None
    temperature: float = Field(default=4.0, gt=0)
    share: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _both_or_none(self) -> Teacher:
        if (self.model is None) != (self.weights is None):
            raise ValueError("give a teacher's model and weights, or neither: the first stage's network")
        return self


class Recipe(_Strict):
    """A network, its data, and how it is trained.

    weights: float weights to start from (a state_dict), a path below the data root. normalisation: what those
    weights and the teacher's were trained with, if not the data's own. preprocess: what is done to pictures, as
    `--preprocess` writes it. activation, weight_quantiser: names of
    quantisers. bits_by_layer, weight_bits_by_layer: bits of layers that match a pattern, in every stage; output_bits,
    output_signed: the last layer emits spikes; all as in `BitPlan`. compile: through torch.compile, which needs
    a C++ compiler. test_every: epochs between two measurements of the test accuracy; resume_every: between two
    states to resume from. hold_out: training images, the
    same for one seed, that are kept apart and measured in place of the test images while training; the test images
    are then read once, at the end. keep_float: the float first stage leaves its weights beside the checkpoint.
    sparsity: what synaptic operations cost in the loss of quantised stages, as `training.sparsity` says; 0 for nothing.
    """

    name: str
    data: str
    model: str
    model_options: dict[str, PositiveInt] = {}
    weights: str | None = None
    normalisation: Normalisation | None = None
    preprocess: str | None = None
    teacher: Teacher | None = None
    stages: tuple[Stage, ...] = Field(min_length=1)
    activation: str = "lsq"
    weight_quantiser: str = "uniform"
    bits_by_layer: dict[str, Bits] = {}
    weight_bits_by_layer: dict[str, WeightBits] = {}
    output_bits: int | None = Field(default=None, ge=1, le=8)
    output_signed: bool = False
    first_bits: int = Field(default=8, ge=2, le=8)
    last_bits: int = Field(default=8, ge=2, le=8)
    batch_size: int = Field(default=128, ge=2)  # batch norm needs two
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment: Augment = Augment()
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    test_every: PositiveInt = 1
    resume_every: PositiveInt = 1
    hold_out: NonNegativeInt = 0
    keep_float: bool = False
    sparsity: float = Field(default=0.0, ge=0)
    task: str = CLASSIFICATION
    task_options: dict[str, PositiveInt] = {}
    size: tuple[PositiveInt, PositiveInt] | None = None
    optimiser: Literal["sgd", "adamw"] = "sgd"
    step_rate: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @field_validator("model_options")
    @classmethod
    def _leave_to_data(cls, options: dict[str, int]) -> dict[str, int]:
        if {"channels", "classes"} & options.keys():
            raise ValueError("channels and classes follow from the data")
        return options

    @field_validator("activation")
    @classmethod
    def _known_activation(cls, name: str) -> str:
        return _known(name, ACTIVATION_QUANTISERS)

    @field_validator("weight_quantiser")
    @classmethod
    def _known_weight(cls, name: str) -> str:
        return _known(name, WEIGHT_QUANTISERS)

    @model_validator(mode="after")
    def _has_its_float_stage(self) -> Recipe:
        own = self.teacher is not None and self.teacher.model is None
        if (own or self.keep_float) and (self.stages[0].bits is not None or len(self.stages) < 2):
            raise ValueError("a teacher without a model, and keep_float, need a float stage before the quantised ones")
        return self

    @model_validator(mode="after")
    def _suits_its_task(self) -> Recipe:
        changes = [self.augment, *(stage.augment for stage in self.stages if stage.augment)]
        plain = self.task == CLASSIFICATION
        wrong = {
            "zoom, upside_down and light": plain and any(c.zoom > 1 or c.upside_down or c.light for c in changes),
            "size and task_options": plain and (self.size or self.task_options),
            "autoaugment, cutout and flip: alternate": not plain
            and any(c.autoaugment or c.cutout or c.flip == "alternate" for c in changes),
            "teacher": not plain and self.teacher,
            "label_smoothing": not plain and any(self.smoothing(stage) for stage in self.stages),
            "sizes": not plain and any(stage.sizes for stage in self.stages),
        }
        if found := [name for name, given in wrong.items() if given]:
            raise ValueError(f"{'; '.join(found)}: not for {self.task}. Leave out")
        return self

    @model_validator(mode="after")
    def _has_grids(self) -> Recipe:
        for i, stage in enumerate(self.stages):
            if stage.bits is not None:
                try:
                    self.plan(stage)
                except InputError as error:
                    raise ValueError(f"stage {i + 1}: {'; '.join(map(str, error.problems))}") from error
        return self

    @field_validator("preprocess")
    @classmethod
    def _can_be_done(cls, text: str | None) -> str | None:
        Preprocessing().changed(text or "resize=none")
        return text

    def preprocessing(self, own: Preprocessing) -> Preprocessing:
        """What is done to the pictures of a data set, from what it says itself."""
        chosen = own if self.preprocess is None else own.changed(self.preprocess)
        normal = self.normalisation
        return chosen if normal is None else replace(chosen, mean=normal.mean, std=normal.std)

    def augmentation(self, stage: Stage) -> Augment:
        """What changes the training images of a stage."""
        return self.augment if stage.augment is None else stage.augment

    def smoothing(self, stage: Stage) -> float:
        """Label smoothing in a stage."""
        return self.label_smoothing if stage.label_smoothing is None else stage.label_smoothing

    def plan(self, stage: Stage) -> BitPlan:
        """Bits and quantisers in a quantised stage. Raises InputError if there are no such grids."""
        assert stage.bits is not None
        return BitPlan(
            stage.bits, stage.weight_bits, self.first_bits, self.last_bits, stage.levels, self.bits_by_layer,
            self.weight_bits_by_layer, self.output_bits, self.output_signed, self.activation, self.weight_quantiser,
        )  # fmt: skip


def _known(name: str, quantisers: Mapping[str, object]) -> str:
    if name not in quantisers:
        raise ValueError(f"must be one of {', '.join(sorted(quantisers))}")
    return name


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in recipe_folder().glob("*.yaml"))


def recipe_folder() -> Path:
    """Folder of the shipped recipes: inside an installed package, or beside it in a source tree."""
    package = Path(str(resources.files("fastsnn_deploy")))
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by name or from a YAML file. Raises InputError naming the file and every wrong key and value."""
    path = Path(name_or_path)
    if not path.suffix:
        path = recipe_folder() / f"{name_or_path}.yaml"
        if not path.exists():
            raise unknown("recipe", str(name_or_path), recipe_names(), "give the path of a .yaml file")
    recipe = of_schema(Recipe, read_yaml(path, "recipe file"), path, "recipe")
    late = [i for i, stage in enumerate(recipe.stages) if stage.bits is None and i > 0]
    if late or recipe.stages[-1].bits is None:
        raise InputError(f"{path}: only the first stage may be in floating point, and the last must have bits")
    return recipe
