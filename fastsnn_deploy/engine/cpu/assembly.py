"""Assembles innermost loops in AVX512-VNNI instructions, when a process first needs them.

A loop takes one argument, the address of int64 words whose meaning `Word` gives.
"""

from __future__ import annotations

import platform
from enum import IntEnum, auto
from functools import cache
from typing import Any

import llvmlite.binding as llvm

LANES = 16
"""int32 in a register."""

PAIR = 2
"""Registers of channels in a block."""

ROWS = 10
"""Most rows of a block: more would fall on one set of the first-level cache, whose ways are 12."""


class Word(IntEnum):
    """Position of each word of the argument. Addresses are those of the block's first row, position and channel."""

    def _generate_next_value_(name, start, count, last_values):  # type: ignore[no-untyped-def]  # noqa: N805, D102
        return count

    MESSAGES = auto()  # uint8
    ROW = auto()  # bytes from one row of messages to the next
    WEIGHTS = auto()  # int8 [k, pair, 16, 4]; a k is 4 source channels
    RUNS = auto()  # int64 [runs, 3] of the position: offset of messages, first k of weights, number of k;
    # winograd_loop: offsets of 4 neurons, bits of the channels of each that exist, and one number more
    RUN_COUNT = auto()
    CHANNELS = auto()  # bits of the last register's channels
    RESULT = auto()  # charge_loop: float32 charge; neuron_loop: uint8 messages
    RESULT_ROW = auto()  # bytes from row to row, or step to step
    SCALES = auto()  # charge_loop: float32 factors; neuron_loop: int32 exponents of two
    START = auto()  # from here on not charge_loop: int32 that sums begin with
    THRESHOLD = auto()  # int32
    INITIAL = auto()  # int32 potential before the first step
    BIAS = auto()  # int32 of the first step, whole registers
    BIAS_ROW = auto()  # bytes from step to step
    LIMITS = auto()  # int32: floor, ceiling, what a silent neuron stores
    POSITIVE = auto()  # int32, of the first step
    NEGATIVE = auto()
    SENT = auto()  # int32, messages of each neuron
    POTENTIAL = auto()  # float32
    COUNT = auto()  # float32
    STATE_IMAGE = auto()  # bytes from image to image of potential and count
    RESULT_IMAGE = auto()  # ... of messages
    SIGN_IMAGE = auto()  # ... of positive and negative
    EXTRA = auto()  # float32 charge that arrives besides
    EXTRA_ROW = auto()  # bytes from step to step
    EXTRA_IMAGE = auto()
    DEPTH = auto()  # winograd_loop: number of k
    PLANE = auto()  # bytes from one of the 16 products' messages to the next
    SCRATCH = auto()  # 16 * rows * pair registers


def at(word: Word) -> str:
    """Operand: a word of the argument."""
    return f"{8 * word}(%rdi)"


SPOILT = (*(f"zmm{i}" for i in range(32)), *(f"k{i}" for i in range(1, 8)), "rax", "rbx", "rcx", "rdx", "rsi",
          *(f"r{i}" for i in range(8, 16)), "memory", "dirflag", "fpsr", "flags")  # fmt: skip
FEATURES = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")
_KEPT: list[Any] = []
"""Compiled code, which would be freed otherwise."""


@cache
def available() -> bool:
    """Whether this processor has the instructions, and not AMX, with which oneDNN is faster."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    found = llvm.get_host_cpu_features()
    if not all(found.get(name, False) for name in FEATURES) or found.get("amx-int8", False):
        return False
    try:
        return bool(assembled("probe", ["vpdpbusd %zmm0, %zmm0, %zmm0"]))
    except RuntimeError:  # a build of LLVM without an assembler
        return False


def assembled(name: str, lines: list[str]) -> int:
    """Address of `void name(int64 argument)` with the argument in rdi; other registers are the caller's again."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    code = "\\0A".join([*lines, "vzeroupper"]).replace("$", "$$")
    spoilt = ",".join(f"~{{{each}}}" for each in SPOILT)
    text = f"""
        define void @{name}(i64 %argument) #0 {{
            call void asm sideeffect "{code}", "{{rdi}},{spoilt}"(i64 %argument)
            ret void
        }}
        attributes #0 = {{ nounwind "target-features"="{",".join(f"+{each}" for each in FEATURES)}" }}"""
    target = llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), jit=True)
    module = llvm.parse_assembly(text)
    module.verify()
    compiler = llvm.create_mcjit_compiler(module, target)
    compiler.finalize_object()
    _KEPT.append(compiler)
    return int(compiler.get_function_address(name))
