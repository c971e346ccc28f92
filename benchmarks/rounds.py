"""Timing several programs in turns, so that noise of the machine hits all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Sample:
    """Seconds of every repetition, and why there are none if the program failed."""

    seconds: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def stopwatch(call: Callable[[], object]) -> float:
    """Seconds that a call takes; the garbage of what ran before is collected first."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(
    timers: Mapping[str, Callable[[], float]],
    repeat: int,
    *,
    once: frozenset[str] = frozenset(),
    failures: tuple[type[Exception], ...] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Sample]:
    """Every timer `repeat` times, round robin; those named in `once` in the first round only.

    A timer that raises one of `failures` is not called again.
    """
    samples = {name: Sample() for name in timers}
    for turn in range(repeat):
        for name, timer in timers.items():
            sample = samples[name]
            if sample.failure or (turn and name in once):
                continue
            try:
                sample.seconds.append(timer())
            except failures as error:
                sample.failure = str(error)
            else:
                progress(f"round {turn + 1} of {repeat}: {name} {sample.seconds[-1]:.3f} s")
    return samples
