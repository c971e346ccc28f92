"""How many int8 products a second these processors make at best, as the engine multiplies."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from fastsnn_deploy.graph import Conv2d
from fastsnn_deploy.simulators.cpu.products import Shape, products

CHANNELS, SIDE, ROWS, ROUNDS = 64, 16, 40, 12
"""A convolution that suits every way of computing one: 3x3, whole registers of channels, in a second-level cache."""


def int8_peak(threads: int) -> float:
    """Products a second of one thread while `threads` of them multiply, of the fastest way there is.

    The best of several rounds, of the slowest thread: what a layer that does nothing else could reach here and now.
    """
    rng = np.random.default_rng(0)
    shape = (CHANNELS, SIDE, SIDE)
    conv = Conv2d(
        name="peak", shape=shape, weight=rng.integers(-7, 8, (CHANNELS, CHANNELS, 3, 3), np.int8), padding=(1, 1),
        exponent=np.zeros(CHANNELS, dtype=np.int64),
    )  # fmt: skip
    rows = rng.integers(0, 4, (ROWS, CHANNELS * SIDE * SIDE)).astype(np.uint8)
    work = ROWS * int(conv.fan_out(shape).sum())

    def seconds(_: int) -> float:
        torch.set_num_threads(1)
        best = np.inf
        for _round in range(ROUNDS):
            start = time.thread_time()
            way.call(rows, 0)
            best = min(best, time.thread_time() - start)
        return float(best)

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads) as pool:
            rates = []
            for way in products(conv, Shape(shape, shape), 3, None, True):
                if way.name != "winograd":  # which makes fewer products
                    rates.append(work / max(pool.map(seconds, range(threads))))
        return max(rates)
    finally:
        torch.set_num_threads(before)
