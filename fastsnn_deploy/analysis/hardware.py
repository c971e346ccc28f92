"""Hardware profiles: energy, time and power constants, each with its band, status, source and operating point.

A profile is one YAML file. Shipped profiles are found by name, others by path; nothing in a file is executed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from fastsnn_deploy.analysis.chip import Chip, Status, Strict, Text
from fastsnn_deploy.errors import InputError, Problem, unknown
from fastsnn_deploy.files import existing_file
from fastsnn_deploy.graph import MaxPool2d, Synapse
from fastsnn_deploy.graph.node import NODE_TYPES
from fastsnn_deploy.reading import decoded, read_yaml, yaml_of

Numbers = Mapping[str, float]
"""One number for each constant of a profile, by key, such as "energies.message"."""

Quantity = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Constant(Strict):
    """A number of a profile. low <= value <= high is the band; `band` says where its ends come from."""

    value: Quantity
    low: Quantity
    high: Quantity
    unit: Text
    band: Text
    status: Status
    source: Text
    operating_point: Text
    note: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Constant:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"band [{self.low:g}, {self.high:g}] does not hold the value {self.value:g}")
        return self


class EnergyConstant(Constant):
    """Picojoules an operation.

    basis "marginal": what one more operation costs. "aggregate": all power of the chip, static included, divided by
    its operations; it must not be added to any other term.
    """

    unit: Literal["pJ"]
    basis: Literal["marginal", "aggregate"]


class TimeConstant(Constant):
    """Nanoseconds."""

    unit: Literal["ns"]


class PowerConstant(Constant):
    """Milliwatts."""

    unit: Literal["mW"]


class Energies(Strict):
    """Energy constants. All are marginal but `aggregate_synaptic_operation`; a missing one is not priced.

    synaptic_operation_by_type: overrides for connections of a node type (Conv2d, Linear, MaxPool2d, ...).
    neuron_update_inactive, neuron_update_active: one quantity at two levels, for a neuron that stays silent in a
    step and for one that fires; never both for one neuron in one step.
    message: one message to one destination core. hop: one message over one link between tiles.
    multiply_accumulate: of a conventional network, and of a graded payload where `kind` is "arithmetic".
    memory_word: one word of 64 bits to or from a memory of so many KiB, or "dram".
    """

    synaptic_operation: EnergyConstant
    synaptic_operation_by_type: dict[str, EnergyConstant] = Field(default_factory=dict)
    neuron_update_inactive: EnergyConstant | None = None
    neuron_update_active: EnergyConstant | None = None
    message: EnergyConstant | None = None
    hop: EnergyConstant | None = None
    multiply_accumulate: EnergyConstant | None = None
    aggregate_synaptic_operation: EnergyConstant | None = None
    memory_word: dict[str, EnergyConstant] = Field(default_factory=dict)

    @field_validator("memory_word")
    @classmethod
    def _sizes(cls, value: dict[str, EnergyConstant]) -> dict[str, EnergyConstant]:
        for name in value:
            if name != "dram" and not (name.isdecimal() and int(name) > 0):
                raise ValueError(f"'{name}' is neither a number of KiB in quotes nor dram")
        return value

    @field_validator("synaptic_operation_by_type")
    @classmethod
    def _known_types(cls, value: dict[str, EnergyConstant]) -> dict[str, EnergyConstant]:
        known = sorted(name for name, node in NODE_TYPES.items() if issubclass(node, (Synapse, MaxPool2d)))
        for name in value:
            if name not in known:
                raise ValueError(f"'{name}' is not a type of connection. Known types: {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Energies:
        if (self.neuron_update_inactive is None) != (self.neuron_update_active is None):
            raise ValueError("neuron_update_inactive and neuron_update_active must be given together")
        for key, constant in named_constants(self):
            expected = "aggregate" if key == "aggregate_synaptic_operation" else "marginal"
            if constant.basis != expected:
                raise ValueError(f"{key} has basis {constant.basis}, must be {expected}")
        return self

    def of_synapse(self, type_name: str) -> tuple[str, EnergyConstant]:
        """Key and constant that price a synaptic operation of a connection of this node type."""
        if type_name in self.synaptic_operation_by_type:
            return f"synaptic_operation_by_type.{type_name}", self.synaptic_operation_by_type[type_name]
        return "synaptic_operation", self.synaptic_operation


class Times(Strict):
    """Durations. step: a fixed length of the time step; step_minimum: of a step in which little happens. input_value:
    what one value takes from the host to the chip or back, apart from all others."""

    step: TimeConstant | None = None
    step_minimum: TimeConstant | None = None
    synaptic_operation: TimeConstant | None = None
    neuron_update_inactive: TimeConstant | None = None
    neuron_update_active: TimeConstant | None = None
    spike_generation: TimeConstant | None = None
    hop: TimeConstant | None = None
    input_value: TimeConstant | None = None


class Power(Strict):
    """Static power of one chip, by boundary. static: its own rails; board: with everything on a board, one chip's
    share."""

    static: PowerConstant | None = None
    board: PowerConstant | None = None


class Spikes(Strict):
    """What a chip can send. signed: spikes of -1; graded: spikes with a payload."""

    signed: bool
    graded: bool


class Hardware(Strict):
    """A hardware profile.

    based_on: the shipped profile whose values hold wherever this one states none.
    kind: "neuromorphic" (a chip) or "arithmetic" (adders and multipliers alone, no memory, no control).
    scope: what its energies include. spikes: what the chip can send, where that is known. chip: what it can hold.
    caveats: sentences that every report on this profile repeats.
    """

    name: Text
    based_on: Text | None = None
    title: Text
    kind: Literal["neuromorphic", "arithmetic"]
    process: Text
    operating_point: Text
    scope: Text
    energies: Energies | None = None
    times: Times = Times()
    power: Power = Power()
    spikes: Spikes | None = None
    chip: Chip | None = None
    caveats: Annotated[tuple[Text, ...], Field(strict=False)] = ()

    def require_prices(self) -> None:
        """Raise InputError if it has no energies."""
        _ = self.prices

    @property
    def prices(self) -> Energies:
        """Its energies. Raises InputError if it has none."""
        if self.energies is None:
            raise InputError(f"hardware profile '{self.name}' has no energies: none are published. Use it with `map`")
        return self.energies

    @property
    def limits(self) -> Chip:
        """What the chip can hold. Raises InputError if the profile does not say."""
        if self.chip is None:
            known = ", ".join(name for name in available() if load_hardware(name).chip is not None)
            raise InputError(f"hardware profile '{self.name}' has no limits of a chip. With limits: {known}")
        return self.chip

    def numbers(self, end: str) -> Numbers:
        """Every constant at one end of its band: "low", "value" or "high"."""
        return {key: getattr(constant, end) for key, constant in self.constants()}

    def constants(self) -> Iterator[tuple[str, Constant]]:
        """Every constant with its key, such as "energies.message"."""
        for section in ("energies", "times", "power"):
            found = getattr(self, section)
            for key, constant in named_constants(found) if found is not None else ():
                yield f"{section}.{key}", constant


def named_constants(section: BaseModel) -> Iterator[tuple[str, Any]]:
    """The constants of one section by key; overrides by type as "synaptic_operation_by_type.Conv2d"."""
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Constant):
            yield key, value
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", constant) for name, constant in value.items())


def available() -> tuple[str, ...]:
    """Names of the shipped profiles, sorted."""
    return tuple(sorted(_shipped()))


def load_hardware(name_or_path: str | Path) -> Hardware:
    """A shipped profile by its name, or a profile file (*.yaml, *.yml) by its path.

    Raises InputError naming the file and listing every wrong key with its value; for an unknown name, the known ones.
    """
    text = str(name_or_path)
    shipped = _shipped()
    if text in shipped:
        return _parse(shipped[text].read_bytes(), shipped[text].name)
    if Path(text).suffix in (".yaml", ".yml") or os.path.exists(text):
        return _parse(existing_file(text, "hardware profile").read_bytes(), text)
    raise unknown("hardware profile", text, shipped, "give the path of a .yaml file")


def _shipped() -> dict[str, Path]:
    package = Path(str(files("fastsnn_deploy")))
    folder = package / "hardware_profiles"
    if not folder.is_dir():  # a source checkout keeps the profiles beside the package
        folder = package.parent / "hardware_profiles"
    if not folder.is_dir():
        raise InputError("the shipped hardware profiles are missing. Install fastsnn-deploy again")
    return {path.stem: path for path in folder.glob("*.yaml")}


@lru_cache(maxsize=32)
def _parse(content: bytes, path: str) -> Hardware:
    data = yaml_of(decoded(content, path, "hardware profile"), path, "hardware profile")
    if not isinstance(data, dict):
        raise InputError(
            f"{path}: holds {type(data).__name__}, not a table of keys. Write it as the shipped profiles are"
        )
    data = _merged(path, data)
    try:
        return Hardware.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: is not a valid hardware profile", [_problem(e) for e in error.errors()]) from error


def _merged(path: str, data: dict[str, Any]) -> dict[str, Any]:
    """`data` over the shipped profile that it is `based_on`, table by table: what it does not state stays. `chip` may
    be the name of another."""
    if isinstance(data.get("chip"), str):  # that of another profile
        data = data | {"chip": _below(path, "chip", data["chip"]).get("chip")}
    base = data.get("based_on")
    return data if base is None else _over(_below(path, "based_on", base), data)


def _below(path: str, key: str, name: Any) -> dict[str, Any]:
    """The plain values of the shipped profile that `key` of a profile names."""
    shipped = _shipped()
    if not isinstance(name, str) or name not in shipped:
        raise InputError(f"{path}: {key}: {unknown('hardware profile', name, shipped)}")
    return _merged(name, read_yaml(shipped[name], "hardware profile"))


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key: _over(below[key], value) for key, value in above.items() if _tables(below.get(key), value)}
    return below | above | both


def _tables(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def _problem(error: Any) -> Problem:
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    message = error["msg"].removeprefix("Value error, ")
    found = error["input"]
    shown = "" if isinstance(found, (dict, BaseModel)) else f", found {found!r}"
    return Problem(where, f"{message[:1].lower()}{message[1:]}{shown}")
