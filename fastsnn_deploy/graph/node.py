"""What every node of a spiking graph has: a name, its inputs, a shape, and value equality over its arrays.

Two signals exist. *Spikes* (integers: -1, 0, 1 in the unary code, any payload in the graded code) leave inputs,
populations, max pools, and the routing nodes (flatten, concat). *Synaptic input* leaves synapses and enters populations
and readouts. Shapes never include the batch: (C, H, W) or (N,).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from fastsnn_deploy.graph.arithmetic import Int64
from fastsnn_deploy.graph.ranges import Range

Signal = Literal["spikes", "synaptic input", "none"]

NODE_TYPES: dict[str, type[Node]] = {}
"""Every node type by the name used in files. Filled by `register`."""

N = TypeVar("N", bound="type[Node]")


def register(cls: N) -> N:
    """Class decorator: make a node type known to files and validation under its class name."""
    NODE_TYPES[cls.__name__] = cls
    return cls


@dataclass(frozen=True, eq=False, kw_only=True)
class Node(ABC):
    """A vertex of the graph.

    name: unique in the graph. inputs: names of the nodes it reads, in order. shape: of what it emits, without
    the batch. module: dotted path of the module in the user's network that this node comes from.
    """

    emits: ClassVar[Signal] = "none"
    reads: ClassVar[Signal] = "none"
    layer: ClassVar[bool] = False
    """It is a layer of reports: an input, a population, a max pool, a readout."""
    spiking: ClassVar[bool] = False
    """It sends spikes of its own, rather than those of others."""
    arity: ClassVar[int | None] = None
    """How many nodes it reads; None: one or more."""
    array_dtypes: ClassVar[dict[str, Any]] = {}

    name: str
    inputs: tuple[str, ...] = ()
    shape: tuple[int, ...]
    module: str = ""

    def __post_init__(self) -> None:
        """Turn array fields into read-only contiguous arrays of their declared dtype, refusing lossy casts."""
        for field, dtype in self.array_dtypes.items():
            given = np.asarray(getattr(self, field))
            kept = given.dtype == dtype and given.flags.owndata and given.flags.c_contiguous
            if kept and not given.flags.writeable:  # as another node has left it
                continue
            value = np.ascontiguousarray(given.astype(dtype)) if given.ndim else given.astype(dtype)
            if given.dtype != value.dtype and not np.array_equal(given, value):
                raise ValueError(f"{self.name}: {field} holds values that do not fit {np.dtype(dtype).name}")
            value.flags.writeable = False
            object.__setattr__(self, field, value)
        for field in ("inputs", "shape"):
            object.__setattr__(self, field, tuple(getattr(self, field)))

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in dataclasses.fields(self))

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.name))

    @property
    def edge_delays(self) -> tuple[int, ...]:
        """Steps by which what each input sends arrives later."""
        return (0,) * len(self.inputs)

    @abstractmethod
    def output_shape(self, *sources: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what it emits for inputs of these shapes. Raises ValueError if they do not fit."""

    @abstractmethod
    def value(self, *inputs: Int64) -> Int64:
        """Value in the integer network, int64 [N, *shape], from those of its inputs, int64 [N, *their shape]."""

    @abstractmethod
    def range(self, sources: list[Range], gain: Fraction) -> Range:
        """Range of all that it emits, count or synaptic input, from those of its inputs; gain: `Schedule.gain`."""

    def potential_range(self, sources: list[Range], gain: Fraction) -> Range | None:
        """Range of its membrane potential at any time; None if it has none."""
        return None

    def problems(self, sources: list[Node]) -> Iterator[str]:
        """What is wrong with it, once shapes and integers are known to be right."""
        return iter(())

    @property
    def channels(self) -> int:
        """Length of the first axis of `shape`: channels of a feature map, or neurons of a vector."""
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of elements the node emits."""
        return int(np.prod(self.shape, dtype=np.int64))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and bool(a == b)


def same_shape(sources: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """The one shape of synaptic inputs that add. Raises ValueError if there are several."""
    if len(set(sources)) > 1:
        raise ValueError(f"adds synaptic inputs of different shapes: {list(sources)}")
    return sources[0]


def positive(values: np.ndarray) -> bool:
    """All are finite and above 0."""
    return bool(np.isfinite(values).all() and (values > 0).all())
