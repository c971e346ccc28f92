"""Assembles innermost loops in AVX512-VNNI instructions, when a process first needs them."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import llvmlite.binding as llvm

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
