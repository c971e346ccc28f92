"""What stock lava-dl and Lava make of dense weights: `python stock_weights.py IN.npz OUT.npz`. Nothing of this project.

IN: arrays of integer weights [O, I]. OUT: for each the synaptic inputs of one-hot spikes, int64 [O, I]; arrays that
cannot be loaded are left out.
"""

import os
import sys

import numpy as np
import stock_runner  # noqa: F401 - makes Lava importable on Python 3.11 and later
from lava.lib.dl.netx.utils import optimize_weight_bits
from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights


def synaptic_inputs(weight):
    """Synaptic input of each input alone, as PyDenseModelBitAcc computes it (lava/proc/dense/models.py:77-107)."""
    weight, bits, exponent, _ = optimize_weight_bits(weight)
    sign = determine_sign_mode(weight.astype(np.int32))
    weight = truncate_weights(clip_weights(weight.astype(np.int32), sign, num_bits=8), sign, bits)
    return np.left_shift(weight, exponent) if exponent > 0 else np.right_shift(weight, -exponent)


def main(source, target):
    given = np.load(source)
    result = {}
    for name in given.files:
        try:
            result[name] = synaptic_inputs(given[name])
        except OverflowError:
            continue
    np.savez(target, **result)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
