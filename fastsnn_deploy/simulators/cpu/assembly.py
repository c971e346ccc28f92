"""Assembles innermost loops in AVX512-VNNI instructions, when a process first needs them."""

from __future__ import annotations

import platform
from functools import cache
from hashlib import sha256
from threading import Lock
from typing import Any

import llvmlite.binding as llvm

SPOILT = (*(f"zmm{i}" for i in range(32)), *(f"k{i}" for i in range(1, 8)), "rax", "rbx", "rcx", "rdx", "rsi",
          *(f"r{i}" for i in range(8, 16)), "memory", "dirflag", "fpsr", "flags")  # fmt: skip
FEATURES = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")
_LOCK = Lock()
_ADDRESSES: dict[str, int] = {}


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


@cache
def _compiler() -> Any:
    """Keeps all loops in memory."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    target = llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)


def assembled(name: str, lines: list[str]) -> int:
    """Address of `void name(int64 argument)` with the argument in rdi; other registers are the caller's again.

    The same lines under the same name are assembled once.
    """
    code = "\\0A".join([*lines, "vzeroupper"]).replace("$", "$$")
    name = f"{name}_{sha256(code.encode()).hexdigest()[:16]}"
    spoilt = ",".join(f"~{{{each}}}" for each in SPOILT)
    text = f"""
        define void @{name}(i64 %argument) #0 {{
            call void asm sideeffect "{code}", "{{rdi}},{spoilt}"(i64 %argument)
            ret void
        }}
        attributes #0 = {{ nounwind "target-features"="{",".join(f"+{each}" for each in FEATURES)}" }}"""
    with _LOCK:
        if name not in _ADDRESSES:
            compiler = _compiler()
            module = llvm.parse_assembly(text)
            module.verify()
            compiler.add_module(module)
            compiler.finalize_object()
            _ADDRESSES[name] = int(compiler.get_function_address(name))
        return _ADDRESSES[name]
