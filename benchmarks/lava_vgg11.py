"""A step of VGG-11 (32x32 images) on Lava's own processes alone: Conv, Dense, LIF, with random weights and spikes.

Needs only Lava with the versions it asks for (Python 3.10, NumPy 1; docs/conformance.md says how to get them), because
its Conv stops under NumPy 2 from 128 output channels on.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

try:
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF
except (ImportError, ValueError) as error:  # ValueError: on Python 3.11 and later
    raise SystemExit(f"Lava cannot be imported: {error}. docs/conformance.md says how to get it") from None

LAYERS = ((3, 64, 32, 1), (64, 128, 32, 2), (128, 256, 16, 1), (256, 256, 16, 2), (256, 512, 8, 1), (512, 512, 8, 2),
          (512, 512, 4, 1), (512, 512, 4, 2))  # fmt: skip
"""Source channels, channels, side of the source map, stride; as `networks.py` has them."""

DENSE = (2048, 4096, 4096, 10)


def network(rng: np.random.Generator, density: float) -> tuple[RingBuffer, int]:
    """Its source and its number of neurons; about `density` of the source sends in a step."""
    source = RingBuffer(data=(rng.random((3, 32, 32, 1)) < density).astype(int).transpose(1, 2, 0, 3))
    last, neurons = source.s_out, 0
    for inputs, outputs, side, stride in LAYERS:
        weight = rng.integers(-7, 8, (outputs, 3, 3, inputs))
        conv = Conv(weight=weight, input_shape=(side, side, inputs), stride=(stride, stride), padding=(1, 1))
        last.connect(conv.s_in)
        last, neurons = _neurons(conv.a_out, neurons)
    last = last.flatten()
    for inputs, outputs in pairwise(DENSE):
        dense = Dense(weights=rng.integers(-7, 8, (outputs, inputs)))
        last.connect(dense.s_in)
        last, neurons = _neurons(dense.a_out, neurons)
    return source, neurons


def _neurons(port: object, neurons: int) -> tuple[object, int]:
    lif = LIF(shape=port.shape, vth=1, du=4095, dv=0)
    port.connect(lif.a_in)
    return lif.s_out, neurons + int(np.prod(port.shape))


def main() -> None:
    """Times `--steps` steps after two others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--density", type=float, default=0.2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.steps < 1 or not 0 <= given.density <= 1:
        parser.error("--steps must be at least 1, --density within 0 and 1")
    if given.out and not given.out.parent.is_dir():
        parser.error(f"--out: there is no folder {given.out.parent}")
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        parser.error(f"Lava's Conv stops under NumPy {np.__version__}. docs/conformance.md says how to get NumPy 1")
    source, neurons = network(np.random.default_rng(0), given.density)
    config = Loihi2SimCfg(select_tag="fixed_pt")
    source.run(condition=RunSteps(2), run_cfg=config)
    seconds = []
    for _ in range(given.steps):
        start = time.perf_counter()
        source.run(condition=RunSteps(1), run_cfg=config)
        seconds.append(time.perf_counter() - start)
    source.stop()
    median = float(np.median(seconds))
    result = {"neurons": neurons, "seconds_a_step": seconds, "median": median, "python": platform.python_version(),
              "numpy": np.__version__, "images_per_second_of_18_steps": 1 / (18 * median)}  # fmt: skip
    print(json.dumps(result, indent=1))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
