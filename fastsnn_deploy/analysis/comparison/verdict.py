"""A comparison in plain words: what is lost, where, and what brings it back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fastsnn_deploy.analysis.comparison.advice import Advice, Gain
from fastsnn_deploy.analysis.comparison.judge import Score
from fastsnn_deploy.tables import percent

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.comparison.layers import LayerLoss
    from fastsnn_deploy.analysis.comparison.result import Comparison, Stage

SMALL_LOSS = 0.005
"""Of answers, as a share of their variance; of images: below it nothing is lost."""

CLIPS = 0.01
"""Share of a layer's values from which clipping is worth a word."""


def verdict(found: Comparison) -> tuple[str, ...]:
    """Sentences, the most important first."""
    return (*_file(found), *_quantisation(found), *_integers(found), *_spikes(found))


def _file(found: Comparison) -> Iterator[str]:
    if not found.file_differences:
        return
    first, *rest = map(str, found.file_differences)
    more = f" ({len(rest):,} more places)" if rest else ""
    again = found.converted
    gain = "" if again is None else f"; exported again, the integer network {_state(again.accuracy, again.error)}"
    yield f"{found.file} is not the network of this model: {first}{more}{gain}."


def _quantisation(found: Comparison) -> Iterator[str]:
    floating, quantised = found.stage("float"), found.stage("quantised")
    if not found.labels_guide and not is_lost(floating, quantised, False):
        yield f"Quantisation loses nothing that these images show: {_pair(floating, quantised)}."
        return
    for advice in found.advice:
        yield _advised(advice, found)
    if found.advice:
        return
    state = _pair(floating, quantised)
    if found.labels_guide and quantised is not None:
        state = f"accuracy {percent(quantised.accuracy)}; what it loses shows only beside the float network"
    helps = "no cure was tried"
    if found.advised:
        helps = (
            f"none of {found.tried} changes that were tried (steps, equalisation, biases, more bits of single layers) "
            "helps on images that they were not made from"
        )
    yield f"Quantisation: {state}; {helps}."


def _advised(advice: Advice, found: Comparison) -> str:
    fault = "" if not advice.layer else f"{advice.layer}: {_fault(advice, found.layer(advice.layer))}. "
    chosen, where = advice.chosen, f"on {found.judged:,} other images"
    words = f"{chosen.words[0].upper()}{chosen.words[1:]}" if advice.layer else f"All layers: {chosen.words}"
    other = "" if advice.other is None else f"; or {advice.other.words}: {_after(advice.other, found)}"
    return f"{fault}{words}: {_gain(chosen, found)} {where}{other}."


def _fault(advice: Advice, layer: LayerLoss) -> str:
    """What is wrong with a layer, by what cured it."""
    share = f"{_rounded(advice.loss)} of the loss is made here"
    kind = advice.chosen.kind
    if kind == "equalisation" and layer.lost_channels:
        return f"{layer.lost_channels} of {layer.channels} channels are always 0, not so in the float network; {share}"
    raised = advice.chosen.words.startswith("raise")
    if raised or (kind in ("step", "equalisation", "activation bits") and layer.clipped >= CLIPS):
        return f"{_rounded(layer.clipped)} of values clip; {share}"
    if kind in ("step", "equalisation") and layer.levels and layer.levels_used is not None:
        return f"{layer.levels_used} of {layer.levels} levels are used; {share}"
    if kind.startswith("weight") and layer.weight_bits:
        return f"{min(layer.weight_bits)}-bit weights; {share}"
    return share


def _integers(found: Comparison) -> Iterator[str]:
    quantised, integer = found.stage("quantised"), found.stage("integer")
    if found.file_differences or integer is None or quantised is None or not is_lost(quantised, integer, True):
        return
    worst = max(found.layers, key=lambda layer: layer.counts_differing or 0.0)
    cause = f": {found.cause}" if found.cause else ""
    yield (
        f"Integers: {_pair(quantised, integer)}; {percent(worst.counts_differing)} of the counts of {worst.layer} "
        f"differ{cause}."
    )


def _spikes(found: Comparison) -> Iterator[str]:
    spiking = found.stage("SNN")
    if spiking is None or spiking.agreement in (None, 1.0):
        return
    cured = found.settled
    yield (
        f"Spikes: {percent(spiking.agreement)} of answers are the integer network's, {found.why_unsettled}"
        + ("." if cured is None else f"; run until settled with negative spikes, {percent(cured.agreement)} are, "
           f"after {found.settled_after:.1f} steps.")
    )  # fmt: skip


def is_lost(before: Stage | None, after: Stage | None, accuracy_only: bool) -> bool:
    """Whether a form of the network is worse than the one before it."""
    if before is None or after is None:
        return False
    falls = None not in (before.accuracy, after.accuracy) and before.accuracy - after.accuracy > SMALL_LOSS  # type: ignore[operator]
    differs = after.error is not None and after.error - (before.error or 0.0) > SMALL_LOSS
    return falls or (differs and not accuracy_only)


def _pair(before: Stage | None, after: Stage | None) -> str:
    assert before is not None
    assert after is not None
    if before.accuracy is None or after.accuracy is None:
        return f"{percent(after.agreement)} of answers are those of the {before.name} network"
    return f"accuracy {percent(before.accuracy)} ({before.name}) and {percent(after.accuracy)} ({after.name})"


def _state(accuracy: float | None, error: float | None) -> str:
    if accuracy is not None:
        return f"is right on {percent(accuracy)}"
    return "" if error is None else f"has an error of {error:.3g}"


def _gain(gain: Gain, found: Comparison) -> str:
    parts = [] if gain.before.accuracy is None else [_change("accuracy", gain.before, gain.after)]
    name = "cross-entropy" if found.labels_guide else "error of the answers"
    return ", ".join([*parts, f"{name} {gain.before.loss:.3g} to {gain.after.loss:.3g}"])


def _after(gain: Gain, found: Comparison) -> str:
    name = "cross-entropy" if found.labels_guide else "error"
    right = "" if gain.after.accuracy is None else f"{percent(gain.after.accuracy)}, "
    return f"{right}{name} {gain.after.loss:.3g}"


def _change(name: str, before: Score, after: Score) -> str:
    return f"{name} {percent(before.accuracy)} to {percent(after.accuracy)}"


def _rounded(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.2g} %"


def lines(sentences: Sequence[str]) -> str:
    """The verdict as text."""
    return "\n".join(["Verdict", *(f"- {sentence}" for sentence in sentences)])
