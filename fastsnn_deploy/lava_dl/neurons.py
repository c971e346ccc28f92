"""Lava 0.10.0's fixed-point neuron models over whole series, bit for bit, in 32-bit integers as Lava keeps them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph.ranges import STATE_MAX
from fastsnn_deploy.lava_dl.limits import DECAY_UNITY, MESSAGE_PLACES, STATE_PLACES, WEIGHT_SHIFT
from fastsnn_deploy.lava_dl.network import Lif

Int32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

STATE_END = STATE_MAX + 1
"""u wraps and v saturates here: Loihi keeps both in 24 bits (lif/models.py:108-109)."""


class Series(NamedTuple):
    """What a layer does: int32 [T, N, *shape] each.

    messages: sent in each step. state: v of LIF after its reset; the activation of Delta, sigma of SigmaDelta and
    Sigma; None without a neuron. current: u of LIF, else None.
    """

    messages: Int32
    state: Int32 | None = None
    current: Int32 | None = None


def _decayed(state: Int32, decay: int) -> Int32:
    """state * (1 - decay / 4096), rounded towards zero (lif/models.py:147-151)."""
    product = state.astype(np.int64) * (DECAY_UNITY - decay)
    return np.asarray(np.sign(product) * (np.abs(product) >> 12), dtype=np.int32)


def _wrapped(current: Int32) -> Int32:
    """Lava's wrap of u, one turn only and asymmetric at the ends (lif/models.py:160-169)."""
    once = np.where(current > STATE_END, current - 2 * STATE_END, current)
    return np.where(once <= -STATE_END, current + 2 * STATE_END, once)


def lif(synaptic_input: Int32, neuron: Lif, bias: Int32, resets: Bools) -> Series:
    """LIF and LIFReset (lif/models.py:138-216, 434-456).

    synaptic input: int32 [T, N, *shape], in weight units. bias: int32, broadcasts to it. resets: bool [T], steps in
    which u and v are set to 0 before they take in that step's synaptic input.
    """
    steps = len(synaptic_input)
    bias = np.broadcast_to(bias << WEIGHT_SHIFT, synaptic_input.shape)
    u = np.zeros(synaptic_input.shape[1:], dtype=np.int32)
    v = np.zeros_like(u)
    spikes, voltages, currents = (np.zeros(synaptic_input.shape, dtype=np.int32) for _ in range(3))
    for t in range(steps):
        if resets[t]:
            u, v = np.zeros_like(u), np.zeros_like(v)
        u = _wrapped(_decayed(u, neuron.i_decay) + (synaptic_input[t] << WEIGHT_SHIFT))
        v = np.clip(_decayed(v, neuron.v_decay) + u + bias[t], -STATE_MAX, STATE_MAX)
        fired = v > neuron.threshold << WEIGHT_SHIFT
        v[fired] = 0
        spikes[t], voltages[t], currents[t] = fired, v, u
    return Series(spikes, voltages, currents)


def _encoded(activation: Int32, threshold: float) -> Int32:
    """Messages for a series of activations in 1/4096 (sdn/models.py:63-98, `delta_dynamics`).

    A change below the threshold is kept for later; the 6 bits that a message drops are not.
    """
    least = int(threshold * (1 << STATE_PLACES))
    before = np.zeros(activation.shape[1:], dtype=np.int32)
    residue = np.zeros_like(before)
    messages = np.zeros(activation.shape, dtype=np.int32)
    for t, value in enumerate(activation):
        change = value - before + residue
        sent = np.where(np.abs(change) >= least, change, 0)
        residue, before = change - sent, value
        messages[t] = sent >> (STATE_PLACES - MESSAGE_PLACES)
    return messages


def delta(data: Int32, threshold: float) -> Series:
    """Delta, the input of a sigma-delta network (sdn/models.py:258-270). data: int32 [T, N, *shape], activations."""
    activation = data << STATE_PLACES
    return Series(_encoded(activation, threshold), activation)


def sigma_delta(synaptic_input: Int32, threshold: float, bias: Int32) -> Series:
    """SigmaDelta with ReLU (sdn/models.py:104-168, 334-341). synaptic input: int32 [T, N, *shape]; bias in activation
    units."""
    sigma = np.cumsum(synaptic_input, axis=0, dtype=np.int32)
    activation = np.maximum(sigma + (bias << STATE_PLACES), 0)
    return Series(_encoded(activation, threshold), sigma)


def sigma(synaptic_input: Int32) -> Series:
    """Sigma, an output that sends its running sum in every step (sdn/models.py:37-56)."""
    total = np.cumsum(synaptic_input, axis=0, dtype=np.int32)
    return Series(total, total)
