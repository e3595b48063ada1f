"""LLVM, and the processor that it compiles for."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import sys
from functools import lru_cache
from typing import Any

from asgfn.errors import BackendError
from asgfn.records import record

VARIABLE = "ASGFN_CPU_MAX_ISA"
# how the names of features of x86 begin that come after an instruction set
_AFTER = {
    "sse2": ("avx", "fma", "f16c", "xop", "amx", "vaes", "vpclmulqdq"),
    "avx2": ("avx512", "avx10", "amx"),
    "avx512": (),
}
# where libm and the functions that LLVM calls by itself are, besides in what Python has loaded
_LIBRARIES = {"linux": ("libm.so.6", "libgcc_s.so.1"), "win32": ("ucrtbase", "vcruntime140", "kernel32", "ntdll")}
# what LLVM calls by itself and Windows does not list among a program's symbols
_OF_WINDOWS = ("__chkstk", "memcpy", "memmove", "memset")
# conversions of 16-bit floats, which old processors have no instructions for
_OF_HALVES = ("__extendhfsf2", "__truncsfhf2", "__truncdfhf2")

# where Linux says how many microseconds of processor time a container gets in how many of them
_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


@record
class Host:
    """The processor at hand.

    Attributes:
        triple: architecture, system and object format, as LLVM names them.
        processor: its name.
        features: what it can do, as LLVM writes it: "+avx2,-avx512f,…".
        compiler: the versions of llvmlite and LLVM.
    """

    triple: str
    processor: str
    features: str
    compiler: str

    def has(self, feature: str) -> bool:
        """Whether the processor has a feature of LLVM's list: "avx2", "avx512f", "neon"."""
        return f"+{feature}" in self.features.split(",")


@lru_cache(maxsize=1)
def package() -> Any:
    """`llvmlite.binding`, ready to compile for this machine.

    Raises:
        ImportError: llvmlite is not installed.
    """
    try:
        binding = importlib.import_module("llvmlite.binding")
    except ImportError as error:
        raise ImportError(
            f"the compiled CPU backend needs llvmlite ({error}): pip install 'asgfn[all]'. "
            "backend='numpy' runs the same programs without it"
        ) from error
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()  # for inline assembly
    return binding


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _limited(features: str) -> str:
    """Features of an x86 processor, without those after what `ASGFN_CPU_MAX_ISA` says.

    Raises:
        BackendError: it is no instruction set.
    """
    most = os.environ.get(VARIABLE, "").strip().lower() or "avx512"
    if most not in _AFTER:
        raise BackendError(f"{VARIABLE}={most!r}: expected one of {', '.join(_AFTER)}")
    return ",".join(f"-{f[1:]}" if f[1:].startswith(_AFTER[most]) else f for f in features.split(","))


@lru_cache(maxsize=1)
def host() -> Host:
    """This machine, with no more than the instructions that `ASGFN_CPU_MAX_ISA` allows (`sse2`, `avx2`, `avx512`; of x86)."""
    binding = package()
    triple = binding.get_process_triple()
    if sys.platform == "win32":
        triple += "-elf"  # LLVM's linker in memory knows ELF best; nobody else sees the objects
    features = binding.get_host_cpu_features().flatten()
    if is_x86():
        features = _limited(features) + ",-prefer-256-bit"  # whoever writes 512-bit vectors means them
    versions = [binding.llvm_version_info, importlib.import_module("llvmlite").__version__]
    return Host(triple, binding.get_host_cpu_name(), features, repr(versions))


@lru_cache(maxsize=1)
def implied() -> tuple[str, ...]:
    """Functions that LLVM calls by itself and that are not among this process's symbols."""
    is_old = is_x86() and not host().has("f16c")
    return (_OF_WINDOWS if sys.platform == "win32" else ()) + (_OF_HALVES if is_old else ())


def processors() -> int:
    """How many processors this process may use: those it is bound to, in a container no more than it gets time for."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, _allowed())


@lru_cache(maxsize=1)
def _allowed() -> int:
    """How many processors a container gets time for."""
    found = sys.maxsize
    for files in _QUOTAS:
        try:
            quota, period = (int(word) for path in files for word in _read(path).split())
        except (OSError, ValueError):  # another version of control groups, or no limit
            continue
        if quota > 0 and period > 0:
            found = min(found, -(-quota // period))
    return found


def _read(path: str) -> bytes:
    """A short file; `open` takes some times as long."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 256)
    finally:
        os.close(file)


def new_target_machine(quick: bool = False) -> Any:
    """What turns IR into machine code of this host. Each thread needs its own.

    Arguments:
        quick: whether it shall be done soon rather than well.
    """
    machine, binding = host(), package()
    target = binding.Target.from_triple(machine.triple)
    # Position-independent: an object is loaded wherever there is room, and constants are near it.
    return target.create_target_machine(
        cpu=machine.processor, features=machine.features, opt=0 if quick else 2, reloc="pic", codemodel="small"
    )


@lru_cache(maxsize=256)
def address_of(name: str) -> int | None:
    """Where a C function is that the system's libraries have, such as `exp`; None if they have none of that name."""
    for library in _libraries():
        try:
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        except AttributeError:
            continue
    return None


@lru_cache(maxsize=1)
def _libraries() -> list[ctypes.CDLL]:
    found = [] if sys.platform == "win32" else [ctypes.CDLL(None)]
    for name in _LIBRARIES.get(sys.platform, ()):
        try:
            found.append(ctypes.CDLL(name))
        except OSError:  # another C library
            continue
    return found


@lru_cache(maxsize=1)
def vector_bits() -> int:
    """Bits of the widest vectors that the processor computes with."""
    if host().has("avx512f"):
        return 512
    return 256 if host().has("avx2") else 128
