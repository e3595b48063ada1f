"""Window reductions and moves on the device, against the NumPy backend."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.primitives.windows import (
    reduce_window_argmax_p,
    reduce_window_argmin_p,
    window_gather_p,
    window_scatter_add_p,
)
from tests import operations
from tests.kernel_checks import check, half_target, needs_device

needs_device()
rng = np.random.default_rng(0)


def window(dims, strides=None, padding=None, spread=None, gaps=None):
    ones = (1,) * len(dims)
    return {
        "window_dimensions": dims,
        "window_strides": strides or ones,
        "padding": padding or ((0, 0),) * len(dims),
        "base_dilation": spread or ones,
        "window_dilation": gaps or ones,
    }


# shape and window: overlapping, disjoint, strided with holes, padded, dilated, cropped, of size 1, larger than the array
GEOMETRIES = {
    "overlapping": ((2, 6, 7), window((1, 3, 2), (1, 2, 1))),
    "disjoint": ((2, 6, 8), window((1, 2, 2), (1, 2, 2))),
    "gaps": ((9,), window((2,), (4,))),
    "padded": ((3, 5, 5), window((1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (2, 3)))),
    "dilated": ((4, 9), window((2, 3), (1, 2), ((1, 0), (0, 2)), None, (2, 3))),
    "spread": ((4, 5), window((3, 2), (2, 3), ((1, 2), (2, 2)), (2, 3), (1, 2))),
    "cropped": ((6, 7), window((2, 2), (1, 1), ((-1, -2), (-1, 1)))),
    "one": ((1, 1), window((1, 1))),
    "beyond": ((2, 3), window((4, 5), (2, 2), ((3, 3), (3, 4)))),
    "only padding": ((2,), window((2,), (1,), ((5, 5),))),
    "long": ((50,), window((33,), (3,), ((10, 9),))),
}
EXTREME = np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38, 1e-40])


def samples(shape, dtype, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return (values > 0 if dtype == "bool" else values * 4).astype(dtype)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", ["sum", "max", "min"])
def test_reduce_window(geometry, name):
    shape, params = GEOMETRIES[geometry]
    x = samples(shape, "float32")
    p = asgfn.primitives.base.primitive(f"reduce_window_{name}")
    check(lambda x: p.bind(x, **params), x)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_positions_and_moves(geometry):
    shape, params = GEOMETRIES[geometry]
    x = np.round(samples(shape, "float32"))  # with ties
    (index,) = check(lambda x: reduce_window_argmax_p.bind(x, **params), x)
    check(lambda x: reduce_window_argmin_p.bind(x, **params), x)
    check(lambda x, i: window_gather_p.bind(x, i, **params), x, index, exact=True)
    updates = samples(index.shape, "float32", 1)
    # the same order of additions: the same bits
    check(lambda u, i: window_scatter_add_p.bind(u, i, operand_shape=shape, **params), updates, index, exact=True)
    anywhere = rng.integers(0, np.prod(params["window_dimensions"]), index.shape).astype(np.int32)
    check(lambda u, i: window_scatter_add_p.bind(u, i, operand_shape=shape, **params), updates, anywhere, exact=True)
    check(lambda x, i: window_gather_p.bind(x, i, **params), x, anywhere, exact=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint8", "int32", "uint32", "bool"])
def test_dtypes(dtype):
    shape, params = GEOMETRIES["padded"]
    x = samples(shape, dtype) if dtype[0] != "u" else np.abs(samples(shape, "float32")).astype(dtype)
    names = ["max", "min", "argmax", "argmin"] + (["sum"] if dtype != "bool" else [])
    for name in names:
        p = asgfn.primitives.base.primitive(f"reduce_window_{name}")
        check(lambda x, p=p: p.bind(x, **params), x)
    if "float" in dtype:
        index = np.asarray(reduce_window_argmax_p.bind(x, **params))
        updates = samples(index.shape, dtype, 2)
        check(lambda u, i: window_scatter_add_p.bind(u, i, operand_shape=shape, **params), updates, index, exact=True)


def test_extreme_values():
    x = rng.choice(EXTREME, (4, 9, 9))
    params = window((1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
    for name in ("max", "min", "argmax", "argmin"):
        p = asgfn.primitives.base.primitive(f"reduce_window_{name}")
        check(lambda x, p=p: p.bind(x, **params), x)
    check(lambda x: reduce_window_argmax_p.bind(x, **params), np.full((2, 4, 4), -np.inf, np.float32))
    check(lambda x: reduce_window_argmax_p.bind(x, **params), np.full((2, 4, 4), -128, np.int8))


def test_max_pooling_and_its_gradient():
    def pool(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def loss(x):
        return jnp.sum(pool(x) ** 2 * 0.5)

    x = samples((2, 6, 8, 3), "float32")
    check(pool, x, exact=True)
    check(asgfn.grad(loss), x)


def test_half_precision():
    x = samples((4, 7, 10), "float16")
    pool = ((1, 3, 2), (1, 2, 2), "SAME")
    check(lambda x: lax.reduce_window(x, np.float16(0), lax.add, *pool), x, target=half_target())
    check(
        asgfn.grad(lambda x: jnp.sum(lax.reduce_window(x, np.float16(-np.inf), lax.max, *pool))),
        x,
        target=half_target(),
    )


@pytest.mark.parametrize("op", operations.WINDOW, ids=lambda op: op.id)
def test_operation_table(op):
    for sample in op.samples:
        check(op.f, *[np.asarray(x, "float32") for x in sample])
