"""What the conventional network takes: arithmetic of its MACs, and traffic to memory by one stated model.

Memory: layer by layer, each weight is read once, each activation once for each layer that reads it, and each result
written once, in words of 64 bits. All of them lie in one memory, the smallest that holds all weights and the largest
activations that a layer reads and writes. That is the least traffic any machine can have that computes layer by layer.
Arithmetic at other widths: a multiplication takes energy in proportion to the product of both widths, an addition is
that of 8-bit MACs.
"""

from __future__ import annotations

from fastsnn_deploy.analysis.ann import AnnCounts
from fastsnn_deploy.analysis.energies import ENDS, AnnEnergy, Band
from fastsnn_deploy.analysis.energy import need_images
from fastsnn_deploy.analysis.hardware import EnergyConstant, Hardware, load_hardware
from fastsnn_deploy.errors import InputError

WORD_BITS = 64
"""Of the memories whose energies the profile gives."""

INTEGER, FLOATING = "horowitz45-int8", "horowitz45-fp32"

WIDTHS = {INTEGER: ("int8", 8), FLOATING: ("fp32", 32)}
"""Name and width of a value on each profile."""


def baselines(ann: AnnCounts) -> tuple[AnnEnergy, ...]:
    """The conventional network at its own widths, with 8 bits, and with 32-bit floating point."""
    integer = load_hardware(INTEGER)
    own = equal_bits(ann, integer)
    return (*([own] if own else []), estimate_ann(ann, integer), estimate_ann(ann, load_hardware(FLOATING)))


def estimate_ann(ann: AnnCounts, hardware: Hardware) -> AnnEnergy:
    """Energy of the conventional network, for one image of `ann`; its memory as on horowitz45-int8.

    Raises InputError if no image was counted or the profile has no `multiply_accumulate`.
    """
    need_images(ann.images)
    multiply, add = _prices(hardware)

    def priced(suffix: str) -> Band:
        macs, additions = (ann.total(f"{kind}{suffix}") / ann.images for kind in ("macs", "additions"))
        return _times(multiply, macs) + _times(add, additions)

    name, bits = WIDTHS.get(hardware.name, (hardware.name, 8))
    known = all(ann.known(f"{kind}_nonzero") is not None for kind in ("macs", "additions"))
    memory = None
    if ann.known("mac_bits") is not None:
        traffic = [(layer.parameters * bits, layer.reads * bits, layer.neurons * bits) for layer in ann.layers]
        memory = memory_of(traffic, load_hardware(INTEGER))
    return AnnEnergy(
        name, hardware.name, f"{bits} bits", priced(""), priced("_with_padding"), priced("_nonzero") if known else None,
        memory,
    )  # fmt: skip


def equal_bits(ann: AnnCounts, hardware: Hardware) -> AnnEnergy | None:
    """The conventional network at the widths of its own activations and weights; None where they are not known."""
    products = ann.known("mac_bits")
    if products is None or ann.bits is None:
        return None
    mac, add = _prices(hardware)
    multiply = Band(*(getattr(mac, end) - getattr(add, end) for end in ENDS))
    macs = ann.total("macs")

    def priced(suffix: str) -> Band:
        number, additions = (ann.total(f"{kind}{suffix}") / ann.images for kind in ("macs", "additions"))
        each = multiply.times(products / (64 * macs) if macs else 0.0) + _times(add, 1)
        return each.times(number) + _times(add, additions)

    activations, weights = ("-".join(map(str, dict.fromkeys(ends))) for ends in ann.bits)
    known = all(ann.known(f"{kind}_nonzero") is not None for kind in ("macs", "additions"))
    traffic = [layer.stored_bits for layer in ann.layers if layer.stored_bits is not None]
    return AnnEnergy(
        "equal bits", hardware.name, f"{activations}-bit activations, {weights}-bit weights", priced(""),
        priced("_with_padding"), priced("_nonzero") if known else None, memory_of(traffic, hardware),
    )  # fmt: skip


def memory_of(traffic: list[tuple[int, int, int]], hardware: Hardware) -> Band | None:
    """Traffic of one image; None where the profile has no memories. traffic: bits of weights, of what is read and of
    what is written, of each layer."""
    held = sum(weights for weights, *_ in traffic) + max(read + written for _, read, written in traffic)
    sizes = sorted((int(kib), price) for kib, price in hardware.prices.memory_word.items() if kib != "dram")
    price = next((price for kib, price in sizes if kib * 8192 >= held), hardware.prices.memory_word.get("dram"))
    return None if price is None else _times(price, sum(map(sum, traffic)) / WORD_BITS)


def _prices(hardware: Hardware) -> tuple[EnergyConstant, EnergyConstant]:
    """Of a MAC and of an addition."""
    if hardware.prices.multiply_accumulate is None:
        raise InputError(f"hardware profile '{hardware.name}' has no multiply_accumulate. Use {INTEGER}")
    return hardware.prices.multiply_accumulate, hardware.prices.synaptic_operation


def _times(constant: EnergyConstant, number: float) -> Band:
    return Band(*(number * getattr(constant, end) for end in ENDS))
