"""The table of operations (`operations.py`) on the compiled backends: values, derivatives and batches, against NumPy's.

The rows of one dtype are compiled a few at a time, since to compile costs more than what they compute. Set
ASGFN_ONE_BY_ONE=1 to compile each alone, which says sooner which one is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn.dtypes import float0
from tests.compiled_checks import backend_fixture, both_tiers, cpu_fixture, gpu_fixture  # noqa: F401
from tests.operations import OPERATIONS, Operation
from tests.test_operations import cases

TOGETHER = 1 if os.environ.get("ASGFN_ONE_BY_ONE") else 6
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2, "complex64": 1e-5}
# what the CPU has besides, where 64-bit numbers are enabled
WIDE_TOLERANCE = {"float64": 1e-11, "complex128": 1e-11}
# these lose digits where a number is subtracted from one that is almost the same
LARGER = {"rem": 4, "igamma": 20, "igammac": 20, "zeta": 10, "polygamma": 10, "regularized_incomplete_beta": 20}

Case = tuple[Operation, tuple[Any, ...]]


def weighted(outs: Any) -> Any:
    """A number that depends on all floating results, on each differently."""
    total = 0.0
    for out in asgfn.tree.leaves(outs):
        if jnp.issubdtype(out.dtype, jnp.complexfloating):
            out = out.real + 2 * out.imag
        if jnp.issubdtype(out.dtype, jnp.floating):
            out = jnp.where(jnp.isfinite(out), out, 0)
            out = out.astype("float32") if out.dtype.itemsize < 4 else out
            total += (out * np.cos(np.arange(out.size, dtype=np.float32)).reshape(out.shape)).sum()
    return total


def value(op: Operation, args: Sequence[Any]) -> Any:
    return op.f(*args)


def gradient(op: Operation, args: Sequence[Any]) -> Any:
    return asgfn.grad(lambda *args: weighted(op.f(*args)), argnums=op.smooth)(*args)


def tangent(op: Operation, args: Sequence[Any]) -> Any:
    free = [args[i] for i in op.smooth]

    def f(*free: Any) -> Any:
        full = list(args)
        for i, x in zip(op.smooth, free, strict=True):
            full[i] = x
        return op.f(*full)

    return asgfn.jvp(f, free, [jnp.cos(x) for x in free])


def batch(op: Operation, args: Sequence[Any]) -> Any:
    return asgfn.vmap(op.f)(*[jnp.stack([x, jnp.flip(x)]) for x in args])


def table(dtype: str, smooth: bool) -> list[Case]:
    """All rows that have a dtype, with all samples."""
    found = []
    for op in OPERATIONS:
        if smooth and not op.smooth:
            continue
        dtypes = [dtype] if dtype in op.dtypes else []
        if dtype in ("float32", "float64") and not dtypes and not set(op.dtypes) & set(TOLERANCE):
            dtypes = [dtype]  # a row of integers, or one whose floats a GPU lacks
        for _, args in cases(op, dtypes) if dtypes else ():
            if not smooth or all(args[i].size for i in op.smooth):
                found.append((op, args))
    return found


def parts(dtype: str, smooth: bool = False) -> list[Any]:
    rows = table(dtype, smooth)
    groups = [rows[k : k + TOGETHER] for k in range(0, len(rows), TOGETHER)]
    return [pytest.param(dtype, group, id=f"{dtype}-{group[0][0].id}-{k}") for k, group in enumerate(groups)]


def compare(backend: str, what: Callable, dtype: str, group: Sequence[Case], scale: float = 1.0) -> None:
    """Compiles some rows of the table as one program, for a backend and for NumPy."""

    def program(samples: Any) -> Any:
        return [what(op, args) for (op, _), args in zip(group, samples, strict=True)]

    samples = [[jnp.asarray(x) for x in args] for _, args in group]
    compiled = both_tiers(program, samples) if backend == "cpu" else asgfn.jit(program, backend=backend)(samples)
    with np.errstate(all="ignore"):
        want = asgfn.jit(program, backend="numpy")(samples)
    for (op, args), a, b in zip(group, compiled, want, strict=True):
        assert asgfn.tree.structure(a) == asgfn.tree.structure(b)
        for x, y in zip(asgfn.tree.leaves(a), asgfn.tree.leaves(b), strict=True):
            assert x.aval == y.aval, op.id
            x, y = np.asarray(x), np.asarray(y)
            if y.dtype.kind in "biu" or y.dtype == float0:
                np.testing.assert_array_equal(x, y, err_msg=op.id)
                continue
            wide = np.complex128 if y.dtype.kind == "c" else np.float64
            tolerance = (TOLERANCE | WIDE_TOLERANCE)[dtype] * LARGER.get(op.primitive, op.tolerance) * scale
            size = max(1.0, float(np.max(np.abs(y[np.isfinite(y)]).astype(np.float64), initial=0)))
            message = f"{op.id} of {[str(jnp.asarray(v).aval) for v in args]}"
            np.testing.assert_allclose(
                x.astype(wide), y.astype(wide), rtol=tolerance, atol=tolerance * min(size, 10.0), err_msg=message
            )


@pytest.mark.parametrize("dtype, group", [p for dtype in TOLERANCE for p in parts(dtype)])
def test_values(backend: str, dtype: str, group: Sequence[Case]) -> None:
    compare(backend, value, dtype, group)


@pytest.mark.parametrize("dtype, group", [p for dtype in TOLERANCE for p in parts(dtype, smooth=True)])
def test_gradients(backend: str, dtype: str, group: Sequence[Case]) -> None:
    compare(backend, gradient, dtype, group, scale=4)


@pytest.mark.parametrize("dtype, group", parts("float32", smooth=True))
def test_tangents(backend: str, dtype: str, group: Sequence[Case]) -> None:
    compare(backend, tangent, dtype, group, scale=4)


@pytest.mark.parametrize("dtype, group", parts("float32"))
def test_batches(backend: str, dtype: str, group: Sequence[Case]) -> None:
    compare(backend, batch, dtype, group)


@pytest.mark.parametrize("dtype, group", [p for dtype in WIDE_TOLERANCE for p in parts(dtype)])
def test_64_bit_values(cpu: Any, dtype: str, group: Sequence[Case]) -> None:
    with asgfn.enable_x64():
        compare("cpu", value, dtype, group)


@pytest.mark.parametrize("dtype, group", [p for dtype in WIDE_TOLERANCE for p in parts(dtype, smooth=True)])
def test_64_bit_gradients(cpu: Any, dtype: str, group: Sequence[Case]) -> None:
    with asgfn.enable_x64():
        compare("cpu", gradient, dtype, group, scale=4)


@pytest.mark.parametrize("dtype, group", parts("float64"))
def test_64_bit_batches(cpu: Any, dtype: str, group: Sequence[Case]) -> None:
    with asgfn.enable_x64():
        compare("cpu", batch, dtype, group)


def test_the_whole_table_is_compared() -> None:
    compared = {op.id for dtype in TOLERANCE for op, _ in table(dtype, smooth=False)}
    assert compared == {op.id for op in OPERATIONS}
