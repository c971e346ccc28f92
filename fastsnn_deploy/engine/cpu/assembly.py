"""Innermost loops in AVX512-VNNI instructions, assembled when a process first needs them.

Both loops begin alike: a block of registers collects the int32 sums of up to ROWS rows of messages (steps of images) by
up to 32 channels at one position of the map. `charge_loop` ends by storing them; `neuron_loop` lets the neurons of
that position take their steps while the sums are still in registers, so that no charge is ever in memory.

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
    RUNS = auto()  # int64 [runs, 3] of the position: offset of messages, first k of weights, number of k
    RUN_COUNT = auto()
    CHANNELS = auto()  # bits of the last register's channels
    RESULT = auto()  # charge_loop: float32 charge; neuron_loop: uint8 messages
    RESULT_ROW = auto()  # bytes from row to row, or step to step
    SCALES = auto()  # charge_loop: float32 factors; neuron_loop: int32 exponents of two
    START = auto()  # from here on neuron_loop only: int32 that sums begin with
    THRESHOLD = auto()  # int32
    INITIAL = auto()  # int32 potential before the first step
    BIAS = auto()  # int32, arrives in the first step
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


def _at(word: Word) -> str:
    return f"{8 * word}(%rdi)"


def _sums(rows: int, pair: int) -> list[list[str]]:
    return [[f"%zmm{r * pair + c}" for c in range(pair)] for r in range(rows)]


def _collect(rows: int, pair: int) -> list[str]:
    """Add the products of all runs to the sums."""
    sums = _sums(rows, pair)
    weights = [f"%zmm{31 - c}" for c in range(pair)]
    spare = ["%zmm28", "%zmm29"]
    bases = ["%rsi", "%r11", "%rbx", "%r12"]  # rows 0, 3, 6, 9

    def step(k: int) -> list[str]:
        lines = [f"vmovdqu64 {64 * (k * pair + c)}(%r8), {weights[c]}" for c in range(pair)]
        for r in range(rows):
            message = f"{4 * k}({bases[r // 3]}{('', ',%rcx', ',%rcx,2')[r % 3]})"
            lines.append(f"vpbroadcastd {message}, {spare[r % 2]}")
            lines += [f"vpdpbusd {weights[c]}, {spare[r % 2]}, {sums[r][c]}" for c in range(pair)]
        return lines

    def advance(k: int) -> list[str]:
        return [f"add ${64 * pair * k}, %r8", *(f"add ${4 * k}, {base}" for base in bases[: (rows + 2) // 3])]

    return [
        f"mov {_at(Word.MESSAGES)}, %rdx", f"mov {_at(Word.ROW)}, %rcx", "lea (%rcx,%rcx,2), %rax",
        f"mov {_at(Word.RUNS)}, %r9", f"mov {_at(Word.RUN_COUNT)}, %r10", "test %r10, %r10", "jz 5f",
        "1:", "mov (%r9), %rsi", "add %rdx, %rsi",
        "lea (%rsi,%rax), %r11", "lea (%r11,%rax), %rbx", "lea (%rbx,%rax), %r12",
        "mov 8(%r9), %r8", f"imul ${64 * pair}, %r8", f"add {_at(Word.WEIGHTS)}, %r8", "mov 16(%r9), %r13",
        "sub $4, %r13", "jl 3f",
        "2:", *step(0), *step(1), *step(2), *step(3), *advance(4), "sub $4, %r13", "jge 2b",
        "3:", "add $4, %r13", "jz 6f",
        "4:", *step(0), *advance(1), "dec %r13", "jnz 4b",
        "6:", "add $24, %r9", "dec %r10", "jnz 1b",
        "5:",
    ]  # fmt: skip


def _masks(pair: int) -> tuple[list[str], list[str]]:
    """Masks of the channels of each register, and what sets them."""
    masks = ["%k6"] * (pair - 1) + ["%k7"]
    return masks, ["kxnorw %k6, %k6, %k6", f"mov {_at(Word.CHANNELS)}, %rax", "kmovw %eax, %k7"]


@cache
def charge_loop(rows: int, pair: int) -> int:
    """Address of the loop that stores sums * scales as float32, exact below 2**24."""
    sums = _sums(rows, pair)
    masks, lines = _masks(pair)
    lines += [f"vpxord {each}, {each}, {each}" for block in sums for each in block]
    lines += [*_collect(rows, pair), f"mov {_at(Word.RESULT)}, %rsi", f"mov {_at(Word.RESULT_ROW)}, %rcx"]
    lines.append(f"mov {_at(Word.SCALES)}, %r8")
    lines += [f"vmovups {64 * c}(%r8), %zmm{31 - c}{{{masks[c]}}}{{z}}" for c in range(pair)]
    for r in range(rows):
        for c in range(pair):
            each = sums[r][c]
            lines += [f"vcvtdq2ps {each}, {each}", f"vmulps %zmm{31 - c}, {each}, {each}"]
            lines.append(f"vmovups {each}, {64 * c}(%rsi){{{masks[c]}}}")
        lines.append("add %rcx, %rsi")
    return _assembled(f"charge_{rows}_{pair}", lines)


@cache
def neuron_loop(images: int, steps: int, pair: int, signed: bool, resumed: bool, extra: bool) -> int:
    """Address of the loop in which neurons of codes unary (signed) and unsigned take `steps` steps.

    Rows are those of `images` images one after another. resumed: potential and count are taken from memory, and not
    INITIAL and 0; they are always stored, unless POTENTIAL is 0. extra: EXTRA is added.
    """
    sums = _sums(images * steps, pair)
    masks, lines = _masks(pair)
    lines.append(f"mov {_at(Word.START)}, %rax")
    for c in range(pair):
        lines.append(f"vmovdqu32 {64 * c}(%rax), {sums[0][c]}{{{masks[c]}}}{{z}}")
        lines += [f"vmovdqa64 {sums[0][c]}, {row[c]}" for row in sums[1:]]
    lines += _collect(images * steps, pair)
    lines += [f"mov {_at(Word.LIMITS)}, %rax", "vpbroadcastd (%rax), %zmm25", "vpbroadcastd 4(%rax), %zmm24"]
    lines += ["vpbroadcastd 8(%rax), %zmm27", "vpxord %zmm31, %zmm31, %zmm31"]
    lines += ["vpternlogd $255, %zmm26, %zmm26, %zmm26", "vpsubd %zmm26, %zmm31, %zmm26"]
    for c in range(pair):
        lines += _neurons(sums, c, masks[c], images, steps, signed, resumed, extra)
    name = f"neurons_{images}_{steps}_{pair}_{signed:d}{resumed:d}{extra:d}"
    return _assembled(name, lines)


def _neurons(
    sums: list[list[str]], c: int, mask: str, images: int, steps: int, signed: bool, resumed: bool, extra: bool
) -> list[str]:
    """One register of neurons. zmm20 threshold, 21 potential, 22 count, 23 sent, 24 ceiling, 25 floor, 26 one,
    27 silence, 28 message, 29 spare, 30 exponents, 31 zero.
    """  # noqa: D205
    at, keep, clear = 64 * c, f"{{{mask}}}", f"{{{mask}}}{{z}}"

    def load(word: Word, register: str) -> list[str]:
        return [f"mov {_at(word)}, %rax", f"vmovdqu32 {at}(%rax), {register}{clear}"]

    lines = [*load(Word.THRESHOLD, "%zmm20"), *load(Word.SCALES, "%zmm30"), "vpxord %zmm23, %zmm23, %zmm23"]
    lines += [f"mov {_at(Word.RESULT)}, %rsi", f"mov {_at(Word.RESULT_ROW)}, %rcx"]
    lines += [f"mov {_at(Word.POSITIVE)}, %r8", f"mov {_at(Word.NEGATIVE)}, %r9"]
    lines += [f"mov {_at(Word.POTENTIAL)}, %r10", f"mov {_at(Word.COUNT)}, %r11"]
    lines += [f"mov {_at(Word.EXTRA)}, %rdx"] if extra else []
    for image in range(images):
        if resumed:
            lines += [f"vmovups {at}(%r10), %zmm21{clear}", "vcvtps2dq %zmm21, %zmm21"]
            lines += [f"vmovups {at}(%r11), %zmm22{clear}", "vcvtps2dq %zmm22, %zmm22"]
        else:
            lines += [*load(Word.INITIAL, "%zmm21"), "vpxord %zmm22, %zmm22, %zmm22"]
        lines += [*load(Word.BIAS, "%zmm29"), "vpaddd %zmm29, %zmm21, %zmm21"]
        lines += ["mov %rsi, %rbx"] + (["mov %rdx, %r12"] if extra else [])
        for t in range(steps):
            charge = sums[image * steps + t][c]
            lines += [f"vpsllvd %zmm30, {charge}, {charge}", f"vpaddd {charge}, %zmm21, %zmm21"]
            if extra:
                lines += [f"vmovups {at}(%r12), %zmm29{clear}", "vcvtps2dq %zmm29, %zmm29"]
                lines += ["vpaddd %zmm29, %zmm21, %zmm21", f"add {_at(Word.EXTRA_ROW)}, %r12"]
            lines += _step(t, 16 * c, keep, signed)
        lines += ["test %r10, %r10", "jz 7f"]
        lines += ["vcvtdq2ps %zmm21, %zmm21", f"vmovups %zmm21, {at}(%r10){keep}"]
        lines += ["vcvtdq2ps %zmm22, %zmm22", f"vmovups %zmm22, {at}(%r11){keep}"]
        lines += [f"add {_at(Word.STATE_IMAGE)}, %r10", f"add {_at(Word.STATE_IMAGE)}, %r11", "7:"]
        lines += [f"add {_at(Word.RESULT_IMAGE)}, %rsi"]
        lines += [f"add {_at(Word.SIGN_IMAGE)}, %r8", f"add {_at(Word.SIGN_IMAGE)}, %r9"]
        lines += [f"add {_at(Word.EXTRA_IMAGE)}, %rdx"] if extra else []
    lines += [f"mov {_at(Word.SENT)}, %rax", f"vmovdqu32 {at}(%rax), %zmm29{clear}"]
    return [*lines, "vpaddd %zmm29, %zmm23, %zmm23", f"vmovdqu32 %zmm23, {at}(%rax){keep}"]


def _step(t: int, offset: int, keep: str, signed: bool) -> list[str]:
    """Fire: the rules of `kernels.unary` and `kernels.unsigned`. k1 sends up, k2 down."""
    up = [f"vpcmpd $5, %zmm20, %zmm21, %k1{keep}", "vpcmpd $1, %zmm24, %zmm22, %k1{%k1}"]
    down = [f"vpcmpd $1, %zmm31, %zmm21, %k2{keep}", "vpcmpd $6, %zmm25, %zmm22, %k2{%k2}"] if signed else []
    lines = [*up, *down, "vmovdqa64 %zmm27, %zmm28"]
    for mask, do, undo, sign in [("%k1", "vpaddd", "vpsubd", "%r8"), ("%k2", "vpsubd", "vpaddd", "%r9")][: 1 + signed]:
        lines += [f"{undo} %zmm20, %zmm21, %zmm21{{{mask}}}", f"{do} %zmm26, %zmm22, %zmm22{{{mask}}}"]
        lines += [f"{do} %zmm26, %zmm28, %zmm28{{{mask}}}", f"vpaddd %zmm26, %zmm23, %zmm23{{{mask}}}"]
        lines += [f"kmovw {mask}, %eax", "popcnt %eax, %eax", f"add %eax, {4 * t}({sign})"]
    return [*lines, f"vpmovdb %zmm28, {offset}(%rbx){keep}", "add %rcx, %rbx"]


SPOILT = (*(f"zmm{i}" for i in range(32)), *(f"k{i}" for i in range(1, 8)), "rax", "rbx", "rcx", "rdx", "rsi",
          *(f"r{i}" for i in range(8, 14)), "memory", "dirflag", "fpsr", "flags")  # fmt: skip
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
        return bool(charge_loop(1, 1))
    except RuntimeError:  # a build of LLVM without an assembler
        return False


def _assembled(name: str, lines: list[str]) -> int:
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
