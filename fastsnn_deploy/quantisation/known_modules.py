"""The modules a quantised model may consist of, each with its constructor arguments as plain data.

This list is the vocabulary of checkpoints, tracing and lowering. A checkpoint can name nothing else, so reading
one never runs foreign code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, TypeAdapter
from torch import nn

from fastsnn_deploy.quantisation import filters, layers, moves


def _attributes(*names: str) -> Callable[[nn.Module], dict[str, Any]]:
    def config(module: nn.Module) -> dict[str, Any]:
        return {name: plain_value(getattr(module, name)) for name in names}

    return config


def plain_value(value: Any) -> Any:
    """Tuples become lists; everything else stays. Plain data for checkpoints."""
    return [plain_value(v) for v in value] if isinstance(value, (tuple, list)) else value


def _upsample(module: nn.Module) -> dict[str, Any]:
    return {"size": plain_value(module.size), "scale_factor": plain_value(module.scale_factor), "mode": module.mode}


_norm = _attributes("num_features", "eps", "momentum", "affine", "track_running_stats")
_own: Callable[[nn.Module], dict[str, Any]] = lambda module: module.config()  # type: ignore[operator]  # noqa: E731

KNOWN: dict[str, tuple[type[nn.Module], Callable[[nn.Module], dict[str, Any]]]] = {
    "QuantInput": (layers.QuantInput, _own),
    "QuantActivation": (layers.QuantActivation, _own),
    "QuantConv2d": (layers.QuantConv2d, _own),
    "QuantConvTranspose2d": (layers.QuantConvTranspose2d, _own),
    "QuantLinear": (layers.QuantLinear, _own),
    **{kind.__name__: (kind, _own) for kind in (moves.Subsample, moves.PadChannels, moves.SelectChannels)},
    **{kind.__name__: (kind, _own) for kind in (moves.PadSpace, moves.Scale, moves.Affine)},
    **{kind.__name__: (kind, _own) for kind in (filters.BorderAverage, filters.UnevenAverage, filters.Bilinear)},
    "BatchNorm2d": (nn.BatchNorm2d, _norm),
    "BatchNorm1d": (nn.BatchNorm1d, _norm),
    "MaxPool2d": (nn.MaxPool2d, _attributes("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    "AvgPool2d": (
        nn.AvgPool2d,
        _attributes("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, _attributes("output_size")),
    "Flatten": (nn.Flatten, _attributes("start_dim", "end_dim")),
    "Upsample": (nn.Upsample, _upsample),
    "Identity": (nn.Identity, _attributes()),
    "Dropout": (nn.Dropout, _attributes("p")),
    "Dropout2d": (nn.Dropout2d, _attributes("p")),
}


def kind_of(module: nn.Module) -> str | None:
    """Name of the module's type in `KNOWN`, or None. Subclasses do not count: they may compute something else."""
    name = type(module).__name__
    return name if name in KNOWN and KNOWN[name][0] is type(module) else None


def describe(module: nn.Module) -> dict[str, Any]:
    """A known module as plain data: {"type": ..., "config": {...}}."""
    kind = kind_of(module)
    if kind is None:
        raise TypeError(f"{type(module).__name__} is not a known module")
    return {"type": kind, "config": KNOWN[kind][1](module)}


def construct(description: dict[str, Any]) -> nn.Module:
    """Inverse of `describe`. Raises KeyError, TypeError or ValueError for data that describes no known module."""
    cls, config_of = KNOWN[description["type"]]
    config = {key: tuple(v) if isinstance(v, list) else v for key, v in dict(description["config"]).items()}
    kinds = _kinds(description["type"])
    for key, value in config.items():
        if key in kinds:
            kinds[key].validate_python(value, strict=True)
    made = cls(**config)
    if foreign := config.keys() - config_of(made).keys():
        raise TypeError(f"{cls.__name__} has no option {', '.join(sorted(foreign))}")
    return made


MOST = 2**24
"""Greatest number in an option: channels, pixels, padding."""


@cache
def _kinds(name: str) -> dict[str, TypeAdapter[Any]]:
    """What each option of a layer may be, as its constructors declare it; those of the layer itself first."""
    cls, declared = KNOWN[name][0], dict[str, Any]()
    for base in cls.__mro__[: cls.__mro__.index(nn.Module)]:
        if "__init__" in vars(base):
            declared = get_type_hints(vars(base)["__init__"]) | declared
    kinds: dict[str, TypeAdapter[Any]] = {}
    for option, hint in declared.items():
        kind: Any = Annotated[hint, AfterValidator(_bounded if option in LISTS else _pair)]
        kinds[option] = TypeAdapter(kind)
    return kinds


LISTS = ("mean", "channels")
"""Options of any number of values; all others have one, or one for height and one for width."""


def _pair(value: Any) -> Any:
    if isinstance(value, tuple) and len(value) != 2:
        raise ValueError("must be one number or two")
    return _bounded(value)


def _bounded(value: Any) -> Any:
    """An option without numbers that no layer has."""
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, (int, float)) and not -MOST <= each <= MOST:
            raise ValueError(f"must be from {-MOST:,} to {MOST:,}")
    return value
