"""The weights that stock NetX and Lava really compute with in a dense layer.

lava-dl rescales a dense matrix for Loihi's synapses, Lava clips and truncates it. Most integer matrices survive,
some come out changed or as zeros, without an error.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


class Sign(Enum):
    """Lava's SignMode: which signs a weight matrix holds (lava/utils/weightutils.py:12)."""

    MIXED = 1
    EXCITATORY = 2
    INHIBITORY = 3


def computed_weight(weight: Int64) -> npt.NDArray[np.float64] | None:
    """What Lava multiplies spikes with when a NetX file holds `weight`, int64 [O, I] -> float64 [O, I].

    Lava floors the sum of the products. None if lava-dl cannot load the matrix (all weights 0).
    Sources: lava/lib/dl/netx/utils.py:87-177 (`optimize_weight_bits`), lava/utils/weightutils.py:199-285
    (`truncate_weights`, `clip_weights`), lava/proc/dense/models.py:86-107.
    """
    if not weight.any():
        return None
    weight = _clipped_by_lava_dl(weight)
    scale_bits = _scale_bits(weight)
    if scale_bits < 0:
        return np.zeros(weight.shape)  # NumPy's shift by a negative number gives 0
    bits = 8 - scale_bits - _spare_bits(weight)
    return _truncated(_clipped_by_lava(weight << scale_bits), bits) / 2.0**scale_bits


def _clipped_by_lava_dl(weight: Int64) -> Int64:
    high, low = weight.max(), weight.min()
    if (high > 254 and low < 0) or (low < -256 and high > 0):
        return np.clip(weight, -256, 254)
    return weight


def _scale_bits(weight: Int64) -> int:
    """Left shift that fills 8 bits."""
    high, low = int(weight.max()), int(weight.min())
    if high < 0:
        return int(np.floor(np.log2(-256 / low)))
    if low >= 0:
        return int(np.floor(np.log2(255 / high)))
    positive = 127 / high if high else np.inf
    return int(np.floor(np.log2(min(positive, -128 / low)))) + 1


def _spare_bits(weight: Int64) -> int:
    """Low bits that are 0 in every weight, less one for a signed matrix."""
    signed = int(weight.max() >= 0 > weight.min())
    for bits in range(8, 0, -1):
        if not (weight % 2**bits).any():
            return bits - signed
    return -signed


def _sign(weight: Int64) -> Sign:
    if weight.min() >= 0:
        return Sign.EXCITATORY
    return Sign.INHIBITORY if weight.max() <= 0 else Sign.MIXED


def _clipped_by_lava(weight: Int64) -> Int64:
    sign = _sign(weight)
    if sign is Sign.INHIBITORY:
        return np.clip(weight, -255, 0)
    return np.clip(weight, 0, 255) if sign is Sign.EXCITATORY else np.clip(weight, -256, 255)


def _truncated(weight: Int64, bits: int) -> Int64:
    sign = _sign(weight)
    lost = 8 - bits + (sign is Sign.MIXED)
    if lost < 0:
        return np.zeros_like(weight)  # NumPy's shift by a negative number gives 0
    if sign is Sign.INHIBITORY:
        return -((-weight >> lost) << lost)
    return (weight >> lost) << lost
