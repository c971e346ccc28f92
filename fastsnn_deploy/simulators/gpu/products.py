"""Exact integer matrix products on hardware that multiplies floating point, or int8, fast.

Either every number is an integer of int8 and sums are int32 (tensor cores), or the largest possible sum of
magnitudes is below 2**24 (float32) or 2**53 (float64): then every partial sum is exact in any order. Convolutions
are written as such products, because library convolutions may transform their operands (Winograd, FFT) and round.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

EXACT = {torch.float32: 2**24, torch.float64: 2**53}
"""Integers of smaller magnitude, and their sums below it, are exact."""

DIGIT_BITS = 7
"""Bits of one signed int8 digit: x = sum of digit[i] * 2**(7 * i), digits in [-64, 63], the last in [-128, 127]."""

ALIGNMENT = 8
LEAST_ROWS = 32
"""Sizes that `torch._int_mm` takes: both widths multiples of 8, more than 16 rows."""


@dataclass(frozen=True)
class Product:
    """Multiplies integer rows [M, K] by one weight matrix, giving int32 [M, O].

    weight: the mantissas, float [K, O]; or int8 [K', O'] with both sizes padded to multiples of 8. outputs: O.
    digits: int8 digits of a left operand, 0 for floating point.
    """

    weight: Tensor
    outputs: int
    digits: int

    def __call__(self, rows: Tensor) -> Tensor:
        if not self.digits:
            return (rows.to(self.weight.dtype) @ self.weight).to(torch.int32)
        height, width = rows.shape
        padding = (0, self.weight.shape[0] - width, 0, max(0, LEAST_ROWS - height))
        if any(padding):
            rows = torch.nn.functional.pad(rows, padding)
        total = torch.zeros((), dtype=torch.int32, device=rows.device)
        for place, digit in enumerate(split_digits(rows, self.digits)):
            total = total + (torch._int_mm(digit.contiguous(), self.weight) << (DIGIT_BITS * place))
        return total[:height, : self.outputs]


def make_product(weight: npt.NDArray[np.int8], payload: npt.NDArray[np.int64], device: torch.device) -> Product:
    """The fastest exact product on a device.

    weight: int8 [K, O]. payload: int64 [K], greatest magnitude of each column of the left operand. Raises
    OverflowError if no floating point type is exact.
    """
    if device.type == "cuda" and int8_products(device):
        return int8_product(weight, int(payload.max(initial=0)), device)
    largest = int((np.abs(weight.astype(np.int64)) * payload[:, None]).sum(0).max(initial=0))
    dtype = next((dtype for dtype, limit in EXACT.items() if largest < limit), None)
    if dtype is None:
        raise OverflowError(f"a sum of products may reach {largest}, beyond 2**53: not exact in float64")
    return Product(torch.from_numpy(weight.copy()).to(device, dtype), weight.shape[1], 0)


def int8_product(weight: npt.NDArray[np.int8], payload: int, device: torch.device) -> Product:
    """A product of int8 digits. Sums wrap modulo 2**32, so that int32 results are exact whatever the digits."""
    padding = [(0, -size % ALIGNMENT) for size in weight.shape]
    padded = torch.from_numpy(np.pad(weight, padding).T.copy()).to(device)  # columns contiguous: what cuBLASLt prefers
    return Product(padded.t(), weight.shape[1], digit_count(payload))


def digit_count(payload: int) -> int:
    """Digits for integers of magnitude up to `payload`: 1 up to 127, 2 up to 16,319, and so on."""
    digits, reach = 1, 127
    while payload > reach:
        digits += 1
        reach = (127 << (DIGIT_BITS * (digits - 1))) + sum(63 << (DIGIT_BITS * i) for i in range(digits - 1))
    return digits


def split_digits(values: Tensor, count: int) -> Iterator[Tensor]:
    """The int8 digits of integers, lowest place first. values: int [...]."""
    if count == 1:
        yield values.to(torch.int8)
        return
    half, rest = 1 << (DIGIT_BITS - 1), values.to(torch.int32)
    for _ in range(count - 1):
        low = ((rest + half) & (2 * half - 1)) - half
        yield low.to(torch.int8)
        rest = (rest - low) >> DIGIT_BITS
    yield rest.to(torch.int8)


@cache
def int8_products(device: torch.device) -> bool:
    """Whether this device multiplies int8 matrices exactly; old ones do not at all."""
    values = torch.arange(LEAST_ROWS * 16, device=device).remainder(251).sub(125).to(torch.int8)
    left, right = values.reshape(LEAST_ROWS, 16), values[:128].reshape(8, 16).t()
    try:
        product = torch._int_mm(left, right)
    except RuntimeError:
        return False
    return bool(torch.equal(product.double(), left.double() @ right.double()))


@contextmanager
def exact_on(device: torch.device) -> Iterator[None]:
    """Make `device` the current one, without TF32 or bfloat16 in float32 products, autocast and gradients.

    The settings before are restored.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        plain = torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False)
        with current, plain[0], plain[1], torch.inference_mode():
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
