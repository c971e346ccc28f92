"""Loops of Winograd's convolution F(2x2, 3x3) (Lavin & Gray 2016, section 4.1), in integers.

Four positions take 16 products instead of 36. The transform of weights is taken without its factors 1/2, which makes
sums four times too large, and they are divided by four, exactly, at the end.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from fastsnn_deploy.simulators.cpu.assembly import assembled
from fastsnn_deploy.simulators.cpu.launch import Field, Tile
from fastsnn_deploy.simulators.cpu.loops import (
    BASES,
    CONSTANTS,
    Rule,
    advance,
    at,
    block,
    count_sent,
    fire,
    first_image,
    floats,
    integers,
    load,
    multiply,
    next_image,
)

TERMS = 16
"""Products of a tile of 4x4 source positions."""

ROWS = 14
"""Most rows of a block: 28 sums, 2 registers of weights and 2 of spikes."""


@cache
def transform_loop() -> int:
    """Address of the loop that transforms one tile: spikes uint8 -> 16 terms uint8, too large by OFFSET.

    Silence adds four times itself to the term (1, 1) and nothing to the others.
    """
    field = {each: f"{8 * each}(%rdi)" for each in Tile}
    lines = [f"vpbroadcastb {field[Tile.SILENCE]}, %zmm30", f"vpbroadcastb {field[Tile.OFFSET]}, %zmm31"]
    lines += [f"mov {field[Tile.RIGHT]}, %rax", "lea (%rax,%rax,2), %rbx", f"mov {field[Tile.INSIDE]}, %rcx"]
    lines += [f"mov {field[Tile.SOURCE]}, %rsi", f"mov {field[Tile.RESULT]}, %rdx", f"mov {field[Tile.ROWS]}, %r10"]
    lines += ["1:", f"mov {field[Tile.CHUNKS]}, %r11", "mov %rsi, %r8"]
    lines += ["2:", "mov %r8, %r12"]
    for i in range(4):
        for j in range(4):
            register = f"%zmm{4 * i + j}"
            source = ("(%r12)", "(%r12,%rax)", "(%r12,%rax,2)", "(%r12,%rbx)")[j]
            lines += [f"kmovq {8 * (4 * i + j)}(%rcx), %k1", f"vmovdqa64 %zmm30, {register}"]
            lines.append(f"vmovdqu8 {source}, {register}{{%k1}}")
        lines.append(f"add {field[Tile.DOWN]}, %r12")
    for j in range(4):
        lines += _four([f"%zmm{4 * i + j}" for i in range(4)])
    lines.append("mov %rdx, %r9")
    for i in range(4):
        terms = [f"%zmm{4 * i + j}" for j in range(4)]
        lines += _four(terms)
        for j, term in enumerate(terms):
            lines += [] if (i, j) == (1, 1) else [f"vpaddb %zmm31, {term}, {term}"]
            lines += [f"vmovdqu64 {term}, (%r9)", f"add {field[Tile.PLANE]}, %r9"]
    lines += ["add $64, %r8", "add $64, %rdx", "dec %r11", "jnz 2b"]
    lines += [f"add {field[Tile.ROW]}, %rsi", "dec %r10", "jnz 1b"]
    return assembled("winograd_transform", lines)


def _four(d: list[str]) -> list[str]:
    """d0 - d2, d1 + d2, d2 - d1, d1 - d3 in place."""
    return [
        f"vpsubb {d[2]}, {d[0]}, {d[0]}", f"vpsubb {d[3]}, {d[1]}, {d[3]}", f"vpaddb {d[2]}, {d[1]}, %zmm29",
        f"vpsubb {d[1]}, {d[2]}, {d[2]}", f"vmovdqa64 %zmm29, {d[1]}",
    ]  # fmt: skip


@cache
def winograd_loop(images: int, steps: int, pair: int, rule: Rule, resumed: bool, biased: int, extra: int) -> int:
    """As `loops.neuron_loop`, for the four neurons of each channel in a tile."""
    rows = images * steps
    lines = [f"mov {at(Field.WEIGHTS)}, %r8", f"mov {at(Field.MESSAGES)}, %rdx", f"mov {at(Field.ROW)}, %rcx"]
    lines += ["lea (%rcx,%rcx,2), %rax", f"mov {at(Field.START)}, %r9", f"mov {at(Field.SCRATCH)}, %r10"]
    lines += [f"mov ${TERMS}, %r14", "1:", *_term(rows, pair)]
    lines += [f"add ${64 * rows * pair}, %r10", f"add {at(Field.PLANE)}, %rdx", f"add ${64 * pair}, %r9"]
    lines += ["dec %r14", "jnz 1b", *CONSTANTS, f"mov {at(Field.RUNS)}, %r14"]
    for c in range(pair):
        lines += _neurons(c, pair, images, steps, rule, resumed, biased, extra)
    return assembled(f"winograd_{images}_{steps}_{pair}_{rule.signed:d}{rule.most}{resumed:d}_{biased}_{extra}", lines)


def _term(rows: int, pair: int) -> list[str]:
    """One of the 16 products: sums over all source channels, into scratch memory."""
    sums, bases = block(rows, pair), BASES[: (rows + 2) // 3]
    lines = []
    for c in range(pair):
        lines.append(f"vmovdqu32 {64 * c}(%r9), {sums[0][c]}")
        lines += [f"vmovdqa64 {sums[0][c]}, {row[c]}" for row in sums[1:]]
    lines += ["mov %rdx, %rsi", *(f"lea ({a},%rax), {b}" for a, b in pairwise(bases))]
    lines += [f"mov {at(Field.DEPTH)}, %r13", "2:"]
    for k in range(4):
        lines += multiply(rows, pair, k)
    lines += [*advance(rows, pair, 4), "sub $4, %r13", "jnz 2b"]
    return lines + [f"vmovdqu64 {sums[r][c]}, {64 * (r * pair + c)}(%r10)" for r in range(rows) for c in range(pair)]


def _synaptic_input(row: int, c: int, rows: int, pair: int) -> list[str]:
    """The synaptic input of the four neurons in a row, from the 16 sums: zmm12, 13, 16, 17."""

    def product(i: int, j: int) -> str:
        return f"{64 * (((4 * i + j) * rows + row) * pair + c)}(%r15)"

    lines = []
    for j in range(4):
        above, below = f"%zmm{12 + j}", f"%zmm{16 + j}"
        lines += [f"vmovdqu64 {product(1, j)}, %zmm21", f"vmovdqu64 {product(2, j)}, %zmm22"]
        lines += [f"vpaddd %zmm22, %zmm21, {above}", f"vpaddd {product(0, j)}, {above}, {above}"]
        lines += [f"vpsubd %zmm22, %zmm21, {below}", f"vpsubd {product(3, j)}, {below}, {below}"]
    for first in (12, 16):
        t = [f"%zmm{first + j}" for j in range(4)]
        lines += [f"vpaddd {t[1]}, {t[0]}, {t[0]}", f"vpaddd {t[2]}, {t[0]}, {t[0]}"]
        lines += [f"vpsubd {t[2]}, {t[1]}, {t[1]}", f"vpsubd {t[3]}, {t[1]}, {t[1]}"]
        for each in t[:2]:
            lines += [f"vpsrad $2, {each}, {each}", f"vpsllvd %zmm30, {each}, {each}"]
    return lines


def _neurons(
    c: int, pair: int, images: int, steps: int, rule: Rule, resumed: bool, biased: int, extra: int
) -> list[str]:
    """One register of channels at four positions; offsets of their neurons and their masks are at r14."""
    potentials, counts, sents = ([f"%zmm{first + q}" for q in range(4)] for first in (0, 4, 8))
    masks = [f"%k{4 + q}" for q in range(4)]
    offset = 64 * c
    lines = [f"mov {at(Field.CHANNELS)}, %rax", "kmovw %eax, %k3"] if c == pair - 1 else ["kxnorw %k3, %k3, %k3"]
    for q in range(4):
        lines += [f"kmovw {8 * (4 + q)}(%r14), {masks[q]}", f"kandw %k3, {masks[q]}, {masks[q]}"]
        lines.append(f"vpxord {sents[q]}, {sents[q]}, {sents[q]}")
    lines += [*load(Field.THRESHOLD, offset, "%zmm20", "%k3"), *load(Field.SCALES, offset, "%zmm30", "%k3")]
    lines += [f"mov {at(Field.SCRATCH)}, %r15", f"mov {at(Field.RESULT)}, %rsi", f"mov {at(Field.RESULT_ROW)}, %rcx"]
    lines += first_image(extra)
    for image in range(images):
        lines += [f"mov {at(Field.BIAS)}, %r13"] if biased else []
        for q in range(4):
            if resumed:
                lines.append(f"mov {8 * q}(%r14), %rax")
                lines += integers(f"{offset}(%r10,%rax,4)", potentials[q], masks[q])
                lines += integers(f"{offset}(%r11,%rax,4)", counts[q], masks[q])
            else:
                lines += load(Field.INITIAL, offset, potentials[q], masks[q])
                lines.append(f"vpxord {counts[q]}, {counts[q]}, {counts[q]}")
        lines += ["mov %rsi, %rbx"] + (["mov %rdx, %r12"] if extra else [])
        for t in range(steps):
            lines += _synaptic_input(image * steps + t, c, images * steps, pair)
            if t < biased:
                lines += [f"vpaddd {offset}(%r13), {v}, {v}" for v in potentials] + [f"add {at(Field.BIAS_ROW)}, %r13"]
            for q, synaptic_input in enumerate(("%zmm12", "%zmm13", "%zmm16", "%zmm17")):
                lines += [f"mov {8 * q}(%r14), %rax", f"vpaddd {synaptic_input}, {potentials[q]}, {potentials[q]}"]
                if t < extra:
                    lines += integers(f"{offset}(%r12,%rax,4)", "%zmm29", masks[q])
                    lines.append(f"vpaddd %zmm29, {potentials[q]}, {potentials[q]}")
                lines += fire(potentials[q], counts[q], sents[q], synaptic_input, masks[q], rule)
                lines.append(f"vpmovdb %zmm28, {16 * c}(%rbx,%rax){{{masks[q]}}}")
                lines += count_sent(t, rule.signed)
            lines += ["add %rcx, %rbx"] + ([f"add {at(Field.EXTRA_ROW)}, %r12"] if extra else [])
        lines += ["test %r10, %r10", "jz 7f"]
        for q in range(4):
            lines.append(f"mov {8 * q}(%r14), %rax")
            lines += floats(potentials[q], f"{offset}(%r10,%rax,4)", masks[q])
            lines += floats(counts[q], f"{offset}(%r11,%rax,4)", masks[q])
        lines += next_image(extra)
    lines.append(f"mov {at(Field.SENT)}, %r12")
    for q in range(4):
        lines += [f"mov {8 * q}(%r14), %rax", f"vmovdqu32 {offset}(%r12,%rax,4), %zmm29{{{masks[q]}}}{{z}}"]
        lines += [f"vpaddd %zmm29, {sents[q]}, {sents[q]}"]
        lines.append(f"vmovdqu32 {sents[q]}, {offset}(%r12,%rax,4){{{masks[q]}}}")
    return lines
