"""Limits of stock Lava and of the chip that shape a thermometer network. Sources: Lava 0.10.0, lava-dl 0.6.0."""

from __future__ import annotations

WEIGHT_MAX = 127
"""Greatest magnitude of a weight that this target writes: 8 signed bits, without -128 so that signs can be changed."""

WEIGHT_MIN_STOCK = -128
"""Least weight that a dense layer keeps when its signs are mixed (lava-dl netx/utils.py, optimize_weight_bits)."""

WEIGHT_MAX_EXCITATORY = 255
"""Greatest weight that a dense layer keeps when no weight is negative."""

BIAS_MIN, BIAS_MAX = -4096, 4095
"""The chip's 13-bit bias mantissa, in units of a weight at NetX's fixed bias exponent 6. Lava itself stores 16 bits."""

THRESHOLD_MAX = 2**17 - 1
"""vThMant has 17 bits. Potentials saturate at 2**23 - 1 in 1/64 of a weight, so they never exceed this threshold."""

CURRENT_MAX = 2**17 - 1
"""u of Lava's LIF wraps beyond 2**23 in 1/64 of a weight (lif/models.py)."""

STATE_MAX = 2**23 - 1
"""Lava's Conv and Dense send sums of 24 signed bits (conv/utils.py, signed_clamp)."""

INT8_MAX = 127
"""Kernel, stride, padding, dilation and groups are int8 in Lava's Conv; 128 groups give zeros without an error."""

DELAY_MAX = 62
"""Longer delays are clamped (lava-dl netx/hdf5.py)."""

MAX_WEIGHTS = 2**27
"""Most weights of one layer that are built; an int64 array of 1 GiB."""

MAX_INPUT_LEVELS = 64
"""Most levels of an image that a later stage reads and that therefore becomes a thermometer code itself."""
