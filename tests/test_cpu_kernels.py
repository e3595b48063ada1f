"""Results of the compiled CPU backend's kernels, at sizes and layouts where they take different ways."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from backends.llvm.host import vector_bits
from tests import compiled_checks
from tests.compiled_checks import array, assert_same, cpu_fixture  # noqa: F401

pytestmark = pytest.mark.usefixtures("cpu")
rng = np.random.default_rng(13)


def check(f: Callable, *args: Any, **options: Any) -> Any:
    return compiled_checks.check(f, *args, backend="cpu", **options)


def native(f: Callable, *args: Any, **options: Any) -> None:
    """Compares, and nothing is left to NumPy."""
    assert check(f, *args, **options).host_nodes == []


def integers(low: int, high: int, *shape: int, dtype: str = "int32") -> Any:
    return jnp.asarray(rng.integers(low, high, shape).astype(dtype))


# ---------------------------------------------------------------------------------------------- reductions
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 5), (7, 9), (2, 4097), (4097, 2), (64, 64), (300, 511)])
def test_reductions_over_each_axis(shape: tuple[int, int]) -> None:
    def f(x: Any, n: Any) -> Any:
        found = []
        for axis in (0, 1, None):
            found += [x.sum(axis), x.max(axis), x.min(axis), x.mean(axis), (1 + x * 1e-3).prod(axis)]
            found += [jnp.argmax(x, axis), jnp.argmin(x, axis), n.sum(axis), n.max(axis), (n > 3).any(axis)]
            found += [(n > 3).all(axis), x.std(axis), nn.logsumexp(x, axis)]
        return found

    native(f, array(rng, *shape), integers(-9, 9, *shape), rtol=2e-4, atol=2e-4 * max(1, shape[0] * shape[1] / 1e4))


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), (1, 3), (0, 2, 3)])
def test_reductions_over_several_axes(axes: tuple[int, ...]) -> None:
    x = array(rng, 5, 17, 6, 33)
    native(lambda x: (x.sum(axes), x.max(axes), jnp.sin(x).sum(axes) + 1, (x - x.mean(axes, keepdims=True)).sum(0)), x,
           rtol=1e-4, atol=1e-3)  # fmt: skip


def test_reductions_of_what_is_not_finite() -> None:
    x = jnp.asarray([[np.nan, 1, np.inf], [-np.inf, 2, -0.0], [0.0, np.nan, 5]], jnp.float32)
    native(
        lambda x: [g(x, a) for g in (jnp.sum, jnp.max, jnp.min, jnp.argmax, jnp.argmin, jnp.prod) for a in (0, 1)], x
    )


def test_one_reduction_feeds_the_next() -> None:
    def f(x: Any) -> Any:
        y = x - x.max(-1, keepdims=True)
        z = jnp.exp(y) / jnp.exp(y).sum(-1, keepdims=True)
        return z, (z**2).sum(0), (z - z.mean(0)).max(1)

    for shape in [(1, 1), (5, 33), (129, 7), (3, 1000)]:
        native(f, array(rng, *shape), rtol=1e-4)


# ---------------------------------------------------------------------------------------------- views
def test_transposes() -> None:
    for shape in [(5, 7), (64, 64), (129, 33), (1, 8), (3, 4, 5), (16, 17, 18), (2, 3, 4, 5), (8, 1, 9, 16)]:
        orders = [*itertools.permutations(range(len(shape)))]
        native(lambda x: [x.transpose(p) for p in orders], array(rng, *shape))
        native(lambda x: [jnp.sin(x.transpose(p)) * 2 for p in orders[:8]], array(rng, *shape))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint16", "bool"])
def test_transposes_of_small_types(dtype: str) -> None:
    native(lambda x: (x.T, x[::-1, ::2].T, jnp.concatenate([x, x], 1).T), integers(0, 9, 33, 50).astype(dtype))


def test_slices_pads_and_concatenations() -> None:
    def f(x: Any, y: Any) -> Any:
        return (
            x[1:-1, ::3], x[::-1, ::-2], jnp.pad(x, ((1, 2), (0, 3)), constant_values=7.0), jnp.concatenate([x, y], 0),
            lax.pad(x, jnp.float32(0), ((-1, 2, 1), (3, -2, 0))), jnp.roll(x, 2, 1), jnp.tile(y, (2, 3)), jnp.repeat(y, 3, 1),
            jnp.stack([x, x * 2], 1).sum(0), jnp.flip(x, 0) + x, jnp.broadcast_to(x[:, None], (9, 4, 11)).sum(1), x.reshape(11, 9).T,
        )  # fmt: skip

    native(f, array(rng, 9, 11), array(rng, 2, 11))


# ---------------------------------------------------------------------------------------------- indexing
OUTSIDE = [0, 3, 3, 2, 3, -1, -4, 40, -41, 39, 2**31 - 1, -(2**31), 0]


@pytest.mark.parametrize("mode", ["fill", "clip", "promise_in_bounds"])
def test_gather(mode: str) -> None:
    indices = jnp.asarray(OUTSIDE if mode != "promise_in_bounds" else [0, 3, 3, 2, 39, 1], jnp.int32)

    def f(x: Any, i: Any) -> Any:
        return x.at[i].get(mode=mode), x.at[:, i % 3].get(mode=mode), x.at[i, i % 3].get(mode=mode), jnp.take(x, i, 0)

    native(f, array(rng, 40, 3), indices)
    native(lambda x, i: x.at[i].get(mode=mode, fill_value=-5) if mode == "fill" else x[i], integers(0, 9, 40), indices)


@pytest.mark.parametrize("mode", ["drop", "clip"])
@pytest.mark.parametrize("how", ["set", "add", "multiply", "min", "max"])
def test_scatter_with_duplicates_and_indices_outside(how: str, mode: str) -> None:
    i = jnp.asarray(OUTSIDE, jnp.int32)
    v = jnp.asarray(rng.integers(1, 5, (len(OUTSIDE), 3)).astype(np.float32))
    if how == "set":
        v = jnp.broadcast_to(v[:, :1] * 0 + 7, v.shape)  # which of several is kept is not said

    def f(x: Any, i: Any, v: Any) -> Any:
        return getattr(x.at[i], how)(v, mode=mode), getattr(x.at[i, 1], how)(v[:, 0], mode=mode)

    native(f, array(rng, 40, 3), i, v)
    native(f, integers(-9, 9, 40, 3), i, v.astype("int32"))


@pytest.mark.parametrize("count", [1, 100, 5000])
@pytest.mark.parametrize("targets", [1, 7, 3000])
def test_sums_of_segments(count: int, targets: int) -> None:
    i, x = integers(0, targets, count), array(rng, count)
    f = lambda i, x: (
        jnp.zeros(targets).at[i].add(x),
        jnp.zeros((targets, 2)).at[i].add(x[:, None]),
        jnp.bincount(i, length=targets),
    )
    native(f, i, x, rtol=1e-4, atol=1e-3)
    native(lambda x, i: asgfn.grad(lambda x: (x[i] ** 2).sum())(x), array(rng, targets), i, rtol=1e-4, atol=1e-3)


def test_dynamic_slices_are_clamped() -> None:
    def f(x: Any, i: Any) -> Any:
        part = lax.dynamic_slice(x, (i, 1 - i), (3, 2))
        return part, lax.dynamic_update_slice(x, part * 2, (i + 1, i)), x[i % 5], lax.dynamic_index_in_dim(x, i, 1)

    for i in (-100, -1, 0, 1, 3, 4, 100):
        native(f, array(rng, 5, 4), jnp.int32(i))


def test_embeddings_and_their_gradient() -> None:
    table, tokens = array(rng, 50, 24), integers(0, 50, 4, 9)
    native(
        lambda table, tokens: asgfn.value_and_grad(lambda t: (jnp.tanh(t[tokens]) ** 2).sum())(table),
        table,
        tokens,
        rtol=1e-4,
    )


# ---------------------------------------------------------------------------------------------- order
@pytest.mark.parametrize("length", [1, 2, 3, 8, 17, 64, 100, 1000, 4099])
def test_sorting(length: int) -> None:
    x = jnp.asarray(rng.integers(-50, 50, (3, length)).astype(np.float32) / 4)

    def f(x: Any, n: Any) -> Any:
        k = min(5, length)
        return (
            jnp.sort(x), jnp.argsort(x), jnp.sort(x, 0), jnp.argsort(n, stable=True), lax.top_k(x, k), jnp.sort(-n),
            lax.sort((x, n, x * 2), num_keys=2), jnp.median(x, 1), lax.top_k(n, k),
        )  # fmt: skip

    check(f, x, integers(-100, 100, 3, length))


def test_sorting_of_what_is_not_finite_and_of_small_types() -> None:
    x = jnp.asarray([3, np.nan, -0.0, 0.0, np.inf, -np.inf, np.nan, 1], jnp.float32)
    check(lambda x: (jnp.sort(x), jnp.argsort(x), jnp.sort(-x), jnp.cumsum(x[:1]), jnp.argmax(x)), x)
    for dtype in ("float16", "bfloat16", "int8", "uint8", "uint32", "int16", "bool"):
        check(lambda x: (jnp.sort(x), jnp.argsort(x)), integers(0, 100, 77).astype(dtype))


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (64,), (1000,), (20001,), (5, 33), (300, 3)])
def test_cumulative(shape: tuple[int, ...]) -> None:
    def f(x: Any, n: Any) -> Any:
        found = []
        for axis in range(x.ndim):
            found += [jnp.cumsum(x, axis), lax.cummax(x, axis), lax.cummin(n, axis, reverse=True), jnp.cumsum(n, axis)]
            found += [jnp.cumprod(1 + 1e-3 * x, axis), lax.cumsum(x, axis, reverse=True), lax.cumlogsumexp(x, axis)]
        return found

    native(f, array(rng, *shape), integers(-9, 9, *shape), rtol=5e-4, atol=2e-3)


# ---------------------------------------------------------------------------------------------- random numbers
def test_random_bits_are_those_of_every_backend() -> None:
    def f(seed: Any) -> Any:
        a, b, c = asgfn.random.split(asgfn.random.key(seed), 3)
        return (
            asgfn.random.bits(a, (33,)), asgfn.random.bits(a, (1001,), "uint8"), asgfn.random.bits(b, (4, 5), "uint16"),
            asgfn.random.uniform(b, (70,)), asgfn.random.randint(c, (50,), -10, 1000), asgfn.random.bernoulli(c, 0.3, (99,)),
            asgfn.random.permutation(c, 40),
        )  # fmt: skip

    for seed in (0, 7, 2**32 - 1):
        check(f, jnp.uint32(seed), rtol=0, atol=0)
    g = lambda k: (
        asgfn.random.normal(k, (501,)),
        asgfn.random.gumbel(k, (9,)),
        asgfn.random.categorical(k, jnp.ones(5), shape=(40,)),
    )
    check(g, asgfn.random.key(3))


# ---------------------------------------------------------------------------------------------- products
def test_products_of_all_small_sizes() -> None:
    """Each extent from 1 to 40, each way round."""
    products = (
        lambda a, b: a @ b, lambda a, b: a.T.copy().T @ b, lambda a, b: jnp.einsum("ik,kj->ji", a, b),
        lambda a, b: jnp.einsum("ki,kj->ij", a.T, b), lambda a, b: jnp.einsum("ik,jk->ij", a, b.T),
        lambda a, b: jnp.einsum("ki,jk->ij", a.T, b.T),
    )  # fmt: skip
    sizes = [*zip(rng.permutation(40) + 1, rng.permutation(40) + 1, rng.permutation(40) + 1, strict=True)]
    pairs = [(array(rng, m, k), array(rng, k, n)) for m, k, n in sizes]
    for k in range(0, len(pairs), 10):
        native(lambda pairs: [p(a, b) for p in products for a, b in pairs], pairs[k : k + 10], rtol=1e-4, atol=1e-4)


TRANSPOSED = ["ik,kj->ij", "ki,kj->ij", "ik,jk->ij", "ki,jk->ij", "ik,kj->ji", "ki,jk->ji"]


@pytest.mark.parametrize("how", TRANSPOSED)
@pytest.mark.parametrize(
    "m, k, n", [(1, 300, 300), (300, 300, 1), (300, 1, 300), (129, 257, 65), (16, 512, 48), (7, 1000, 5)]
)
def test_products_and_what_is_fused_with_them(how: str, m: int, k: int, n: int) -> None:
    a, b, result = how.replace("->", ",").split(",")
    extent = {"i": m, "k": k, "j": n}
    shapes = [[extent[c] for c in term] for term in (a, b, result)]
    x, w, r = (array(rng, *s) for s in shapes)

    def f(x: Any, w: Any, r: Any) -> Any:
        y = jnp.einsum(how, x, w)
        return y, nn.relu(jnp.einsum(how, jnp.sin(x), w * 2) + r[0]) * r, jnp.einsum(how, x, w).sum(0)

    native(f, x, w, r, rtol=1e-4, atol=2e-3)


def test_products_of_batches() -> None:
    for m, k, n in [(1, 4, 1), (5, 7, 3), (33, 16, 40), (64, 64, 64)]:
        a, b = array(rng, 3, 2, m, k), array(rng, 3, 2, k, n)

        def f(a: Any, b: Any) -> Any:
            return (
                a @ b, a @ b[0], jnp.einsum("xyik,xykj->yxji", a, b), jnp.einsum("xyik,zykj->yxzij", a, b),
                a.swapaxes(-1, -2).swapaxes(-1, -2) @ b * 2 + 1, (a @ b).sum((0, 1)), asgfn.vmap(jnp.matmul, (0, None))(a, b[0]),
            )  # fmt: skip

        native(f, a, b, rtol=1e-4, atol=1e-3)
        native(
            lambda a, b: asgfn.grad(lambda a, b: (jnp.tanh(a @ b) ** 2).sum(), (0, 1))(a, b), a, b, rtol=1e-3, atol=1e-3
        )


def test_products_of_vectors() -> None:
    x, v, w = array(rng, 65, 129), array(rng, 129), array(rng, 65)
    native(
        lambda x, v, w: (x @ v, w @ x, v @ v, jnp.outer(v, w), jnp.tensordot(x, x, 2)), x, v, w, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int32", "uint8", "bool"])
def test_products_of_each_dtype(dtype: str) -> None:
    a, b = integers(0, 3, 17, 40).astype(dtype), integers(0, 3, 40, 23).astype(dtype)

    def f(a: Any, b: Any) -> Any:
        wide = "float32" if dtype in ("float16", "bfloat16") else "int32"
        return a @ b, jnp.einsum("ik,kj->ji", a, b), jnp.matmul(a, b, preferred_element_type=wide)

    check(f, a, b, rtol=2e-2)


# ---------------------------------------------------------------------------------------------- small types
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_arrays_of_16_bit_floats(dtype: str) -> None:
    def f(x: Any, y: Any) -> Any:
        return (
            x + y, x * y - 1, jnp.exp(x), nn.softmax(x), x.sum(1), x.max(0), x.astype("float32") @ y.T.astype("float32"),
            x.astype("int32"), jnp.where(x > y, x, y), jnp.sort(x), jnp.cumsum(x, 1), x[:, ::-2], x == y, nn.gelu(x),
        )  # fmt: skip

    check(f, array(rng, 33, 35).astype(dtype), array(rng, 33, 35).astype(dtype), rtol=3e-2, atol=3e-2)


def test_conversions() -> None:
    names = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "bfloat16", "float32"]
    for name in names:
        check(lambda x: [x.astype(other) for other in names], integers(0, 120, 67).astype(name))
    x = jnp.asarray(
        [0.5, 1.5, 2.5, -0.5, 65504.0, 65520.0, 1e-7, 3e-8, 6e-8, 1e-40, np.inf, np.nan, 3.39e38], jnp.float32
    )
    check(
        lambda x: (x.astype("float16"), x.astype("bfloat16"), x.astype("float16").astype("float32")), x, rtol=0, atol=0
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_integers_wrap_around(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = jnp.asarray(np.array([info.min, info.max, 0, 1, 2, 7, info.max - 1, info.min + 1], dtype))
    y = jnp.asarray(np.array([1, 2, 3, 5, 7, 1, 2, 3], dtype))

    def f(x: Any, y: Any) -> Any:
        return (
            x + y, x - y, x * y, x * x, x // y, x % y, lax.div(x, y), lax.rem(x, y), x & y, x | y, x ^ y, ~x, x << y % 7,
            x >> y % 7, jnp.abs(x), jnp.sign(x), -x, jnp.maximum(x, y), x > y, lax.population_count(x), lax.clz(x), x.sum(),
        )  # fmt: skip

    check(f, x, y, rtol=0, atol=0)


def test_booleans() -> None:
    x, y = integers(0, 2, 37).astype(bool), integers(0, 2, 37).astype(bool)
    check(
        lambda x, y: (x & y, x | y, x ^ y, ~x, x.any(), x.all(), x.sum(), x == y, jnp.where(x, 1.5, y), jnp.cumsum(x)),
        x,
        y,
    )


# ---------------------------------------------------------------------------------------------- convolutions
CONVOLUTIONS: dict[str, tuple] = {
    "plain": ((2, 3, 9, 10), (4, 3, 3, 3), {"window_strides": (1, 1), "padding": "VALID"}),
    "padded": ((1, 5, 8, 8), (7, 5, 3, 3), {"window_strides": (1, 1), "padding": "SAME"}),
    "of one pixel": ((2, 16, 7, 7), (24, 16, 1, 1), {"window_strides": (1, 1), "padding": "VALID"}),
    "strided": ((2, 3, 11, 12), (4, 3, 3, 2), {"window_strides": (2, 3), "padding": ((1, 0), (2, 1))}),
    "of one pixel, strided": ((2, 8, 9, 9), (4, 8, 1, 1), {"window_strides": (2, 2), "padding": "VALID"}),
    "dilated": ((1, 2, 12, 13), (3, 2, 3, 3), {"window_strides": (1, 2), "padding": "SAME", "rhs_dilation": (2, 3)}),
    "transposed": ((1, 2, 5, 6), (3, 2, 3, 4), {"window_strides": (1, 1), "padding": ((1, 1), (2, 0)), "lhs_dilation": (2, 3)}),
    "cut": ((1, 2, 9, 9), (3, 2, 3, 3), {"window_strides": (1, 1), "padding": ((-1, 2), (0, -2))}),
    "groups": ((2, 6, 7, 8), (9, 2, 3, 3), {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 3}),
    "depthwise": ((2, 8, 9, 9), (8, 1, 3, 3), {"window_strides": (2, 2), "padding": "SAME", "feature_group_count": 8}),
    "depthwise, more out": ((1, 4, 9, 9), (8, 1, 3, 3), {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 4}),
    "batch groups": ((4, 3, 7, 7), (6, 3, 3, 3), {"window_strides": (1, 1), "padding": "SAME", "batch_group_count": 2}),
    "NHWC": (
        (2, 9, 10, 5), (3, 3, 5, 6),
        {"window_strides": (1, 2), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
    "one dimension": ((3, 4, 50), (5, 4, 7), {"window_strides": (3,), "padding": "SAME"}),
    "three dimensions": ((1, 2, 5, 6, 7), (3, 2, 2, 3, 3), {"window_strides": (1, 2, 1), "padding": "SAME"}),
    "large window": ((2, 3, 28, 28), (8, 3, 7, 7), {"window_strides": (2, 2), "padding": ((3, 3), (3, 3))}),
    "many features": ((3, 20, 9, 10), (40, 20, 3, 2), {"window_strides": (1, 1), "padding": "SAME"}),
    "many features, strided": ((2, 24, 11, 12), (33, 24, 3, 3), {"window_strides": (2, 3), "padding": ((1, 0), (2, 1))}),
    "many features of one pixel": ((2, 24, 6, 7), (32, 24, 1, 1), {"window_strides": (1, 1), "padding": "VALID"}),
    "many features of one pixel, strided": ((2, 24, 9, 9), (32, 24, 1, 1), {"window_strides": (2, 2), "padding": "VALID"}),
    "many features, dilated": (
        (2, 18, 12, 13), (17, 18, 3, 3), {"window_strides": (1, 2), "padding": "SAME", "rhs_dilation": (2, 3)},
    ),
    "many features, transposed": (
        (2, 16, 5, 6), (24, 16, 3, 4), {"window_strides": (1, 1), "padding": ((1, 2), (2, 1)), "lhs_dilation": (2, 2)},
    ),
    "many features, spread and strided": (
        (1, 16, 5, 6), (24, 16, 3, 3), {"window_strides": (2, 1), "padding": ((1, 1), (2, 1)), "lhs_dilation": (3, 2)},
    ),
    "many features, cut": ((1, 16, 9, 9), (20, 16, 3, 3), {"window_strides": (1, 1), "padding": ((-1, 2), (0, -2))}),
    "many features, groups": (
        (2, 48, 7, 8), (60, 16, 3, 3), {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 3},
    ),
    "many features, batch groups": (
        (4, 16, 7, 7), (48, 16, 3, 3), {"window_strides": (1, 1), "padding": "SAME", "batch_group_count": 2},
    ),
    "many features, NHWC": (
        (2, 9, 10, 20), (3, 3, 20, 40),
        {"window_strides": (1, 2), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
    "many features, one dimension": ((3, 17, 50), (19, 17, 7), {"window_strides": (3,), "padding": "SAME"}),
    "many features, three dimensions": (
        (1, 16, 5, 6, 7), (24, 16, 2, 3, 3), {"window_strides": (1, 2, 1), "padding": "SAME"},
    ),
    "many steps": ((2, 600, 4, 5), (16, 600, 3, 3), {"window_strides": (1, 1), "padding": "SAME"}),
    "a large window": ((1, 2, 40, 41), (16, 2, 25, 24), {"window_strides": (1, 1), "padding": "SAME"}),
    "many channels": ((1, 64, 14, 14), (64, 64, 3, 3), {"window_strides": (1, 1), "padding": "SAME"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_both_gradients(name: str) -> None:
    x_shape, w_shape, options = CONVOLUTIONS[name]
    x, w = array(rng, *x_shape), array(rng, *w_shape)
    conv = lambda x, w: lax.conv_general_dilated(x, w, **options)
    native(lambda x, w: (conv(x, w), nn.relu(conv(jnp.sin(x), w) + 1)), x, w, rtol=1e-4, atol=1e-3)
    gradient = lambda x, w: asgfn.grad(lambda x, w: (jnp.tanh(conv(x, w) * 0.1) ** 2).sum(), argnums=(0, 1))(x, w)
    native(gradient, x, w, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("features", [4, 24])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_convolutions_of_16_bit_floats(dtype: str, features: int) -> None:
    x, w = array(rng, 2, 3, 8, 9).astype(dtype), (array(rng, features, 3, 3, 3) * 0.2).astype(dtype)
    check(lambda x, w: lax.conv(x, w, (1, 1), "SAME"), x, w, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("name", ["many features", "many features, strided", "many features, NHWC", "many steps"])
def test_convolutions_of_64_bit_floats(name: str) -> None:
    x_shape, w_shape, options = CONVOLUTIONS[name]
    with asgfn.enable_x64():
        x, w = (jnp.asarray(rng.standard_normal(shape)) for shape in (x_shape, w_shape))
        conv = lambda x, w: lax.conv_general_dilated(x, w, **options)
        native(lambda x, w: (conv(x, w), *asgfn.vjp(conv, x, w)[1](conv(x, w))), x, w, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_what_goes_into_a_convolution_and_what_is_made_of_it(last: bool) -> None:
    names = ("NHWC", "HWIO", "NHWC") if last else ("NCHW", "OIHW", "NCHW")
    shapes = [(2, 8, 9, 24), (3, 3, 24, 32), (32,)] if last else [(2, 24, 8, 9), (32, 24, 3, 3), (32, 1, 1)]
    x, w, bias = (array(rng, *shape) for shape in shapes)
    rest = array(rng, *((2, 8, 9, 32) if last else (2, 32, 8, 9)))

    def f(x: Any, w: Any, bias: Any, rest: Any) -> Any:
        y = lax.conv_general_dilated(nn.relu(x), jnp.tanh(w), (1, 1), "SAME", dimension_numbers=names)
        y = nn.relu(y * 0.5 + bias) + rest
        return y, jnp.transpose(y, (1, 2, 3, 0)) * 2

    native(f, x, w, bias, rest, rtol=1e-4, atol=1e-3)


IN_THREADS = """
import hashlib, numpy as np, asgfn
from asgfn import lax
rng = np.random.default_rng(3)
found = hashlib.sha256()
for batch, channels, side, features in ((3, 20, 15, 48), (1, 64, 9, 200), (9, 16, 8, 16)):
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((batch, channels, side, side), (features, channels, 3, 3)))
    conv = lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME")
    both = asgfn.jit(lambda x, w: asgfn.vjp(conv, x, w)[1](conv(x, w)) + (conv(x, w),), backend="cpu")
    for out in both(x, w):
        found.update(np.asarray(out).tobytes())
print(found.hexdigest())
"""


def test_convolutions_are_the_same_in_any_number_of_threads() -> None:
    found = set()
    for threads in (1, 2, 5):
        environment = {**os.environ, "ASGFN_CPU_THREADS": str(threads), "ASGFN_CACHE": "off"}
        command = [sys.executable, "-c", IN_THREADS]
        found.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(found) == 1


POOLS: dict[str, tuple] = {
    "2": ((1, 1, 2, 2), (1, 1, 2, 2), "VALID"),
    "3, overlapping": ((1, 1, 3, 3), (1, 1, 2, 2), "SAME"),
    "3 with stride 1": ((1, 1, 3, 3), (1, 1, 1, 1), ((0, 0), (0, 0), (1, 1), (2, 0))),
    "rows": ((1, 1, 1, 4), (1, 1, 1, 3), "VALID"),
    "over channels": ((1, 3, 1, 1), (1, 1, 1, 1), "SAME"),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling_and_its_gradient(name: str) -> None:
    window, strides, padding = POOLS[name]
    pools = {
        "max": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding),
        "min": lambda x: lax.reduce_window(x, jnp.inf, lax.min, window, strides, padding),
        "sum": lambda x: lax.reduce_window(x, 0.0, lax.add, window, strides, padding),
    }
    x = array(rng, 2, 3, 9, 12)
    native(lambda x: [p(x) for p in pools.values()], x, atol=1e-4)
    for pool in pools.values():
        native(lambda x: asgfn.grad(lambda x: (jnp.sin(pool(x)) ** 2).sum())(x), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 40), (16, 16), (33, 47), (300, 5), (5, 300), (17, 1030)])
def test_memories_that_are_contiguous_along_different_loops(shape: tuple[int, int]) -> None:
    x, y = array(rng, *shape), array(rng, *shape[::-1])
    native(lambda x, y: (x.T * 2 + y, jnp.sin(x), x - y.T), x, y)
    native(lambda x: x.T.astype(jnp.int32), integers(-9, 9, *shape, dtype="int8"))
    native(lambda x: (x + x.T.reshape(shape)).T, x)


def test_permutations_of_axes() -> None:
    x = array(rng, 3, 19, 5, 34)
    for order in itertools.permutations(range(4)):
        native(lambda x, order=order: x.transpose(order) + 1, x)
    native(lambda x: x.reshape(57, 5, 34).transpose(2, 0, 1)[:, ::-1].reshape(34, 285), x)


# ---------------------------------------------------------------------------------------------- networks
@pytest.mark.parametrize("length, other, width", [(1, 1, 4), (5, 7, 3), (16, 16, 8), (33, 65, 16), (130, 130, 32)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_and_its_gradient(length: int, other: int, width: int, causal: bool) -> None:
    q, k, v = array(rng, 2, length, 2, width), array(rng, 2, other, 2, width), array(rng, 2, other, 2, width)

    def attend(q: Any, k: Any, v: Any) -> Any:
        return nn.dot_product_attention(q, k, v, is_causal=causal)

    native(attend, q, k, v, rtol=1e-4, atol=1e-4)
    gradient = lambda *a: asgfn.value_and_grad(lambda *a: (attend(*a) ** 2).sum(), argnums=(0, 1, 2))(*a)
    native(gradient, q, k, v, rtol=1e-3, atol=1e-3)


def test_attention_with_masks_and_biases() -> None:
    q, k, v = (array(rng, 2, 12, 2, 8) for _ in range(3))
    mask = integers(0, 2, 2, 1, 12, 12).astype(bool).at[..., 0].set(True)

    def f(q: Any, k: Any, v: Any, bias: Any, mask: Any) -> Any:
        return nn.dot_product_attention(q, k, v, bias=bias, mask=mask), nn.dot_product_attention(
            q, k[:, :, :1], v[:, :, :1]
        )

    native(f, q, k, v, array(rng, 1, 2, 12, 12), mask, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (4, 3, 5, 6), (2, 17, 8, 8), (3, 64, 7, 7)])
def test_norms_and_their_gradients(shape: tuple[int, ...]) -> None:
    def norm(x: Any, axes: Any, g: Any) -> Any:
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        return (x - mean) * lax.rsqrt(var + 1e-3) * g + 0.5

    g = array(rng, shape[1], 1, 1)
    for axes in ((0, 2, 3), (1, 2, 3), (3,), (1,)):
        native(lambda x, g: norm(x, axes, g), array(rng, *shape), g, rtol=1e-3, atol=1e-3)
        loss = lambda x, g: (norm(x, axes, g) ** 3).mean()
        native(
            lambda x, g: asgfn.value_and_grad(loss, argnums=(0, 1))(x, g), array(rng, *shape), g, rtol=2e-3, atol=1e-3
        )


def test_random_bits_need_no_host() -> None:
    x = jnp.arange(12, dtype=jnp.uint32)
    f = lambda seed, x: asgfn.random.bits(asgfn.random.fold_in(asgfn.random.key(seed), 5), (12,)) ^ x
    want = asgfn.jit(f, backend="numpy")(jnp.uint32(1), x)
    assert_same(asgfn.jit(f, backend="cpu")(jnp.uint32(1), x), want, 0, 0)


def test_one_narrow_number_is_stored_alone() -> None:
    """LLVM stores 32 bits where a mask that is known has one lane of narrowed numbers."""
    lanes = vector_bits() // 32
    a, b = integers(-3, 4, lanes + 1, 40, dtype="int8"), integers(-3, 4, 40, 23, dtype="int8")
    f = lambda a, b: jnp.einsum("ik,kj->ji", a, b)
    native(f, a, b)
    text = asgfn.jit(f, backend="cpu").lower(a, b).compile().as_text()
    stores = [line for line in text.splitlines() if "llvm.masked.store" in line and not line.startswith("declare")]
    assert all(line.count("i1 true") != 1 for line in stores)


@pytest.mark.parametrize("dtype", ["float32", "int8", "float16"])
def test_elements_some_steps_apart(dtype: str) -> None:
    x = integers(-9, 9, 5, 83).astype(dtype)
    for step in (2, 3, 4, 5, -2):
        native(lambda x, step=step: (x[:, ::step], x[1:, 1::step] * 2, jnp.flip(x, 0)[:, ::step]), x)


# ---------------------------------------------------------------------------------------------- updates of the same rows
@pytest.mark.parametrize("shape", [(1000,), (50, 3), (300, 128), (40, 1000), (7, 5000)])
@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "float16"])
def test_many_updates_of_the_same_rows(shape: tuple[int, ...], dtype: str) -> None:
    rows, count = shape[0], max(40, 60000 // int(np.prod(shape[1:])))
    at = integers(-rows - 5, rows + 5, count)  # some are of no row
    x, u = (array(rng, *s).astype(dtype) for s in (shape, (count, *shape[1:])))

    def f(x: Any, at: Any, u: Any) -> Any:
        found = [x.at[at].set(u, mode="drop"), x.at[at].max(u), x.at[at].min(u), x.at[at].add(u)]
        return found if dtype == "uint8" else [*found, x.at[at].mul(1 + u / 100 if dtype[0] == "f" else u)]

    tolerance = {"float32": 1e-4, "float16": 2e-2}.get(dtype, 0.0)
    native(f, x, at, u, rtol=tolerance, atol=tolerance * 20)


def test_updates_that_are_windows_come_in_order() -> None:
    x, at, u = array(rng, 90, 40, 6), integers(0, 80, 500, 2), array(rng, 500, 9, 6, 5)
    numbers = lax.ScatterDimensionNumbers((1, 2, 3), (), (0, 2))
    for mode in ("clip", "fill"):
        for scatter in (lax.scatter, lax.scatter_add):
            native(lambda x, at, u, s=scatter, m=mode: s(x, at, u, numbers, mode=m), x, at, u, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_updates_are_the_same_with_any_number_of_threads(threads: int) -> None:
    program = (
        "import sys, numpy as np, asgfn, asgfn.numpy as jnp\n"
        "rng = np.random.default_rng(0)\n"
        "x, u = (jnp.asarray(rng.normal(size=n).astype(np.float32)) for n in ((200, 300), (900, 300)))\n"
        "at = jnp.asarray(rng.integers(0, 200, 900).astype(np.int32))\n"
        "y = asgfn.jit(lambda x, at, u: x.at[at].add(u))(x, at, u)\n"
        "sys.stdout.buffer.write(np.asarray(y).tobytes())\n"
    )
    environment = {**os.environ, "ASGFN_DEFAULT_BACKEND": "cpu", "ASGFN_CPU_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=120, env=environment, check=True
    )
    generator = np.random.default_rng(0)
    x, u = (generator.normal(size=n).astype(np.float32) for n in ((200, 300), (900, 300)))
    np.add.at(x, generator.integers(0, 200, 900).astype(np.int32), u)
    assert done.stdout == x.tobytes()


def test_lines_of_results_are_asked_for_during_a_long_pass() -> None:
    """Softmax keeps exponentials, and what is left to do when they are known is short; a sum's results are few."""
    x = np.random.default_rng(3).standard_normal((37, 1000)).astype(np.float32)

    def text(f: Callable) -> str:
        return asgfn.jit(f, backend="cpu").lower(x).compile().as_text()

    softmax = asgfn.jit(lambda x: asgfn.nn.softmax(x, axis=-1), backend="cpu")
    assert "call void @llvm.prefetch" in text(softmax)
    assert "@llvm.prefetch" not in text(lambda x: jnp.exp(x).sum(axis=-1))
    assert "@llvm.prefetch" not in text(lambda x: x - x.mean(axis=-1, keepdims=True))
    exact = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(np.asarray(softmax(x)), exact / exact.sum(axis=-1, keepdims=True), rtol=2e-6)
