"""Running reductions on the device, against the NumPy backend."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from backends.kernels.target import Target
from tests import operations
from tests.kernel_checks import SMALL, check, half_target, needs_device

needs_device()
TINY = Target(workgroup_threads=32, workgroup_bytes=1024, grid=3)
NAMES = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
SHAPES = [
    ((7,), 0),
    ((1,), 0),
    ((3, 1), 1),
    ((33,), 0),
    ((300,), 0),
    ((2, 40, 3), 1),
    ((5, 300), 1),
    ((300, 5), 0),
    ((100, 40), 0),
    ((2, 3, 64), 2),
]
EXTREME = np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38, 1.0])


def samples(shape, dtype="float32", seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    if "float" not in dtype:
        bounds = np.iinfo(dtype)
        return np.random.default_rng(seed).integers(bounds.min, bounds.max, shape, dtype, endpoint=True)
    return values.astype(dtype)


def near_one(name, x):
    """Products that neither vanish nor overflow."""
    return np.exp(x.astype("float32") / 20).astype(x.dtype) if name == "cumprod" and x.dtype.kind not in "iu" else x


# one combination in all shapes, the others in those of each schedule
CASES = [(name, *case) for name in NAMES for case in (SHAPES if name == "cumsum" else (SHAPES[4], SHAPES[7]))]


@pytest.mark.parametrize("name, shape, axis", CASES, ids=str)
def test_shapes(name, shape, axis):
    f = getattr(lax, name)
    x = near_one(name, samples(shape))
    exact = name in ("cummax", "cummin")
    check(lambda x: f(x, axis), x, exact=exact, scale=20)
    check(lambda x: f(x, axis, reverse=True), x, exact=exact, scale=20, target=TINY)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_dtypes(dtype):
    for name in NAMES[:4] + (("cumlogsumexp",) if "float" in dtype else ()):
        f, x = getattr(lax, name), near_one(name, samples((3, 70), dtype))
        check(lambda x, f=f: f(x, 1), x, scale=4)
        check(lambda x, f=f: f(x, 0, reverse=True), x, scale=4)


@pytest.mark.parametrize("shape, axis", [((40_000,), 0), ((2, 9_001), 1), ((3_000, 33), 0)], ids=str)
def test_long(shape, axis):
    x = np.random.default_rng(0).integers(-9, 9, shape).astype("int32")
    for target in (SMALL, TINY):
        check(lambda x: lax.cumsum(x, axis), x, exact=True, target=target)
        check(lambda x: lax.cummax(x, axis, reverse=True), x, exact=True, target=target)
    check(lambda x: lax.cumsum(x, axis), samples(shape), scale=300)
    check(lambda x: lax.cumlogsumexp(x, axis), samples(shape), scale=20, target=TINY)


def test_extreme_values():
    x = np.random.default_rng(0).choice(EXTREME, (20, 40), p=[0.02, 0.02, 0.02, 0.3, 0.3, 0.02, 0.02, 0.3])
    for name in ("cummax", "cummin", "cumlogsumexp"):
        f = getattr(lax, name)
        check(lambda x, f=f: f(x, 1), x)
    check(lambda x: lax.cumlogsumexp(x, 0), np.full((50, 2), -np.inf, "float32"))
    check(lambda x: lax.cumlogsumexp(x, 0), np.float32([-1e38, -1e38, 0, 88, 1e38, 3e38]))
    zeros = np.full((3, 50), -0.0, "float32")
    check(lambda x: lax.cumsum(x, 1), zeros, exact=True)
    check(lambda x: lax.cumsum(x, 1), np.where(x == x, x, 0)[:, :3])


def test_empty_and_bool():
    check(lambda x: lax.cumsum(x, 0), np.zeros((0, 3), "float32"))
    check(lambda x: jnp.cumsum(x, axis=1), np.random.default_rng(0).random((3, 50)) < 0.5, exact=True)


def test_gradients():
    x = samples((4, 50))
    check(asgfn.grad(lambda x: jnp.sum(jnp.cumsum(x, axis=1) * x)), x, scale=50)
    check(asgfn.grad(lambda x: jnp.sum(jnp.cumprod(x, axis=0) * x)), x, scale=50)


def test_half_precision():
    for name in NAMES:
        f, x = getattr(lax, name), near_one(name, samples((5, 70), "float16"))
        for axis in (0, 1):
            check(lambda x, f=f, a=axis: f(x, a), x, target=half_target(), scale=4)


@pytest.mark.parametrize("op", [op for op in operations.REDUCTION if op.primitive in NAMES], ids=lambda op: op.id)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_operation_table(op, dtype):
    for sample in op.samples:
        check(op.f, *[np.asarray(x, dtype) for x in sample], scale=4)
