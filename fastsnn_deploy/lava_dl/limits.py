"""Limits and fixed numbers of stock Lava, lava-dl and the chip, each once. Sources: Lava 0.10.0, lava-dl 0.6.0.

The state of 24 signed bits that graphs share with them is `graph.ranges.STATE_MAX`.
"""

from __future__ import annotations

from fastsnn_deploy.graph.ranges import STATE_MAX

WEIGHT_SHIFT = 6
"""Lava's LIF works in 1/64 of a weight: synaptic input, bias and threshold are shifted left by 6 (lif/models.py)."""

DECAY_UNITY = 4096
"""A decay of current or voltage that forgets everything in one step (lif/models.py:147)."""

MESSAGE_PLACES = 6
"""Binary places of a sigma-delta message (netx/hdf5.py:60)."""

STATE_PLACES = 12
"""Binary places of the sigma-delta state, 6 of them cut off in a message (netx/hdf5.py:175)."""

MESSAGE_BITS = 16
"""Message bits after a sigma-delta layer; after a LIF layer messages are binary (netx/hdf5.py:135-160)."""

WEIGHT_MAX = 127
"""Greatest magnitude of a weight that is written: 8 signed bits, without -128 so that signs can be changed."""

WEIGHT_MIN_STOCK = -128
"""Least weight that a dense layer keeps when its signs are mixed (lava-dl netx/utils.py, optimize_weight_bits)."""

WEIGHT_MAX_EXCITATORY = 255
"""Greatest weight that a dense layer keeps when no weight is negative."""

FLOAT32_EXACT = 2**24
"""NetX stores weights and biases as float32, which holds every integer up to here."""

BIAS_MIN, BIAS_MAX = -4096, 4095
"""The chip's 13-bit bias mantissa, in units of a weight at NetX's fixed bias exponent 6."""

BIAS_MAX_LAVA = 2**15 - 1
"""bias_mant is int16 in Lava's CPU models (lif/models.py:91); greater values wrap without an error."""

ACTIVATION_LIMIT = 2 ** (31 - STATE_PLACES)
"""Activations, biases and thresholds of sigma-delta neurons are shifted by 12 into 32 signed bits (sdn/process.py)."""

CURRENT_MAX = STATE_MAX >> WEIGHT_SHIFT
"""Beyond this synaptic input, in units of a weight, u of Lava's LIF wraps (lif/models.py)."""

THRESHOLD_MAX = CURRENT_MAX
"""vThMant has 17 bits. A potential saturates at the state's end in 1/64 of a weight, so it never exceeds this."""

THRESHOLD_LIMIT = 2 ** (31 - WEIGHT_SHIFT)
"""The threshold in 1/64 of a weight must fit 32 signed bits in Lava's CPU models (lif/models.py, scale_threshold)."""

INT8_MAX = 127
"""Kernel, stride, padding, dilation and groups are int8 in Lava's Conv (conv/models.py:26-30); 128 groups give zeros.

Channels are taken modulo an int8 as well (conv/utils.py:274, 279), which NumPy 2 refuses beyond it.
"""

DELAY_MAX = 62
"""Longer delays are clamped (lava-dl netx/hdf5.py:425-429)."""

MAX_WEIGHTS = 2**27
"""Most weights of one layer that are built; an int64 array of 1 GiB."""

MAX_INPUT_LEVELS = 64
"""Most levels of an image that a later stage reads and that therefore becomes a thermometer code itself."""
