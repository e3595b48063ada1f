"""Kernels that move memory around: what programs need besides computing."""

from __future__ import annotations

from functools import lru_cache

from backends.kernels.ir import BOOL, I32, U32, Builder, Kernel
from backends.kernels.schedules.elementwise import THREADS, WIDE, thread_number
from backends.kernels.target import Target


@lru_cache(maxsize=512)
def copy_kernel(dtype: str, count: int, target: Target) -> Kernel:
    """out[i] = in[i]."""
    return _each(dtype, count, target, reads=True)


@lru_cache(maxsize=512)
def zeros_kernel(dtype: str, count: int, target: Target) -> Kernel:
    """out[i] = 0."""
    return _each(dtype, count, target, reads=False)


def _each(dtype: str, count: int, target: Target, reads: bool) -> Kernel:
    b = Builder()
    width = WIDE if count % WIDE == 0 else 1
    source = b.argument("in0", dtype, count // width) if reads else None
    result = b.argument("out0", dtype, count // width)
    result.width = width
    if source is not None:
        source.width = width
    number, grid = thread_number(b, target, -(-count // (width * THREADS)))
    at = b.index(number)
    with b.when(b.op("lt", at, b.constant(count // width, I32), dtype=BOOL)):
        if width == 1:
            found = b.load(source, at) if source is not None else b.constant(0, dtype)
            b.store(result, at, found)
        else:
            lanes = [b.load(source, at, k) if source is not None else b.constant(0, dtype) for k in range(width)]
            b.store(result, at, tuple(lanes))
    name = "copy" if reads else "zeros"
    size = 2 if dtype == "f16" else 4
    return b.kernel(name, (THREADS,), grid, bytes=float(size * count * (1 + reads)))


# whole memories are moved as integers, four at a time, with what pads them
def copy_memory(nbytes: int, target: Target) -> Kernel:
    """Copies a memory of so many bytes (a multiple of 16)."""
    return copy_kernel(U32, nbytes // 4, target)


def zero_memory(nbytes: int, target: Target) -> Kernel:
    """Fills a memory of so many bytes (a multiple of 16) with zeros."""
    return zeros_kernel(U32, nbytes // 4, target)
