"""Which layers lose what the network loses, and what helps: tried on some images, measured on others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, fx

from fastsnn_deploy.analysis.comparison.cures import Cure, cures, of_all_layers
from fastsnn_deploy.analysis.comparison.judge import Judge, Score
from fastsnn_deploy.analysis.comparison.places import Place

Attempt = tuple[Cure, float]
"""A cure, and by how much it lowers the loss on the images that it was made from."""

MOST = 5
"""Layers for which cures are tried."""

WORTH_TRYING = 0.03
"""Share of the loss from which a layer is looked at, and by which a cure must lower it."""

SERIOUS = 0.3
"""A cure that takes so much of the loss changes what the other layers cost: they are looked at anew."""

AS_GOOD, FREE = 0.9, 0.85
"""A cure that gains so much of the best one's gain is as good where it changes less; and where it costs no bits, but
the best does."""


@dataclass(frozen=True)
class Gain:
    """A cure on images that took no part in choosing it: what the network lost before and after."""

    words: str
    kind: str
    before: Score
    after: Score


@dataclass(frozen=True)
class Advice:
    """What helps a layer. loss: the layer's share of what was lost when it was tried. chosen: the cure that the advised
    model has, on top of those of the advice before. other: one that would do instead. layer: "" for the network."""

    layer: str
    loss: float
    chosen: Gain
    other: Gain | None = None


@dataclass(frozen=True, eq=False)
class Tried:
    """losses: by layer, share of the network's loss that goes where the layer does not round. advice: in the order in
    which it was found. tried: how many changed copies were measured. model: with the advice taken."""

    losses: Mapping[str, float]
    advice: tuple[Advice, ...]
    tried: int
    model: fx.GraphModule


class Adviser:
    """Tries cures layer by layer, the one that loses most first, each on top of those that were taken.

    fitted: judges on the images that steps and biases are set from; judged: on others. converts: whether a changed
    model has a spiking form. advance: called after each layer that was looked at.
    """

    def __init__(
        self, model: fx.GraphModule, places: Sequence[Place], fitted: Judge, judged: Judge,
        converts: Callable[[fx.GraphModule], bool], advance: Callable[[], None],
    ) -> None:  # fmt: skip
        self.model, self.places, self.fitted, self.judged = model, places, fitted, judged
        self.converts, self.advance = converts, advance
        self.advice: list[Advice] = []
        self.tried = 0

    @property
    def images(self) -> Tensor:
        """Raw images that steps and biases are set from."""
        return self.fitted.images

    def run(self) -> Tried:
        """Find out what each layer loses, and advise."""
        losses = first = self.losses()
        done: set[Place] = set()
        while len(done) < MOST:
            waiting = [place for place in self.places if place not in done and losses[place.layer] >= WORTH_TRYING]
            if not waiting:
                break
            place = max(waiting, key=lambda each: losses[each.layer])
            done.add(place)
            before = self.fitted.score.loss
            if self._try(place, losses[place.layer]) and self.fitted.score.loss < (1 - SERIOUS) * before:
                losses = self.losses()
            self.advance()
        self._try(None, 1.0)
        self.advance()
        return Tried(first, tuple(self.advice), self.tried, self.model)

    def losses(self) -> dict[str, float]:
        """By layer, the share of the loss that goes where it does not round."""
        whole = self.fitted.score.loss
        found = {place.layer: 1 - self.fitted.without(place.paths).loss / (whole or 1.0) for place in self.places}
        return {layer: max(0.0, share) for layer, share in found.items()}

    def _try(self, place: Place | None, loss: float) -> bool:
        """Try what applies to a layer, or to the network; take the best if it holds on the other images."""
        made = of_all_layers(self.model, self.images) if place is None else cures(self.model, place, self.images)
        ranked = self._ranked(made)
        for chosen, gain in ranked:
            score = self._confirmed(chosen)
            if score is None:
                continue
            words = Gain(chosen.words, chosen.kind, self.judged.score, score)
            other = self._other(ranked, chosen, gain)
            self.advice.append(Advice("" if place is None else place.layer, loss, words, other))
            self._take(chosen.model)
            return True
        return False

    def _ranked(self, made: Iterator[Cure]) -> list[Attempt]:
        """Cures that lower the loss on the images they were made from: the one to take, then the others by gain."""
        loss = self.fitted.score.loss
        found = [(cure, loss - self.fitted.of(cure.model, cure.paths).loss) for cure in made]
        self.tried += len(found)
        found = [(cure, gain) for cure, gain in found if gain > WORTH_TRYING * loss]
        free = [attempt for attempt in found if attempt[0].free]
        among = free if _most(free) >= FREE * _most(found) else found
        first = next((attempt for attempt in among if attempt[1] >= AS_GOOD * _most(among)), None)
        rest = sorted((attempt for attempt in found if attempt is not first), key=lambda attempt: -attempt[1])
        return rest if first is None else [first, *rest]  # cures are made in the order of what they change

    def _confirmed(self, cure: Cure) -> Score | None:
        """Its score on the other images, None if it does not help there or has no spiking form."""
        before, after = self.judged.score, self.judged.of(cure.model, cure.paths)
        worse = before.accuracy is not None and after.accuracy is not None and after.accuracy < before.accuracy
        helps = after.loss < (1 - WORTH_TRYING) * before.loss and not worse
        return after if helps and self.converts(cure.model) else None

    def _other(self, ranked: list[Attempt], chosen: Cure, gain: float) -> Gain | None:
        """The best cure of another price that gains at least half as much."""
        for cure, other in ranked:
            if cure.free != chosen.free and other >= gain / 2 and (score := self._confirmed(cure)) is not None:
                return Gain(cure.words, cure.kind, self.judged.score, score)
        return None

    def _take(self, model: fx.GraphModule) -> None:
        self.model = copy.deepcopy(model)
        self.fitted.take(self.model)
        self.judged.take(self.model)


def _most(found: Sequence[Attempt]) -> float:
    return max((gain for _, gain in found), default=0.0)
