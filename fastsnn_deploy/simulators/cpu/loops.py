"""Loops for one position of a map, with the kernel arguments of `launch.Field`.

Both begin alike: a block of registers collects the int32 sums of up to ROWS rows of spikes (steps of images) by up to
32 channels. `input_loop` ends by storing them; `neuron_loop` lets the neurons of that position take their steps while
the sums are still in registers, so that no synaptic input is ever in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fastsnn_deploy.simulators.cpu.assembly import assembled
from fastsnn_deploy.simulators.cpu.launch import Field

MOST = 15
"""Greatest payload of neurons in these loops: each possible count costs three instructions."""


@dataclass(frozen=True)
class Rule:
    """Whether neurons take spikes back, and the greatest payload of one: 1, or the whole range of counts."""

    signed: bool
    most: int = 1


def at(field: Field) -> str:
    """Operand: a kernel argument."""
    return f"{8 * field}(%rdi)"


def block(rows: int, pair: int) -> list[list[str]]:
    """Registers of the sums of each row."""
    return [[f"%zmm{r * pair + c}" for c in range(pair)] for r in range(rows)]


BASES = ("%rsi", "%r11", "%rbx", "%r12", "%r15")
"""Where spikes of rows 0, 3, 6, 9 and 12 are."""


def multiply(rows: int, pair: int, k: int) -> list[str]:
    """Add the products of k number `k` from the weights at r8 and the spikes at BASES on; rcx: ROW."""
    sums, weights, spare = block(rows, pair), [f"%zmm{31 - c}" for c in range(pair)], ("%zmm28", "%zmm29")
    lines = [f"vmovdqu64 {64 * (k * pair + c)}(%r8), {weights[c]}" for c in range(pair)]
    for r in range(rows):
        message = f"{4 * k}({BASES[r // 3]}{('', ',%rcx', ',%rcx,2')[r % 3]})"
        lines.append(f"vpbroadcastd {message}, {spare[r % 2]}")
        lines += [f"vpdpbusd {weights[c]}, {spare[r % 2]}, {sums[r][c]}" for c in range(pair)]
    return lines


def advance(rows: int, pair: int, k: int) -> list[str]:
    """Go on by `k` k."""
    return [f"add ${64 * pair * k}, %r8", *(f"add ${4 * k}, {base}" for base in BASES[: (rows + 2) // 3])]


def _collect(rows: int, pair: int) -> list[str]:
    """Add the products of all runs to the sums."""
    four = [line for k in range(4) for line in multiply(rows, pair, k)]
    return [
        f"mov {at(Field.MESSAGES)}, %rdx", f"mov {at(Field.ROW)}, %rcx", "lea (%rcx,%rcx,2), %rax",
        f"mov {at(Field.RUNS)}, %r9", f"mov {at(Field.RUN_COUNT)}, %r10", "test %r10, %r10", "jz 5f",
        "1:", "mov (%r9), %rsi", "add %rdx, %rsi",
        "lea (%rsi,%rax), %r11", "lea (%r11,%rax), %rbx", "lea (%rbx,%rax), %r12",
        "mov 8(%r9), %r8", f"imul ${64 * pair}, %r8", f"add {at(Field.WEIGHTS)}, %r8", "mov 16(%r9), %r13",
        "sub $4, %r13", "jl 3f",
        "2:", *four, *advance(rows, pair, 4), "sub $4, %r13", "jge 2b",
        "3:", "add $4, %r13", "jz 6f",
        "4:", *multiply(rows, pair, 0), *advance(rows, pair, 1), "dec %r13", "jnz 4b",
        "6:", "add $24, %r9", "dec %r10", "jnz 1b",
        "5:",
    ]  # fmt: skip


def _masks(pair: int) -> tuple[list[str], list[str]]:
    """Masks of the channels of each register, and what sets them."""
    masks = ["%k6"] * (pair - 1) + ["%k7"]
    return masks, ["kxnorw %k6, %k6, %k6", f"mov {at(Field.CHANNELS)}, %rax", "kmovw %eax, %k7"]


@cache
def input_loop(rows: int, pair: int) -> int:
    """Address of the loop that stores sums * scales as float32, exact below 2**24."""
    sums = block(rows, pair)
    masks, lines = _masks(pair)
    lines += [f"vpxord {each}, {each}, {each}" for block in sums for each in block]
    lines += [*_collect(rows, pair), f"mov {at(Field.RESULT)}, %rsi", f"mov {at(Field.RESULT_ROW)}, %rcx"]
    lines.append(f"mov {at(Field.SCALES)}, %r8")
    lines += [f"vmovups {64 * c}(%r8), %zmm{31 - c}{{{masks[c]}}}{{z}}" for c in range(pair)]
    for r in range(rows):
        for c in range(pair):
            each = sums[r][c]
            lines += [f"vcvtdq2ps {each}, {each}", f"vmulps %zmm{31 - c}, {each}, {each}"]
            lines.append(f"vmovups {each}, {64 * c}(%rsi){{{masks[c]}}}")
        lines.append("add %rcx, %rsi")
    return assembled(f"synaptic_input_{rows}_{pair}", lines)


@cache
def neuron_loop(images: int, steps: int, pair: int, rule: Rule, resumed: bool, biased: int, extra: int) -> int:
    """Address of the loop in which neurons take `steps` steps.

    Rows are those of `images` images one after another. resumed: potential and count are taken from memory, and not
    INITIAL and 0; they are always stored, unless POTENTIAL is 0. biased, extra: steps from the first on in which BIAS
    and EXTRA are added.
    """
    sums = block(images * steps, pair)
    masks, lines = _masks(pair)
    lines.append(f"mov {at(Field.START)}, %rax")
    for c in range(pair):
        lines.append(f"vmovdqu32 {64 * c}(%rax), {sums[0][c]}{{{masks[c]}}}{{z}}")
        lines += [f"vmovdqa64 {sums[0][c]}, {row[c]}" for row in sums[1:]]
    lines += _collect(images * steps, pair)
    lines += CONSTANTS
    for c in range(pair):
        lines += _neurons(sums, c, masks[c], images, steps, rule, resumed, biased, extra)
    name = f"neurons_{images}_{steps}_{pair}_{rule.signed:d}{rule.most}{resumed:d}_{biased}_{extra}"
    return assembled(name, lines)


CONSTANTS = [
    f"mov {at(Field.LIMITS)}, %rax", "vpbroadcastd (%rax), %zmm25", "vpbroadcastd 4(%rax), %zmm24",
    "vpbroadcastd 8(%rax), %zmm27", "vpxord %zmm31, %zmm31, %zmm31",
    "vpternlogd $255, %zmm26, %zmm26, %zmm26", "vpsubd %zmm26, %zmm31, %zmm26",
]  # fmt: skip
"""Neurons use zmm20 threshold, 24 ceiling, 25 floor, 26 one, 27 silence, 28 spike, 29 spare, 30 exponents, 31 zero;
this sets those that are the same for all channels."""


def load(field: Field, offset: int, register: str, mask: str) -> list[str]:
    """Channels of a register."""
    return [f"mov {at(field)}, %rax", f"vmovdqu32 {offset}(%rax), {register}{{{mask}}}{{z}}"]


def integers(address: str, register: str, mask: str) -> list[str]:
    """Load float32 as int32."""
    return [f"vmovups {address}, {register}{{{mask}}}{{z}}", f"vcvtps2dq {register}, {register}"]


def floats(register: str, address: str, mask: str) -> list[str]:
    """Store int32 as float32."""
    return [f"vcvtdq2ps {register}, {register}", f"vmovups {register}, {address}{{{mask}}}"]


def fire(potential: str, count: str, sent: str, spare: str, mask: str, rule: Rule) -> list[str]:
    """The rules of `kernels.fire_rows`: zmm28 is what neurons send, k1 those up, k2 those down. spare: a register."""
    lines = _whole_counts(potential, count, spare, mask, rule) if rule.most > 1 else _ones(potential, count, mask, rule)
    return lines + [f"vpaddd %zmm26, {sent}, {sent}{{{sends}}}" for sends in ("%k1", "%k2")[: 1 + rule.signed]]


def _ones(potential: str, count: str, mask: str, rule: Rule) -> list[str]:
    """Every spike is 1 or -1."""
    lines = [f"vpcmpd $5, %zmm20, {potential}, %k1{{{mask}}}", f"vpcmpd $1, %zmm24, {count}, %k1{{%k1}}"]
    if rule.signed:
        lines += [f"vpcmpd $1, %zmm31, {potential}, %k2{{{mask}}}", f"vpcmpd $6, %zmm25, {count}, %k2{{%k2}}"]
    lines.append("vmovdqa64 %zmm27, %zmm28")
    for sends, do, undo in [("%k1", "vpaddd", "vpsubd"), ("%k2", "vpsubd", "vpaddd")][: 1 + rule.signed]:
        lines += [f"{undo} %zmm20, {potential}, {potential}{{{sends}}}", f"{do} %zmm26, {count}, {count}{{{sends}}}"]
        lines.append(f"{do} %zmm26, %zmm28, %zmm28{{{sends}}}")
    return lines


def _whole_counts(potential: str, count: str, spare: str, mask: str, rule: Rule) -> list[str]:
    """The whole difference from the count that the potential, with all spikes taken back, has earned: floor + the
    number of multiples of the threshold, from floor + 1 to the ceiling, that it reaches. No division."""
    lines = [f"vpmulld %zmm20, {count}, {spare}", f"vpaddd {potential}, {spare}, {spare}"]
    lines += ["vpmulld %zmm20, %zmm25, %zmm29", "vmovdqa64 %zmm25, %zmm28"]
    for _ in range(rule.most):
        lines += ["vpaddd %zmm20, %zmm29, %zmm29", f"vpcmpd $5, %zmm29, {spare}, %k1"]
        lines.append("vpaddd %zmm26, %zmm28, %zmm28{%k1}")
    lines.append(f"vpsubd {count}, %zmm28, %zmm28")
    lines += [] if rule.signed else ["vpmaxsd %zmm31, %zmm28, %zmm28"]
    lines += [f"vpaddd %zmm28, {count}, {count}", "vpmulld %zmm20, %zmm28, %zmm29"]
    lines += [f"vpsubd %zmm29, {potential}, {potential}", f"vpcmpd $6, %zmm31, %zmm28, %k1{{{mask}}}"]
    lines += [f"vpcmpd $1, %zmm31, %zmm28, %k2{{{mask}}}"] if rule.signed else []
    return [*lines, "vpaddd %zmm27, %zmm28, %zmm28"]


def count_sent(t: int, signed: bool) -> list[str]:
    """Add the spikes of step `t` by sign."""
    lines = []
    for sends, counter in [("%k1", "%r8"), ("%k2", "%r9")][: 1 + signed]:
        lines += [f"kmovw {sends}, %eax", "popcnt %eax, %eax", f"add %eax, {4 * t}({counter})"]
    return lines


def first_image(extra: int) -> list[str]:
    """r8, r9 spikes by sign, r10, r11 potential and count, rdx EXTRA."""
    lines = [f"mov {at(Field.POSITIVE)}, %r8", f"mov {at(Field.NEGATIVE)}, %r9"]
    lines += [f"mov {at(Field.POTENTIAL)}, %r10", f"mov {at(Field.COUNT)}, %r11"]
    return lines + ([f"mov {at(Field.EXTRA)}, %rdx"] if extra else [])


def next_image(extra: int) -> list[str]:
    """Where `first_image` and RESULT in rsi go on; label 7 is where images whose state is not kept come in."""
    lines = [f"add {at(Field.STATE_IMAGE)}, %r10", f"add {at(Field.STATE_IMAGE)}, %r11", "7:"]
    lines += [f"add {at(Field.RESULT_IMAGE)}, %rsi"]
    lines += [f"add {at(Field.SIGN_IMAGE)}, %r8", f"add {at(Field.SIGN_IMAGE)}, %r9"]
    return lines + ([f"add {at(Field.EXTRA_IMAGE)}, %rdx"] if extra else [])


def _neurons(
    sums: list[list[str]],
    c: int,
    mask: str,
    images: int,
    steps: int,
    rule: Rule,
    resumed: bool,
    biased: int,
    extra: int,
) -> list[str]:
    """One register of neurons: zmm21 potential, 22 count, 23 sent."""
    potential, count, sent, offset = "%zmm21", "%zmm22", "%zmm23", 64 * c
    lines = [*load(Field.THRESHOLD, offset, "%zmm20", mask), *load(Field.SCALES, offset, "%zmm30", mask)]
    lines += [f"vpxord {sent}, {sent}, {sent}", f"mov {at(Field.RESULT)}, %rsi", f"mov {at(Field.RESULT_ROW)}, %rcx"]
    lines += first_image(extra)
    for image in range(images):
        if resumed:
            lines += integers(f"{offset}(%r10)", potential, mask) + integers(f"{offset}(%r11)", count, mask)
        else:
            lines += [*load(Field.INITIAL, offset, potential, mask), f"vpxord {count}, {count}, {count}"]
        lines += [f"mov {at(Field.BIAS)}, %r13"] if biased else []
        lines += ["mov %rsi, %rbx"] + (["mov %rdx, %r12"] if extra else [])
        for t in range(steps):
            synaptic_input = sums[image * steps + t][c]
            lines += [
                f"vpsllvd %zmm30, {synaptic_input}, {synaptic_input}",
                f"vpaddd {synaptic_input}, {potential}, {potential}",
            ]
            if t < biased:
                lines += [f"vpaddd {offset}(%r13), {potential}, {potential}", f"add {at(Field.BIAS_ROW)}, %r13"]
            if t < extra:
                lines += integers(f"{offset}(%r12)", "%zmm29", mask)
                lines += [f"vpaddd %zmm29, {potential}, {potential}", f"add {at(Field.EXTRA_ROW)}, %r12"]
            lines += fire(potential, count, sent, synaptic_input, mask, rule)
            lines += count_sent(t, rule.signed)
            lines += [f"vpmovdb %zmm28, {16 * c}(%rbx){{{mask}}}", "add %rcx, %rbx"]
        lines += ["test %r10, %r10", "jz 7f"]
        lines += floats(potential, f"{offset}(%r10)", mask) + floats(count, f"{offset}(%r11)", mask)
        lines += next_image(extra)
    lines += load(Field.SENT, offset, "%zmm29", mask)
    return [*lines, f"vpaddd %zmm29, {sent}, {sent}", f"vmovdqu32 {sent}, {offset}(%rax){{{mask}}}"]
