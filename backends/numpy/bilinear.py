"""The dtype in which a contraction is computed, and exact integer contractions through floating-point BLAS.

BLAS knows float32, float64 and their complex pairs. Half precisions are computed in float32 and rounded once.
Integers are computed in floats wherever every partial sum is a whole number that the float represents exactly; 32-bit
integers are split into halves for that. Only 64-bit integers take NumPy's own (slow) loops.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Contract = Callable[[np.ndarray, np.ndarray], np.ndarray]

_F32, _F64, _I64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)


def _is_half(dtype: np.dtype) -> bool:
    return dtype.itemsize == 2 and dtype.kind not in "iub"


def _magnitude_bits(dtype: np.dtype) -> int:
    """b such that |x| <= 2**b for every x of this integer dtype."""
    return 8 * dtype.itemsize - (dtype.kind == "i")


def float_work_dtype(*dtypes: np.dtype) -> np.dtype:
    """The float or complex dtype that holds all of these, float32 at the least."""
    wide = [_F32 if _is_half(d) else d for d in dtypes if d.kind not in "iub"]
    return np.result_type(*wide) if wide else _F32


def plan_bilinear(
    lhs: np.dtype, rhs: np.dtype, out: np.dtype, depth: int, build: Callable[[np.dtype], Contract]
) -> Contract:
    """A contraction of operands of dtypes `lhs` and `rhs` with a result of dtype `out`.

    Args:
        depth: how many products are summed into one element of the result, at most.
        build: given the dtype to compute in, a function of two operands of that dtype with a result of that dtype.
    """
    if out.kind in "iu" and lhs.kind in "iub" and rhs.kind in "iub":
        return _integer(lhs, rhs, out, depth, build)
    if out.kind == "b":
        return _boolean(build)
    work = float_work_dtype(lhs, rhs, out)
    contract = build(work)
    if lhs == rhs == out == work:
        return contract

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return contract(x.astype(work, copy=False), y.astype(work, copy=False)).astype(out, copy=False)

    return run


def _boolean(build: Callable[[np.dtype], Contract]) -> Contract:
    """Or of ands: a count of non-negative terms is zero only when every term is."""
    contract = build(_F32)

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return contract(x.astype(_F32), y.astype(_F32)) != 0

    return run


def _integer(
    lhs: np.dtype, rhs: np.dtype, out: np.dtype, depth: int, build: Callable[[np.dtype], Contract]
) -> Contract:
    depth_bits = max(depth - 1, 0).bit_length()
    bits = _magnitude_bits(lhs) + _magnitude_bits(rhs) + depth_bits
    if bits <= 53:
        work = _F32 if bits <= 24 else _F64
        contract = build(work)

        def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return contract(x.astype(work), y.astype(work)).astype(_I64).astype(out, copy=False)

        return run

    if out.itemsize <= 4 and depth_bits <= 20:
        contract = build(_F64)

        def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            wide = x.astype(_I64)
            return (wide & 0xFFFF).astype(_F64), (wide >> 16).astype(_F64)

        def run_split(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            # (x0 + 2^16 x1)(y0 + 2^16 y1): the term 2^32 x1 y1 vanishes modulo 2^32
            x0, x1 = split(x)
            y0, y1 = split(y)
            middle = contract(x0, y1).astype(_I64) + contract(x1, y0).astype(_I64)
            return (contract(x0, y0).astype(_I64) + (middle << 16)).astype(out)

        return run_split

    contract = build(out)

    def run_native(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return contract(x.astype(out, copy=False), y.astype(out, copy=False))

    return run_native
