"""What others measured on chips, beside what the estimator says of the same counts, also where it is wrong.

Only measurements are here whose counts are public, or whose network is, so that there is something to estimate from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsnn_deploy.analysis.counts import ConnectionCounts, Counts, LayerCounts
from fastsnn_deploy.analysis.energies import ENDS, Band
from fastsnn_deploy.analysis.energy import estimate
from fastsnn_deploy.analysis.hardware import load_hardware
from fastsnn_deploy.analysis.mapping.time import CoreLoad, Load

NOTEBOOK = "lava-dl, pilotnet notebook, stored output"
SECOND = "as quoted by a secondary source"


@dataclass(frozen=True)
class Fixture:
    """One measurement. quantity: what, with its unit. kind: "energy", "time" (a least time, never more than what was
    measured) or "static" (power times the measured time). note: what the estimate is made from."""

    name: str
    source: str
    hardware: str
    kind: str
    quantity: str
    measured: float
    estimate: Band
    note: str

    @property
    def ratio(self) -> float:
        """Estimate over measurement: 0.2 is five times too low."""
        return self.estimate.value / self.measured

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return vars(self) | {"estimate": self.estimate.to_dict(), "ratio": self.ratio}


PILOTNET_NEURONS = 39_600 + 76_032 + 26_460 + 8_064 + 5_632 + 2_560 + 100 + 50 + 10 + 1
"""Input and nine layers."""

PILOTNET_CORE = 3_168
"""Neurons of its fullest core."""


def fixtures() -> tuple[Fixture, ...]:
    """All of them, energies in microjoules, times in microseconds."""
    search = [
        Fixture(
            f"nearest neighbours, {spikes} spikes", "Frady et al. 2020, Pohoiki Springs, " + SECOND, name, "energy",
            "dynamic energy of a query, µJ", 1330.0, _energy(name, spikes * 76_800, 76_800 * 60, 0, 0),
            "spikes to 76,800 neurons, 60 steps",
        )
        for name in ("loihi1-davies2018", "loihi1-sanafe")
        for spikes in (667, 750)
    ]  # fmt: skip
    encoder = "3.0e5 synaptic operations, 1.0e4 updates, 2.0e4 messages"
    autoencoder = [
        Fixture(
            "autoencoder, 16 chips", "arXiv 2608.18341, " + SECOND, name, "energy", "dynamic energy of an image, µJ",
            40.6, _energy(name, 300_000, 0, 10_000, 20_000), encoder,
        )
        for name in ("loihi2", "loihi1-davies2018", "loihi1-sanafe")
    ]  # fmt: skip
    board = load_hardware("loihi2").power.board
    rails = load_hardware("loihi2").power.static
    assert board is not None
    assert rails is not None
    return (
        *search,
        *autoencoder,
        Fixture(
            "autoencoder, 16 chips", "arXiv 2608.18341, " + SECOND, "loihi2", "static", "static energy of an image, µJ",
            816.0 - 40.6, Band(*(16 * 48.3e-3 * getattr(board, end) for end in ENDS)),
            "16 chips for the measured 48.3 µs; the constant is made from this measurement",
        ),
        Fixture(
            "PilotNet LIF, 16 steps", NOTEBOOK, "loihi2", "static", "static energy of an image, µJ", 1661.0 - 1094.0,
            Band(*(1e3 / 408.9 * getattr(rails, end) for end in ENDS)),
            "one chip for the measured 2.446 ms; the constant is made from this measurement",
        ),
        Fixture(
            "PilotNet LIF, 16 steps", NOTEBOOK, "loihi2", "energy", "dynamic energy of an image, µJ", 1094.0,
            _energy("loihi2", 0, 16 * PILOTNET_NEURONS, 0, 0),
            "no spike at all, updates alone: spikes are not published, so this is the least",
        ),
        Fixture(
            "PilotNet LIF, 16 steps", NOTEBOOK, "loihi2", "time", "a step, µs", 1e6 / 408.9 / 16,
            _time("loihi2", 1, PILOTNET_CORE), "updates of the fullest core, no spike",
        ),
        Fixture(
            "PilotNet SDNN", NOTEBOOK, "loihi2", "time", "a frame, µs", 1e6 / 16.87, _time("loihi2", 1, PILOTNET_CORE),
            "updates of the fullest core, no spike; the board waits for its input",
        ),
        Fixture(
            "PilotNet SDNN, input preloaded", "arXiv 2310.03251, " + SECOND, "loihi2", "time", "a frame, µs", 1210.0,
            _time("loihi2", 1, PILOTNET_CORE), "updates of the fullest core, no spike",
        ),
        Fixture(
            "MNIST, NxTF, 14 cores", "arXiv 2101.04261, " + SECOND, "loihi1-davies2018", "time", "an image, µs", 6650.0,
            _time("loihi1-davies2018", 100, 0), "100 barriers alone: the network is not published",
        ),
        Fixture(
            "CIFAR-10 MobileNet, NxTF, 14 chips", "arXiv 2101.04261, " + SECOND, "loihi1-davies2018", "time",
            "an image, µs", 340_000.0, _time("loihi1-davies2018", 400, 1024),
            "400 steps of a core of 1,024 compartments, no spike",
        ),
    )  # fmt: skip


def _energy(name: str, operations: int, silent: int, active: int, messages: int) -> Band:
    """Microjoules."""
    hardware = load_hardware(name)
    connection = ConnectionCounts("", "Linear", (), True, 0, 0, synaptic_operations=operations)
    layer = LayerCounts(
        "", "Population", "", 1, 0, 1, (connection,), positive_spikes=active, neuron_updates_active=active,
        neuron_updates_inactive=silent,
    )  # fmt: skip
    more, price = messages - active, hardware.prices.message
    assert price is not None
    beyond = Band(*(more * getattr(price, end) for end in ENDS))
    return (estimate(Counts((layer,), 1, 1, 1), hardware).dynamic + beyond).times(1e-6)


def _time(name: str, steps: int, neurons: int) -> Band:
    """Microseconds of so many steps of one core of silent neurons."""
    nothing, updates = np.zeros(1, dtype=np.int64), np.array([neurons * steps])
    hardware = load_hardware(name)
    load = Load(hardware, 1, steps, {"core": CoreLoad(nothing, updates, nothing)}, None)
    return Band(*(load.image_ns(hardware.numbers(end)) for end in ENDS)).times(1e-3)
