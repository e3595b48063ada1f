"""sort and top_k on the device, against the NumPy backend: the same elements, bit by bit."""

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
TINY = Target(workgroup_threads=64, workgroup_bytes=512, grid=3)  # sorts blocks of 64
SHAPES = [
    ((7,), 0),
    ((1,), 0),
    ((2,), 0),
    ((3, 5), 1),
    ((6, 4), 0),
    ((3, 64, 2), 1),
    ((300, 9), 1),
    ((2, 1), 1),
    ((1, 2050), 1),
]
DTYPES = ("float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "bool")
EXTREME = np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38, 1e-40, -1e-40, 1.0])


def samples(shape, dtype="float32", seed=0):
    """With many ties."""
    generator = np.random.default_rng(seed)
    if "float" in dtype:
        return np.round(generator.normal(size=shape) * 4).astype(dtype)
    if dtype == "bool":
        return generator.random(shape) < 0.5
    bounds = np.iinfo(dtype)
    some = generator.integers(bounds.min, bounds.max, 40, dtype, endpoint=True)
    return generator.choice(np.concatenate([some, np.array([bounds.min, bounds.max], dtype)]), shape)


@pytest.mark.parametrize("shape, axis", SHAPES, ids=str)
def test_sort(shape, axis):
    x, y = samples(shape), samples(shape, "int32", 1)
    position = np.broadcast_to(np.arange(np.prod(shape), dtype="int32").reshape(shape), shape)
    check(lambda x: lax.sort(x, axis), x, exact=True)
    check(lambda x, p: lax.sort((x, p), axis), x, position, exact=True)
    check(lambda x, y, p: lax.sort((y, x, p), axis, num_keys=2), x, y % 3, position, exact=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    x, position = samples((5, 33), dtype), np.arange(5 * 33, dtype="uint32").reshape(5, 33)
    check(lambda x, p: lax.sort((x, p), 1), x, position, exact=True)
    check(lambda x: lax.top_k(x, 7), x, exact=True)


@pytest.mark.parametrize("n", [63, 64, 65, 128, 129, 1000])
def test_merging(n):
    x, position = samples((3, n)), np.arange(3 * n, dtype="int32").reshape(3, n)
    check(lambda x, p: lax.sort((x, p), 1), x, position, exact=True, target=TINY)
    check(lambda x, p: lax.sort((x, p), 0), x.T, position.T, exact=True, target=TINY)
    for k in (1, 5, 32, 33, 60):
        check(lambda x, k=k: lax.top_k(x, k), x, exact=True, target=TINY)


@pytest.mark.parametrize("target", [SMALL, TINY], ids=["small", "tiny"])
def test_long(target):
    x = np.random.default_rng(0).normal(size=5000).astype("float32")
    check(lambda x: (jnp.sort(x), jnp.argsort(x)), x, exact=True, target=target)
    check(lambda x: lax.top_k(x, 50), x, exact=True, target=target)
    check(lambda x: lax.top_k(x, 5000), x, exact=True, target=target)


def test_extreme_values():
    x = np.random.default_rng(0).choice(EXTREME, (4, 40))
    position = np.arange(160, dtype="int32").reshape(4, 40)
    check(lambda x, p: lax.sort((x, p), 1), x, position, exact=True)
    check(lambda x: lax.sort(x, 0), x, exact=True)
    x[1, :7] = -x[1, :7]  # NaNs with a sign
    check(lambda x: lax.top_k(x, 40), x, exact=True)
    check(lambda x: lax.sort((x, x, x), 1, num_keys=3), x, exact=True)


def test_many_operands():
    x = [samples((3, 9), seed=k) for k in range(7)]
    check(lambda *xs: lax.sort(xs, 1, num_keys=6), *[np.sign(v) for v in x], exact=True)
    check(lambda *xs: lax.sort(xs, 0, num_keys=1), *x, exact=True)


def test_functions_that_sort():
    x = samples((6, 11))
    check(lambda x: jnp.argsort(x, axis=0), x, exact=True)
    check(lambda x: jnp.argsort(x, axis=1, descending=True), x, exact=True)
    check(lambda x: jnp.median(x, axis=1), x)
    check(lambda x: lax.top_k(x, 3, axis=0), x, exact=True)
    check(
        asgfn.grad(lambda x: jnp.sum(jnp.sort(x) * jnp.arange(11.0))),
        x + np.linspace(0, 0.4, 66, dtype="float32").reshape(6, 11),
    )


def test_empty():
    check(lambda x: lax.sort(x, 1), np.zeros((3, 0), "float32"))
    check(lambda x: lax.top_k(x, 0), samples((3, 4)))


def test_half_precision():
    x = samples((5, 70), "float16")
    x[0, :5] = [np.inf, -np.inf, np.nan, -0.0, 0.0]
    check(lambda x: lax.sort((x, x), 1), x, target=half_target(), exact=True)
    check(lambda x: lax.top_k(x, 5), x, target=half_target(), exact=True)


@pytest.mark.parametrize("op", operations.SORTING, ids=lambda op: op.id)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_operation_table(op, dtype):
    for sample in op.samples:
        check(op.f, *[np.asarray(x, dtype) for x in sample], exact=True)
