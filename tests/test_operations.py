"""Tests derived from the table of operations (`operations.py`)."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn.primitives.base import all_primitives
from asgfn.test_util import check_jvp, check_vjp
from asgfn.tree_util import tree_leaves
from tests.operations import ELSEWHERE, OPERATIONS, Operation

TOLERANCE = {
    "float16": 4e-3,
    "bfloat16": 3e-2,
    "float32": 2e-5,
    "complex64": 2e-5,
    "float64": 1e-12,
    "complex128": 1e-12,
}
IDS = [op.id for op in OPERATIONS]
everything = pytest.mark.parametrize("op", OPERATIONS, ids=IDS)


def convert(x: np.ndarray, dtype: str) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype.kind not in "fc":
        return x
    return x.astype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)


def cases(op: Operation, dtypes=None):
    for dtype in dtypes or op.dtypes:
        for sample in op.samples:
            yield dtype, tuple(convert(x, dtype) for x in sample)


def assert_same(a, b):
    """Equal bit for bit, NaN included."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(
        a.astype(np.float64) if a.dtype.kind == "V" else a, b.astype(np.float64) if b.dtype.kind == "V" else b
    )


@everything
def test_values_and_types(op):
    """The type rule says what evaluation gives; evaluation gives what the reference says; jit changes nothing."""
    with asgfn.enable_x64():
        for dtype, args in cases(op):
            arrays = [jnp.asarray(a) for a in args]
            asg = asgfn.trace(op.f)(*arrays)
            assert op.primitive in {n.primitive.name for n in asg.nodes}
            outs = tree_leaves(op.f(*arrays))
            compiled = tree_leaves(asgfn.jit(op.f)(*arrays))
            for out, again, t in zip(outs, compiled, asg.out_types, strict=True):
                assert (out.shape, out.dtype) == (t.shape, t.dtype) == (np.asarray(out).shape, np.asarray(out).dtype)
                assert_same(out, again)
            if op.reference is None:
                continue
            wide = [
                np.asarray(a, np.complex128 if a.dtype.kind == "c" else np.float64) if a.dtype.kind in "fcV" else a
                for a in args
            ]
            with np.errstate(all="ignore"):
                expected = op.reference(*wide)
            for out, want in zip(outs, expected if isinstance(expected, tuple) else (expected,), strict=True):
                got = np.asarray(out)
                if got.dtype.kind in "biu":
                    np.testing.assert_array_equal(got, want)
                else:
                    tolerance = op.tolerance * TOLERANCE[dtype] if dtype in TOLERANCE else 0
                    kind = np.complex128 if got.dtype.kind == "c" else np.float64
                    np.testing.assert_allclose(got.astype(kind), want, rtol=tolerance, atol=tolerance, err_msg=dtype)


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.smooth], ids=[op.id for op in OPERATIONS if op.smooth])
def test_derivatives(op):
    """jvp against central differences, vjp against jvp, both again for the derivative itself."""
    with asgfn.enable_x64():
        for dtype in [d for d in op.dtypes if d in ("float64", "complex128")]:
            for sample in op.samples:
                args = [jnp.asarray(convert(x, dtype)) for x in sample]

                def f(*free, args=args):
                    full = list(args)
                    for i, x in zip(op.smooth, free, strict=True):
                        full[i] = x
                    outs = [o for o in tree_leaves(op.f(*full)) if np.dtype(o.dtype).kind in "fc"]
                    return tuple(outs)

                free = [args[i] for i in op.smooth]
                if all(x.size == 0 for x in free):
                    asgfn.vjp(f, *free)[1](f(*free))
                    continue
                tolerance = 1e-5 * op.tolerance
                if op.primitive == "convert_element_type":
                    continue  # its result is float32: central differences see only rounding
                check_jvp(f, free, rtol=tolerance, atol=tolerance)
                if not all(np.dtype(o.dtype).kind == "f" for o in f(*free)) or dtype.startswith("complex"):
                    continue
                check_vjp(f, free, rtol=tolerance, atol=tolerance)
                if op.orders < 2:
                    continue
                directions = [jnp.asarray(np.cos(np.arange(x.size)).reshape(x.shape)) for x in free]

                def slope(*xs, f=f, directions=directions):
                    return asgfn.jvp(f, xs, tuple(directions))[1]

                check_jvp(slope, free, rtol=10 * tolerance, atol=10 * tolerance)
                check_vjp(slope, free, rtol=10 * tolerance, atol=10 * tolerance)


@everything
def test_vmap_is_a_loop(op):
    _, args = next(cases(op))
    rng = np.random.default_rng(3)
    copies = []
    for a in args:
        rows = [a]
        for _ in range(2):
            rows.append(rng.permutation(a.ravel()).reshape(a.shape) if a.size else a)
        copies.append(np.stack(rows))
    n = len(args)
    masks = [tuple(k == i for k in range(n)) for i in range(n)] + [(True,) * n]
    for mask in masks:
        for axis in (0, -1):
            stacked = [np.moveaxis(c, 0, axis) if m else a for c, a, m in zip(copies, args, mask, strict=True)]
            in_axes = tuple(axis if m else None for m in mask)
            got = tree_leaves(asgfn.vmap(op.f, in_axes=in_axes)(*stacked))
            rows = [
                tree_leaves(op.f(*(c[k] if m else a for c, a, m in zip(copies, args, mask, strict=True))))
                for k in range(3)
            ]
            for column, out in zip(zip(*rows, strict=True), got, strict=True):
                want = np.stack([np.asarray(x) for x in column])
                kind = {"f": np.float64, "V": np.float64, "c": np.complex128}.get(want.dtype.kind)
                if kind is None:
                    np.testing.assert_array_equal(np.asarray(out), want)
                else:
                    np.testing.assert_allclose(np.asarray(out).astype(kind), want.astype(kind), rtol=1e-4, atol=1e-5)


@everything
def test_stored_graphs(op):
    _, args = next(cases(op))
    asg = asgfn.trace(op.f)(*args)
    loaded = asgfn.Asg.from_bytes(asg.to_bytes())
    assert loaded == asg and hash(loaded) == hash(asg)
    for a, b in zip(tree_leaves(loaded(*args)), tree_leaves(asg(*args)), strict=True):
        assert_same(a, b)


def test_every_primitive_is_in_the_table():
    listed = {op.primitive for op in OPERATIONS} | set(ELSEWHERE)
    missing = set(all_primitives()) - listed
    assert not missing, f"add these to tests/operations.py: {sorted(missing)}"


def test_every_primitive_is_explained():
    for name, prim in all_primitives().items():
        assert prim.what and prim.formula and prim.why, name
