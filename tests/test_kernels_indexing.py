"""Gather, scatter, dynamic slices and reinterpreted bits on the device, against the NumPy backend."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.lax import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers
from backends.kernels.lowering import lower
from backends.kernels.target import Target
from tests import operations
from tests.kernel_checks import check, half_target, needs_device
from tests.kernel_runner import run_graph

needs_device()
rng = np.random.default_rng(0)
MODES = ("clip", "fill", "promise_in_bounds")
DTYPES = ("float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "bool")


def samples(shape, dtype="float32", seed=0):
    values = np.random.default_rng(seed).normal(size=shape) * 4
    if dtype == "bool":
        return values > 0
    return (np.abs(values) if dtype[0] == "u" else values).astype(dtype)


# ---------------------------------------------------------------------------------------------- gather
# operand, indices, slice sizes and dimension numbers
GATHERS = {
    "rows": ((5, 4), (3, 1), (1, 4), ((1,), (0,), (0,))),
    "columns": ((5, 4), (3, 1), (5, 1), ((0,), (1,), (1,))),
    "elements": ((5, 4), (2, 3, 2), (1, 1), ((), (0, 1), (1, 0))),
    "windows": ((6, 7), (3, 2), (2, 3), ((0, 2), (), (0, 1))),
    "kept size one": ((6, 1, 7), (3, 1), (1, 1, 2), ((1, 2), (0,), (2,))),
    "batching": ((3, 5, 4), (2, 3, 1), (1, 1, 4), ((2,), (1,), (1,), (0,), (1,))),
    "batching twice": ((3, 5, 2), (2, 3, 1), (1, 2, 1), ((1,), (), (1,), (0, 2), (1, 0))),
    "one position": ((5, 4), (1,), (2, 4), ((0, 1), (), (0,))),
    "no index": ((3, 4), (2, 0), (2, 4), ((1, 2), (), ())),
    "wide rows": ((9, 64), (40, 1), (1, 64), ((1,), (0,), (0,))),
}


def indices_for(shape, operand, dtype="int32"):
    low = -3 if dtype.startswith("int") else 0
    return rng.integers(low, max(operand) + 3, shape).astype(dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", GATHERS)
def test_gather(name, mode):
    operand, indices, sizes, numbers = GATHERS[name]
    numbers = GatherDimensionNumbers(*numbers)
    at = indices_for(indices, operand)
    check(lambda x, i: lax.gather(x, i, numbers, sizes, mode=mode), samples(operand), at, exact=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_dtypes(dtype):
    numbers = GatherDimensionNumbers((1,), (0,), (0,))
    at = np.int32([[0], [7], [-1], [2]])
    check(lambda x, i: lax.gather(x, i, numbers, (1, 4), mode="fill"), samples((5, 4), dtype), at, exact=True)
    filled = 3 if dtype != "bool" else False
    check(lambda x, i: lax.gather(x, i, numbers, (1, 4), mode="fill", fill_value=filled), samples((5, 4), dtype), at)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32"])
def test_index_dtypes(dtype):
    bounds = np.iinfo(dtype)
    at = np.array([[0], [bounds.min], [bounds.max], [4], [5]], dtype)
    gathers, scatters = GatherDimensionNumbers((1,), (0,), (0,)), ScatterDimensionNumbers((1,), (0,), (0,))
    for mode in MODES:
        check(lambda x, i, m=mode: lax.gather(x, i, gathers, (1, 4), mode=m), samples((5, 4)), at, exact=True)
        u = samples((5, 4), seed=2)
        check(lambda x, i, u, m=mode: lax.scatter_add(x, i, u, scatters, mode=m), samples((5, 4)), at, u)


# ---------------------------------------------------------------------------------------------- dynamic slices
@pytest.mark.parametrize("start", [(0, 0), (-5, 2), (1, 100), (2**31 - 1, -(2**31))])
def test_dynamic_slices(start):
    at = [np.int32(i) for i in start]
    x, u = samples((5, 7)), samples((2, 3), seed=1)
    check(lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 3)), x, *at, exact=True)
    check(lambda x, u, i, j: lax.dynamic_update_slice(x, u, (i, j)), x, u, *at, exact=True)
    check(lambda x, u, i, j: lax.dynamic_update_slice(x, u, (i, j)), x, samples((5, 7), seed=3), *at, exact=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dynamic_slice_dtypes(dtype):
    x, u = samples((40, 64), dtype), samples((3, 64), dtype, 1)
    check(lambda x, i: lax.dynamic_slice(x, (i, 0), (3, 64)), x, np.uint32(2**32 - 1), exact=True)
    check(lambda x, u, i: lax.dynamic_update_slice(x, u, (i, np.int8(0))), x, u, np.uint8(7), exact=True)


# ---------------------------------------------------------------------------------------------- bits
BITS = {1: ("int8", "uint8"), 2: ("int16", "uint16", "float16", "bfloat16"), 4: ("int32", "uint32", "float32")}


@pytest.mark.parametrize("new", [d for ds in BITS.values() for d in ds])
def test_bitcasts(new):
    for size, olds in BITS.items():
        ratio = max(np.dtype(new).itemsize // size, 1)
        for old in olds:
            shape = (2, 3, ratio) if ratio > 1 else (2, 3)
            x = samples(shape, old)
            # random bits that make no NaN
            if "float" not in old and "float" not in new:
                x = rng.integers(0, 256, (*shape, size)).astype("uint8").view(old).reshape(shape)
            if "float" in new and old != new:
                dtype = np.dtype(ml_dtypes.bfloat16 if new == "bfloat16" else new)
                numbers = samples((2, 3, max(size // dtype.itemsize, 1)), new)
                x = numbers.view(old).reshape(shape)
            check(lambda x: lax.bitcast_convert_type(x, new), x, exact=True)


def test_bitcast_of_extremes():
    x = np.float32([np.inf, -np.inf, 0.0, -0.0, 6e4, 1.0])
    check(lambda x: lax.bitcast_convert_type(x, "uint32"), x, exact=True)
    check(lambda x: lax.bitcast_convert_type(x, "uint16"), x.astype("float16"), exact=True)
    check(lambda x: lax.bitcast_convert_type(x, "int16"), x.astype("bfloat16"), exact=True)


# ---------------------------------------------------------------------------------------------- scatter
# operand, indices, updates and dimension numbers
SCATTERS = {
    "rows": ((5, 4), (9, 1), (9, 4), ((1,), (0,), (0,))),
    "columns": ((5, 4), (6, 1), (5, 6), ((0,), (1,), (1,))),
    "elements": ((5, 4), (4, 3, 2), (4, 3), ((), (0, 1), (1, 0))),
    "windows": ((6, 7), (5, 2), (2, 5, 3), ((0, 2), (), (0, 1))),
    "part of kept": ((6, 5, 4), (5, 1), (5, 3, 4), ((1, 2), (0,), (0,))),
    "kept size one": ((6, 1, 7), (3, 1), (3, 1, 2), ((1, 2), (0,), (2,))),
    "batching": ((3, 5, 4), (6, 3, 1), (6, 3, 4), ((2,), (1,), (1,), (0,), (1,))),
    "batching twice": ((3, 5, 2), (2, 3, 1), (2, 3, 2), ((2,), (), (1,), (0, 2), (1, 0))),
    "one position": ((5, 4), (1,), (2, 4), ((0, 1), (), (0,))),
    "many positions": ((5, 3), (300, 1), (300, 3), ((1,), (0,), (0,))),
    "one row": ((1, 4), (7, 1), (7, 4), ((1,), (0,), (0,))),
    "no index": ((3, 4), (2, 0), (2, 2, 4), ((1, 2), (), ())),
}
COMBINING = ("scatter", "scatter_add", "scatter_mul", "scatter_min", "scatter_max")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SCATTERS)
def test_scatter(name, mode):
    operand, indices, updates, numbers = SCATTERS[name]
    numbers = ScatterDimensionNumbers(*numbers)
    at = indices_for(indices, operand)
    for op in COMBINING:
        u = np.exp(samples(updates) / 40) if op == "scatter_mul" else samples(updates)
        f = getattr(lax, op)
        check(lambda x, i, u, f=f: f(x, i, u, numbers, mode=mode), samples(operand, seed=1), at, u, scale=10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_dtypes(dtype):
    numbers = ScatterDimensionNumbers((1,), (0,), (0,))
    at = rng.integers(0, 5, (40, 1)).astype(np.int32)
    for op in COMBINING if dtype != "bool" else ("scatter", "scatter_min", "scatter_max"):
        if dtype == "bool" and op != "scatter":
            continue
        x, u = samples((5, 4), dtype, 1), samples((40, 4), dtype)
        if op == "scatter_mul" and "float" in dtype:
            u = np.exp(samples((40, 4)) / 40).astype(dtype)
        f = getattr(lax, op)
        check(lambda x, i, u, f=f: f(x, i, u, numbers), x, at, u, scale=4)


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint32"])
def test_hints(dtype):
    numbers = ScatterDimensionNumbers((1,), (0,), (0,))
    rows = rng.permutation(100)[:40].astype(np.int32)[:, None]
    x, u = samples((100, 4), dtype), samples((40, 4), dtype, 1)
    for op in COMBINING:
        f = getattr(lax, op)
        check(lambda x, i, u, f=f: f(x, i, u, numbers, unique_indices=True), x, rows, u)
        ascending = np.sort(rows // 7, axis=0)
        check(lambda x, i, u, f=f: f(x, i, u, numbers, indices_are_sorted=True), x, ascending, u, scale=1e3)
        check(lambda x, i, u, f=f: f(x, i, u, numbers, indices_are_sorted=True), x, ascending * 20 - 9, u, scale=1e3)


def test_extreme_values():
    numbers = ScatterDimensionNumbers((), (0,), (0,))
    extreme = np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38])
    x, u = rng.choice(extreme, 12), rng.choice(extreme, 20)
    at = rng.integers(0, 12, (20, 1)).astype(np.int32)
    for op in ("scatter", "scatter_min", "scatter_max"):
        f = getattr(lax, op)
        check(lambda x, i, u, f=f: f(x, i, u, numbers), x, at, u)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 700, 5000])
def test_embedding(count):
    """Forward, and a gradient in which most rows are one token's, and some are nobody's."""
    table = samples((30, 6))
    tokens = np.where(rng.random(count) < 0.6, 3, rng.integers(0, 25, count)).astype(np.int32)
    weights = samples((count, 6), seed=1)

    def loss(table, tokens, weights):
        return jnp.sum(jnp.tanh(table[tokens]) * weights)

    check(lambda t, i: t[i], table, tokens, exact=True)
    check(asgfn.grad(loss), table, tokens, weights, scale=20)
    check(asgfn.grad(loss), table, tokens, weights, scale=20, target=Target(workgroup_bytes=1024, grid=3))


def test_many_rows_and_few_updates():
    numbers = ScatterDimensionNumbers((), (0,), (0,))
    at = np.repeat(rng.integers(0, 5000, 40), 2).astype(np.int32)[:, None]
    for op in COMBINING:
        f = getattr(lax, op)
        check(lambda x, i, u, f=f: f(x, i, u, numbers), samples(5000), at, samples(80, seed=1), scale=10)


def test_random_geometries():
    """Gather and its transpose, with axes of all kinds in all places."""
    generator = np.random.default_rng(5)
    for _ in range(12):
        rank = int(generator.integers(1, 4))
        shape = tuple(int(n) for n in generator.integers(1, 6, rank))
        sizes = tuple(int(generator.integers(1, n + 1)) for n in shape)
        indexed = sorted(generator.permutation(rank)[: generator.integers(1, rank + 1)].tolist())
        collapsed = tuple(a for a in indexed if sizes[a] == 1 and generator.random() < 0.7)
        positions = tuple(int(n) for n in generator.integers(1, 8, generator.integers(0, 3)))
        kept = rank - len(collapsed)
        offset = tuple(sorted(generator.permutation(kept + len(positions))[:kept].tolist()))
        index_map = tuple(generator.permutation(indexed).tolist())
        at = generator.integers(-2, 7, (*positions, len(index_map))).astype(np.int32)
        gathers, scatters = (t(offset, collapsed, index_map) for t in (GatherDimensionNumbers, ScatterDimensionNumbers))
        mode = MODES[int(generator.integers(3))]
        x = samples(shape)
        (y,) = check(lambda x, i: lax.gather(x, i, gathers, sizes, mode=mode), x, at, exact=True)
        for f in (lax.scatter, lax.scatter_add):
            check(lambda x, i, u, f=f: f(x, i, u, scatters, mode=mode), x, at, samples(y.shape, seed=1), scale=10)


def test_scatter_add_is_deterministic_and_exact_for_integers():
    at = rng.integers(-2, 40, 3000).astype(np.int32)
    ones = np.ones(3000, np.int32)
    check(lambda i, u: jnp.zeros(37, jnp.int32).at[i].add(u, mode="drop"), at, ones, exact=True)
    small = np.full(3000, 100, np.int8)
    check(lambda i, u: jnp.zeros(37, jnp.int8).at[i].add(u, mode="drop"), at, small, exact=True)
    check(lambda i, u: jnp.zeros(37, jnp.uint16).at[i].multiply(u), at, np.full(3000, 3, np.uint16), exact=True)


def test_nothing_to_scatter():
    numbers = ScatterDimensionNumbers((1,), (0,), (0,))
    for op in COMBINING:
        f = getattr(lax, op)
        check(lambda x, i, u, f=f: f(x, i, u, numbers), samples((5, 4)), np.zeros((0, 1), np.int32), samples((0, 4)))


def test_indexed_updates():
    x, at = samples((6, 5, 4)), np.int32([4, 0, -1, 4])
    check(lambda x, i: x.at[i].set(1.0), jnp.asarray(x), at)
    check(lambda x, i: x.at[:, i].add(1.0), jnp.asarray(x), at, scale=4)
    check(lambda x, i: x.at[i, :, i].max(0.5), jnp.asarray(x), at)
    check(lambda x, i: x[:, i, 1:3], jnp.asarray(x), at)
    check(lambda x: x.at[2].set(7.0), jnp.asarray(x))
    check(lambda x: x.at[1:5:2, 3].multiply(2.0), jnp.asarray(x))


def test_half_precision():
    x, u = samples((5, 70), "float16"), samples((90, 70), "float16", 1)
    at = rng.integers(-2, 7, (90, 1)).astype(np.int32)
    numbers, target = ScatterDimensionNumbers((1,), (0,), (0,)), half_target()
    for op in ("scatter", "scatter_add", "scatter_min", "scatter_max"):
        f = getattr(lax, op)
        check(lambda x, i, u, f=f: f(x, i, u, numbers), x, at, u, target=target, scale=4)
    check(lambda x: lax.bitcast_convert_type(x, "uint8"), x, target=target, exact=True)
    check(
        lambda x: lax.bitcast_convert_type(x, "float16"), rng.integers(0, 120, (3, 5, 2)).astype("uint8"), target=target
    )
    check(lambda x, i: x.at[i, 3].get(mode="fill"), jnp.asarray(x), at[:, 0], target=target, exact=True)


@pytest.mark.parametrize("op", operations.INDEXING, ids=lambda op: op.id)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_operation_table(op, dtype):
    for sample in op.samples:
        check(op.f, *[np.asarray(x, dtype if x.dtype.kind == "f" else x.dtype) for x in sample])


def test_modes_are_those_of_the_language():
    assert {m.value for m in GatherScatterMode} == set(MODES)


def test_one_update_an_entry_of_the_batch_needs_no_sorting():
    """The gradient of a cross-entropy's picking: every row gets one number."""

    def picked(x, index):
        return jnp.sum(jnp.take_along_axis(x, index[:, None], axis=1) * 2.0)

    x, index = np.arange(30, dtype=np.float32).reshape(6, 5), np.array([0, 4, 2, -1, 3, 9], np.int32)
    asg = asgfn.simplify(asgfn.trace(asgfn.grad(picked))(x, index))
    (node,) = [n for n in asg.nodes if n.primitive.name == "scatter_add"]
    plan = lower(node, [asg.value_types[i] for i in node.inputs], Target())
    assert plan is not None and len(plan.stages) == 1
    (found,) = run_graph(asg, [x, index])
    np.testing.assert_array_equal(found, asgfn.grad(picked)(x, index))
