"""Indexing against NumPy, gather and scatter against loops, their derivatives against finite differences."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ConcretizationError, IndexOutOfRangeError, NonConcreteBooleanIndexError, ShapeError

few = settings(max_examples=60, deadline=None)


@pytest.fixture
def x64():
    with asgfn.enable_x64(True):
        yield


def value(x):
    return np.asarray(x)


def same(got, want):
    want = np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(value(got), want)


# ---------------------------------------------------------------------------------------------- NumPy-style indexing


@st.composite
def shapes_and_indices(draw):
    """A shape and an index that fits it: every kind of entry, in any mixture."""
    shape = tuple(draw(st.lists(st.integers(0, 4) | st.integers(1, 4), max_size=4)))
    positions = draw(st.sampled_from([(3,), (2, 3), (1,), (0,)]))
    entries, axis, ellipsis_at = [], 0, draw(st.integers(-1, len(shape)))
    masked = False
    while axis < len(shape):
        size = shape[axis]
        kind = draw(
            st.sampled_from(["int", "slice", "slice", "array", "array", "scalar", "mask", "none", "bool", "stop"])
        )
        if axis == ellipsis_at:
            entries.append(Ellipsis)
            axis, ellipsis_at = draw(st.integers(axis, len(shape))), -1
            if axis < len(shape):  # what follows an ellipsis is counted from the end
                entries += [slice(None)] * (len(shape) - axis)
            break
        if kind == "int" and size:
            entries.append(draw(st.integers(-size, size - 1)))
        elif kind == "slice":
            bound = st.none() | st.integers(-6, 6)
            entries.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, 3, -1, -2, -3]))))
        elif kind == "array" and (size or 0 in positions):
            array_shape = draw(st.sampled_from([positions, positions[1:], (1, *positions[1:])]))
            array_shape = positions if 0 in positions else array_shape
            if not array_shape and not size:
                continue
            n = int(np.prod(array_shape))
            flat = draw(st.lists(st.integers(-size, size - 1), min_size=n, max_size=n)) if n else []
            dtype = draw(st.sampled_from([np.int8, np.int32, np.int64]))
            entries.append(np.array(flat, dtype).reshape(array_shape))
        elif kind == "scalar" and size:
            entries.append(np.array(draw(st.integers(-size, size - 1)), np.int32))
        elif kind == "mask" and not masked and not any(isinstance(e, np.ndarray) and e.ndim for e in entries):
            masked = True
            bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
            entries.append(np.array(bits, bool))
        elif kind in ("none", "bool"):
            entries.append(None if kind == "none" else draw(st.booleans()))
            continue
        elif kind == "stop":
            break
        else:
            continue
        axis += 1
    return shape, tuple(entries)


def with_arrays(index):
    """The index with every other integer array as an asgfn array."""
    return tuple(
        jnp.asarray(e) if isinstance(e, np.ndarray) and e.dtype != bool and k % 2 else e for k, e in enumerate(index)
    )


def numbered(shape, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=np.int64).reshape(shape).astype(dtype)


@few
@given(shapes_and_indices())
def test_reading_equals_numpy(case):
    shape, index = case
    x = numbered(shape)
    try:
        want = x[index]
    except IndexError:  # index arrays that do not broadcast
        with pytest.raises(IndexError):
            jnp.asarray(x)[index]
        return
    same(jnp.asarray(x)[with_arrays(index)], want)
    same(jnp.asarray(x).at[index].get(mode="fill"), want)


@settings(max_examples=25, deadline=None)
@given(shapes_and_indices(), st.booleans())
def test_traced_index_arrays(case, update):
    """Index arrays that are arguments of a jitted function mean the same as constants."""
    shape, index = case
    x = numbered(shape)
    try:
        x[index]
    except IndexError:
        return
    traced = [k for k, e in enumerate(index) if isinstance(e, np.ndarray) and e.dtype != bool]

    def f(x, *arrays):
        entries = list(index)
        for k, array in zip(traced, arrays, strict=True):
            entries[k] = array
        return x.at[tuple(entries)].add(1) if update else x[tuple(entries)]

    want = x[index]
    if update:
        want = x.copy()
        np.add.at(want, index, np.float32(1))
    same(asgfn.jit(f)(x, *(index[k] for k in traced)), want)


@few
@given(shapes_and_indices(), st.sampled_from(["add", "subtract", "multiply", "min", "max"]), st.booleans())
def test_updating_equals_ufunc_at(case, operation, scalar):
    shape, index = case
    x = numbered(shape, np.int32)
    try:
        picked = x[index]
    except IndexError:
        return
    v = np.int32(3) if scalar else (numbered(picked.shape, np.int32) % 7 - 3)
    ufunc = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}
    want = x.copy()
    ufunc[operation].at(want, index, np.broadcast_to(v, picked.shape).copy())
    same(getattr(jnp.asarray(x).at[with_arrays(index)], operation)(v), want)


@few
@given(shapes_and_indices(), st.sampled_from([None, "drop", "clip"]))
def test_setting_equals_numpy(case, mode):
    shape, index = case
    x = numbered(shape)
    try:
        picked = x[index]
    except IndexError:
        return
    v = -1 - numbered(picked.shape)
    want = x.copy()
    want[index] = v
    same(jnp.asarray(x).at[with_arrays(index)].set(v, mode=mode), want)


@few
@given(shapes_and_indices())
def test_apply_counts_repeated_indices(case):
    shape, index = case
    x = numbered(shape)
    try:
        want = x.copy()
        np.negative.at(want, index)
    except IndexError:
        return
    np.testing.assert_array_equal(value(jnp.asarray(x).at[index].apply(jnp.negative)), want)


def primitives_of(f, *args):
    return [node.primitive.name for node in asgfn.trace(f)(*args).nodes]


def test_static_indexing_is_slices_only():
    x = jnp.zeros((4, 5, 6))
    cheap = {"slice", "squeeze", "rev", "broadcast_in_dim", "reshape"}
    for index in [0, (1, 2, 3), (slice(None, None, -2), 1), (Ellipsis, None, 0), np.s_[1:3, None, ::-1, -1]]:
        assert set(primitives_of(lambda x, index=index: x[index], x)) <= cheap
    assert primitives_of(lambda x: x[:], x) == []


def test_traced_scalar_is_a_dynamic_slice():
    x = jnp.arange(20).reshape(4, 5)
    names = primitives_of(lambda x, i: x[i, ::2], x, 1)
    assert "dynamic_slice" in names and "gather" not in names
    read = asgfn.jit(lambda x, i: x[i, ::2])
    for i, row in [(1, 1), (-1, 3), (-4, 0), (9, 3), (-9, 0)]:  # out of bounds is clamped
        np.testing.assert_array_equal(value(read(x, i)), value(x)[row, ::2])


def test_traced_scalar_update_is_no_scatter_and_drops():
    x = jnp.arange(20).reshape(4, 5)
    update = asgfn.jit(lambda x, i: x.at[i, 1:3].set(-1))
    assert not any("scatter" in name for name in primitives_of(lambda x, i: x.at[i, 1:3].set(-1), x, 1))
    for i in (0, 3, -1):
        want = value(x).copy()
        want[i, 1:3] = -1
        np.testing.assert_array_equal(value(update(x, i)), want)
    for i in (4, -5):
        np.testing.assert_array_equal(value(update(x, i)), value(x))
    clipped = asgfn.jit(lambda x, i: x.at[i].set(0, mode="clip"))
    assert value(clipped(x, 7))[3].tolist() == [0] * 5


def test_modes_out_of_bounds():
    x = jnp.asarray([1.0, 2.0, 3.0])
    i = jnp.asarray([0, 3, -4])
    assert value(x[i]).tolist() == [1, 3, 1]
    np.testing.assert_array_equal(value(x.at[i].get(mode="fill")), [1, np.nan, np.nan])
    assert value(x.at[i].get(mode="fill", fill_value=7)).tolist() == [1, 7, 7]
    assert value(x.at[i].get(mode="clip")).tolist() == [1, 3, 1]
    assert value(x.at[7].get(mode="fill", fill_value=-1)) == -1
    assert value(x.at[7].get(mode="clip")) == 3
    assert value(x.at[i].add(1)).tolist() == [2, 2, 3]
    assert value(x.at[i].add(1, mode="clip")).tolist() == [3, 2, 4]
    assert value(x.at[7].set(0, mode="drop")).tolist() == [1, 2, 3]
    assert value(x.at[np.array([-1])].get(mode="fill", fill_value=0, wrap_negative_indices=False)).tolist() == [0]
    # a broken promise clamps what is read and leaves out what is written
    for far, near in ((7, 3), (-9, 1)):
        assert value(x.at[far].get(mode="promise_in_bounds")) == near
        assert value(x.at[far].add(1, mode="promise_in_bounds")).tolist() == [1, 2, 3]
    for index in (0, np.array([0, 1])):  # nothing to pick from, but the mode says what to do
        assert value(jnp.zeros(0).at[index].set(1, mode="drop")).tolist() == []
        assert (value(jnp.zeros(0).at[index].get(mode="fill", fill_value=5)) == 5).all()
    for dtype, fill in [(np.int8, -128), (np.uint8, 255), (bool, True)]:
        assert value(jnp.zeros(2, dtype).at[jnp.asarray([5])].get(mode="fill"))[0] == fill


def test_divide_power_and_dtypes():
    x = jnp.asarray([4, 9, 16])
    got = x.at[np.array([1, 1])].divide(3)
    assert got.dtype == np.float32 and value(got).tolist() == [4, 1, 16]
    assert value(jnp.asarray([2.0, 3.0]).at[0].power(3)).tolist() == [8, 3]
    with pytest.warns(FutureWarning, match="float32 are converted to the array's dtype int32"):
        assert value(x.at[0].add(1.5)).tolist() == [5, 9, 16]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert x.astype(np.uint8).at[0].set(200).dtype == np.uint8
        assert jnp.zeros(2, jnp.bfloat16).at[0].add(1.5).dtype == jnp.bfloat16


def test_masks():
    x = jnp.arange(6.0).reshape(2, 3)
    mask = value(x) % 2 == 0
    same(x[mask], value(x)[mask])
    same(x[jnp.asarray(mask)], value(x)[mask])
    same(x.at[mask].set(np.float32([7, 8, 9])), np.float32([[7, 1, 8], [3, 9, 5]]))
    by_row = asgfn.jit(lambda x: x.at[x.sum(1) > 3].multiply(0.0))
    np.testing.assert_array_equal(value(by_row(x)), [[0, 1, 2], [0, 0, 0]])  # a scalar needs no positions

    def f(x, m):
        return x.at[m].divide(0.5).at[m].power(0.5).sum()

    for traced in (False, True):  # elements outside of the mask make no NaN
        gradient = asgfn.grad(asgfn.jit(f) if traced else f)(jnp.asarray([0.0, 2.0]), jnp.asarray([False, True]))
        np.testing.assert_allclose(value(gradient), [1, 0.5], rtol=1e-6)
    with pytest.raises(NonConcreteBooleanIndexError, match=r"jnp\.where\(mask, x, other\)"):
        asgfn.jit(lambda x: x[x > 2])(x)
    with pytest.raises(NonConcreteBooleanIndexError):
        asgfn.jit(lambda x: x.at[x > 2].set(jnp.ones(3)))(x)


def test_errors_name_the_index():
    x = jnp.zeros((2, 3))
    with pytest.raises(
        IndexOutOfRangeError, match=r"index 5 is out of bounds for axis 1 of size 3, array of shape \(2, 3\)"
    ):
        x[0, 5]
    with pytest.raises(IndexOutOfRangeError, match="index -3 is out of bounds for axis 0"):
        x.at[-3].add(1.0)
    with pytest.raises(IndexOutOfRangeError, match="axis 0 of size 0"):
        jnp.zeros((0, 3))[0]
    with pytest.raises(IndexOutOfRangeError, match="size 0"):
        jnp.zeros(0)[jnp.asarray([0])]
    with pytest.raises(IndexError, match="too many indices: the array has 2 axes, but 3"):
        x[0, 0, 0]
    with pytest.raises(IndexError, match="only one ellipsis"):
        x[..., ...]
    with pytest.raises(TypeError, match=r"must be an integer or a boolean, got 1\.0"):
        x[1.0]
    with pytest.raises(TypeError, match="got float32"):
        x[jnp.asarray([1.0])]
    with pytest.raises(TypeError, match=r"x\[jnp\.array\(\.\.\.\)\]"):
        x[[0, 1]]
    with pytest.raises(TypeError, match="strings"):
        x["a"]
    with pytest.raises(IndexError, match="is not an index"):
        x[{}]
    with pytest.raises(IndexError, match="must match the axes"):
        x[np.array([True, False, True])]
    with pytest.raises(IndexError, match=r"shapes \(2,\), \(3,\) do not broadcast"):
        x[np.array([0, 1]), np.array([0, 1, 2])]
    with pytest.raises(ValueError, match="do not broadcast to the shape"):
        x.at[0].set(jnp.ones(2))
    with pytest.raises(ValueError, match="unknown mode"):
        x.at[0].get(mode="wrap")
    with pytest.raises(ConcretizationError, match="dynamic_slice_in_dim"):
        asgfn.jit(lambda x, i: x[i : i + 1])(x, 0)


# -------------------------------------------------------------------------------- take, take_along_axis, put_along_axis


@few
@given(st.data())
def test_take(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    size = int(np.prod(shape)) if axis is None else shape[axis]
    index_shape = data.draw(st.sampled_from([(), (3,), (2, 2), (0,)]))
    n = int(np.prod(index_shape))
    indices = np.array(data.draw(st.lists(st.integers(-size, size - 1), min_size=n, max_size=n)), np.int32)
    x = numbered(shape)
    same(jnp.take(x, indices.reshape(index_shape), axis), np.take(x, indices.reshape(index_shape), axis))
    for mode in ("wrap", "clip"):
        far = indices.reshape(index_shape) * 3
        same(jnp.take(x, far, axis, mode=mode), np.take(x, far, axis, mode=mode))


def test_take_out_of_bounds():
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(value(jnp.take(x, np.array([1, 3, -4]))), [1, np.nan, np.nan])
    assert value(jnp.take(x, np.array([3]), fill_value=5)).tolist() == [5]
    with pytest.raises(IndexOutOfRangeError, match="no elements"):
        jnp.take(jnp.zeros((0, 2)), np.array([0]), 0)
    with pytest.raises(ValueError, match="unknown mode 'raise'"):
        jnp.take(x, np.array([0]), mode="raise")


@few
@given(st.data())
def test_along_axis(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    index_shape = [data.draw(st.sampled_from([1, n])) for n in shape]
    index_shape[axis] = data.draw(st.integers(0, 4))
    n = int(np.prod(index_shape))
    indices = np.array(data.draw(st.lists(st.integers(-size, size - 1), min_size=n, max_size=n)), np.int32)
    indices = indices.reshape(index_shape)
    x = numbered(shape)
    same(jnp.take_along_axis(x, indices, axis), np.take_along_axis(x, indices, axis))
    want = x.copy()
    np.put_along_axis(want, indices, np.float32(-1), axis)
    same(jnp.put_along_axis(x, indices, -1.0, axis, inplace=False), want)


def test_along_axis_broadcasts_and_checks():
    x = numbered((1, 3))
    indices = np.array([[0, 2], [1, 1]])
    same(jnp.take_along_axis(x, indices, 1), np.float32([[0, 2], [1, 1]]))
    np.testing.assert_array_equal(
        value(jnp.take_along_axis(jnp.asarray(x), indices + 2, 1)), [[2, np.nan], [np.nan] * 2]
    )
    same(jnp.take_along_axis(x, np.array([2, 0]), None), np.float32([2, 0]))
    with pytest.raises(ValueError, match="inplace=False"):
        jnp.put_along_axis(x, indices, 0.0, 1)
    with pytest.raises(ShapeError, match="one rank"):
        jnp.take_along_axis(x, np.array([0]), 1)
    with pytest.raises(ShapeError, match="must broadcast"):
        jnp.take_along_axis(numbered((2, 3)), np.zeros((4, 1), int), 1)
    with pytest.raises(TypeError, match="must be integers"):
        jnp.take_along_axis(x, np.zeros((1, 1)), 1)


# --------------------------------------------------------------------------------- gather and scatter, by definition


def windows(operand_shape, indices, numbers, sizes, mode):
    """Every element of the windows: (place in the updates, place in the operand or None), one at a time."""
    offset_dims, collapsed, index_map, batching, index_batching = numbers
    kept = [axis for axis in range(len(operand_shape)) if axis not in collapsed and axis not in batching]
    rank = len(offset_dims) + indices.ndim - 1
    for position in np.ndindex(*indices.shape[:-1]):
        start = [0] * len(operand_shape)
        for k, axis in enumerate(index_map):
            start[axis] = int(indices[(*position, k)])
        inside = all(0 <= s <= n - w for s, n, w in zip(start, operand_shape, sizes, strict=True))
        start = [min(max(s, 0), n - w) for s, n, w in zip(start, operand_shape, sizes, strict=True)]
        for axis, index_axis in zip(batching, index_batching, strict=True):
            start[axis] = position[index_axis]
        for offset in np.ndindex(*[sizes[axis] for axis in kept]):
            rest = iter(position)
            window = dict(zip(offset_dims, offset, strict=True))
            at = tuple(window[d] if d in window else next(rest) for d in range(rank))
            place = list(start)
            for axis, o in zip(kept, offset, strict=True):
                place[axis] += o
            yield at, tuple(place) if inside or mode == "clip" else None


@st.composite
def gathers(draw):
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
    axes = draw(st.permutations(range(len(shape))))
    cut = draw(st.integers(0, min(2, len(shape))))
    batching, others = sorted(axes[:cut]), axes[cut:]
    index_map = others[: draw(st.integers(0, len(others)))]
    collapsed = sorted(axis for axis in others if draw(st.booleans()))
    sizes = [draw(st.integers(0, n)) for n in shape]
    for axis in [*batching, *collapsed]:
        sizes[axis] = 1
    n_positions = draw(st.integers(cut, cut + 1))
    index_batching = draw(st.permutations(range(n_positions)))[:cut]
    position_shape = [draw(st.integers(1, 3)) for _ in range(n_positions)]
    for axis, index_axis in zip(batching, index_batching, strict=True):
        position_shape[index_axis] = shape[axis]
    n_window = len(shape) - len(batching) - len(collapsed)
    offset_dims = sorted(draw(st.permutations(range(n_positions + n_window)))[:n_window])
    seed = draw(st.integers(0, 1000))
    indices = np.random.default_rng(seed).integers(-1, 4, (*position_shape, len(index_map))).astype(np.int32)
    numbers = tuple(map(tuple, (offset_dims, collapsed, index_map, batching, index_batching)))
    return shape, indices, numbers, tuple(sizes)


@few
@given(gathers(), st.sampled_from(["clip", "fill"]))
def test_gather_against_loop(case, mode):
    shape, indices, numbers, sizes = case
    x = numbered(shape)
    got = value(lax.gather(x, indices, lax.GatherDimensionNumbers(*numbers), sizes, mode=mode, fill_value=-1))
    seen = 0
    for at, place in windows(shape, indices, numbers, sizes, mode):
        assert got[at] == (-1 if place is None else x[place])
        seen += 1
    assert seen == got.size


@few
@given(gathers(), st.sampled_from(["clip", "fill"]), st.sampled_from(["scatter", "add", "mul", "min", "max"]))
def test_scatter_against_loop(case, mode, operation):
    shape, indices, numbers, sizes = case
    x = numbered(shape, np.int32) - 5
    gather_numbers = lax.GatherDimensionNumbers(*numbers)
    updates_shape = lax.gather(x, indices, gather_numbers, sizes, mode="clip").shape
    updates = numbered(updates_shape, np.int32) % 7 - 3
    combine = {"scatter": lambda old, new: new, "add": np.add, "mul": np.multiply, "min": min, "max": max}[operation]
    want = x.copy()
    for at, place in windows(shape, indices, numbers, sizes, mode):
        if place is not None:
            want[place] = combine(want[place], updates[at])
    function = lax.scatter if operation == "scatter" else getattr(lax, "scatter_" + operation)
    same(function(x, indices, updates, lax.ScatterDimensionNumbers(*numbers), mode=mode), want)


def test_scatter_sub_and_low_precision():
    numbers = lax.ScatterDimensionNumbers((), (0,), (0,))
    ones = np.ones(1000, np.float16)
    indices = np.zeros((1000, 1), np.int32)
    assert value(lax.scatter_sub(np.float32([5, 6]), indices[:2], np.float32([1, 2]), numbers)).tolist() == [2, 6]
    many = lax.scatter_add(np.float16([2000]), indices, ones, numbers)  # 2048 + 1 is 2048 in float16
    assert many.dtype == np.float16 and value(many).tolist() == [3000]


def test_type_rules_explain_themselves():
    x, i = jnp.zeros((3, 4)), jnp.zeros((2, 1), int)
    numbers = lax.GatherDimensionNumbers((1,), (0,), (0,))
    with pytest.raises(ShapeError, match=r"slice size of axis 1 is 5.*operand float32\[3,4\], indices int32\[2,1\]"):
        lax.gather(x, i, numbers, (1, 5))
    with pytest.raises(ShapeError, match="axis 0 is collapsed, so its slice size must be 1"):
        lax.gather(x, i, numbers, (2, 4))
    with pytest.raises(ShapeError, match="they must agree"):
        lax.gather(x, jnp.zeros((2, 2), int), numbers, (1, 4))
    with pytest.raises(TypeError, match="integer dtype"):
        lax.gather(x, jnp.zeros((2, 1)), numbers, (1, 4))
    scatter_numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    with pytest.raises(
        ShapeError, match=r"position axes of the updates have sizes \(3,\), those of the indices \(2,\)"
    ):
        lax.scatter_add(x, i, jnp.zeros((3, 4)), scatter_numbers)
    with pytest.raises(TypeError, match="must have one dtype"):
        lax.scatter(x, i, jnp.zeros((2, 4), int), scatter_numbers)
    with pytest.raises(ShapeError, match=r"on axis 0 .* the window is \[0, 9\)"):
        lax.slice(x, (0, 0), (9, 4))
    with pytest.raises(ShapeError, match="strides must be positive; use rev"):
        lax.slice(x, (0, 0), (3, 4), (1, -1))
    with pytest.raises(ShapeError, match="does not fit axis 1"):
        lax.dynamic_slice(x, (0, 0), (1, 5))
    with pytest.raises(TypeError, match="must be an integer scalar"):
        lax.dynamic_slice(x, (0, 0.5), (1, 1))
    with pytest.raises(ShapeError, match="equal shapes except on dimension 1"):
        lax.concatenate([x, jnp.zeros((2, 4))], 1)
    with pytest.raises(TypeError, match="must have one dtype"):
        lax.concatenate([x, x.astype(int)], 1)
    with pytest.raises(ShapeError, match="negative padding"):
        lax.pad(x, 0.0, ((-2, -2, 0), (0, 0, 0)))
    with pytest.raises(ValueError, match="distinct"):
        lax.rev(x, (0, 0))


# ------------------------------------------------------------------------------------------------- slices and padding


@few
@given(st.data())
def test_pad_against_loop(data):
    sizes = data.draw(st.lists(st.integers(0, 4), max_size=2))
    config = [
        (data.draw(st.integers(-3, 3)), data.draw(st.integers(-3, 3)), data.draw(st.integers(0, 2))) for _ in sizes
    ]
    shape = [low + high + n + max(0, n - 1) * inner for (low, high, inner), n in zip(config, sizes, strict=True)]
    if any(n < 0 for n in shape):
        with pytest.raises(ShapeError):
            lax.pad(numbered(sizes), 9.0, config)
        return
    want = np.full(shape, 9, np.float32)
    x = numbered(sizes)
    for at in np.ndindex(*sizes):
        place = tuple(low + i * (inner + 1) for (low, _, inner), i in zip(config, at, strict=True))
        if all(0 <= p < n for p, n in zip(place, shape, strict=True)):
            want[place] = x[at]
    same(lax.pad(x, 9.0, config), want)


def test_windows_at_computed_places():
    x = numbered((4, 5))
    for i, j in itertools.product([-9, -2, 0, 1, 9], repeat=2):
        a, b = (np.clip(k + n if k < 0 else k, 0, n - w) for k, n, w in ((i, 4, 2), (j, 5, 3)))
        same(lax.dynamic_slice(x, (i, j), (2, 3)), x[a : a + 2, b : b + 3])
        want = x.copy()
        want[a : a + 2, b : b + 3] = -1
        same(lax.dynamic_update_slice(x, np.full((2, 3), -1, np.float32), (i, j)), want)
    same(lax.dynamic_slice(x, jnp.asarray([1, 2]), (1, 1)), x[1:2, 2:3])
    same(lax.dynamic_slice_in_dim(x, 3, 2, axis=-1), x[:, 3:])
    same(lax.dynamic_index_in_dim(x, -1, 0, keepdims=False), x[-1])
    same(lax.dynamic_update_index_in_dim(x, x[0], 1, 0)[1], x[0])
    same(lax.index_in_dim(x, -1, 1, keepdims=False), x[:, -1])
    same(lax.slice_in_dim(x, -3, None, 2, 1), x[:, -3::2])
    with pytest.raises(IndexOutOfRangeError, match="index 4"):
        lax.index_in_dim(x, 4)
    with pytest.raises(IndexOutOfRangeError, match="allow_negative_indices"):
        lax.dynamic_slice(x, (-1, 0), (1, 1), allow_negative_indices=False)


# --------------------------------------------------------------------------------------------- derivatives and batches

rng = np.random.default_rng(0)
I32 = np.int32
_rows = I32([[1, 2], [1, 2], [1, 3], [3, 4], [-1, 0]])  # repeated, overlapping and out of bounds
_distinct = I32([[1, 2], [0, 2], [3, 0]])
_gather = lax.GatherDimensionNumbers((1,), (0,), (0, 1))
_scatter = lax.ScatterDimensionNumbers((1,), (0,), (0, 1))
_batched = ((0,), (1,), (1,), (0,), (1,))


def _scatter_case(name, unique, mode):
    index = _distinct if unique else _rows

    def f(x, u, i):
        return getattr(lax, name)(x, i, u, _scatter, mode=mode, unique_indices=unique)

    return f, [(4, 5), (len(index), 2)], [index]


CASES = {
    "slice": (lambda x: lax.slice(x, (1, 0), (4, 5), (1, 2)), [(4, 5)], []),
    "getitem": (lambda x: x[None, ::-2, 1], [(4, 5)], []),
    "dynamic_slice": (lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 5)), [(4, 5)], [I32(3), I32(-1)]),
    "dynamic_update_slice": (
        lambda x, u, i, j: lax.dynamic_update_slice(x, u, (i, j)),
        [(4, 5), (2, 2)],
        [I32(-2), I32(9)],
    ),
    "pad": (lambda x, v: lax.pad(x, v, ((1, -1, 2), (-2, 3, 0))), [(4, 5), ()], []),
    "concatenate": (lambda x, y: lax.concatenate([x, y, x], 1), [(4, 2), (4, 1)], []),
    "rev": (lambda x: lax.rev(x, (1,)), [(4, 2)], []),
    "gather clip": (lambda x, i: lax.gather(x, i, _gather, (1, 2), mode="clip"), [(4, 5)], [_rows]),
    "gather fill": (lambda x, i: lax.gather(x, i, _gather, (1, 2), mode="fill", fill_value=0), [(4, 5)], [_rows]),
    "gather batching": (
        lambda x, i: lax.gather(x, i, lax.GatherDimensionNumbers(*_batched), (1, 1, 5)),
        [(3, 4, 5)],
        [I32([[[1], [0], [2]], [[1], [3], [3]]])],
    ),
    "scatter_add batching": (
        lambda x, u, i: lax.scatter_add(x, i, u, lax.ScatterDimensionNumbers(*_batched)),
        [(3, 4, 5), (5, 2, 3)],
        [I32([[[1], [0], [2]], [[1], [3], [3]]])],
    ),
    "take_along_axis": (lambda x, i: jnp.take_along_axis(x, i, 1), [(4, 5)], [I32([[0, 0], [1, 4], [2, 3], [3, 3]])]),
    "put_along_axis": (
        lambda x, v, i: jnp.put_along_axis(x, i, v, 1, inplace=False),
        [(4, 5), (4, 2)],
        [I32([[0, 0], [1, 4], [2, 3], [3, 3]])],
    ),
    "at scalar": (lambda x, v, i: x.at[i, ::2].multiply(v), [(4, 5), (3,)], [I32(2)]),
    "at scalar outside": (lambda x, v, i: x.at[i].add(v), [(4, 5), (5,)], [I32(7)]),
    "at arrays": (lambda x, v, i: x.at[i, 1:4].set(v), [(4, 5), (3, 3)], [I32([0, 3, 3])]),
    "at strided": (lambda x, v: x.at[::-2, 1::2].add(v), [(4, 5), (2, 2)], []),
    "at divide": (lambda x, v, i: x.at[i].divide(v), [(4, 5), (3, 5)], [I32([0, 3, 3])]),
    "at apply": (lambda x, i: x.at[i].apply(jnp.sin), [(4, 2)], [I32([0, 3, 3])]),
} | {
    f"{name} {'unique' if unique else 'repeated'} {mode}": _scatter_case(name, unique, mode)
    for name in ("scatter", "scatter_add", "scatter_sub", "scatter_mul", "scatter_min", "scatter_max")
    for unique in (False, True)
    for mode in ("clip", "fill")
}


def _inputs(name):
    """The function of the case, of arrays and of indices; inputs for the arrays; a random generator."""
    f, shapes, indices = CASES[name]
    g = np.random.default_rng(list(CASES).index(name))

    def of_arrays(*args):
        return f(*map(jnp.asarray, args))

    return of_arrays, indices, [g.uniform(0.5, 2, s) * g.choice([-1, 1], s) for s in shapes], g


@pytest.mark.parametrize("name", list(CASES))
def test_derivatives_of_first_and_second_order(name, x64):
    of_all, indices, xs, g = _inputs(name)

    def f(*args):
        return of_all(*args, *indices)

    ts = [g.standard_normal(x.shape) for x in xs]
    eps = 1e-6

    def moved(h, sign):
        return [value(o) for o in h(*[x + sign * eps * t for x, t in zip(xs, ts, strict=True)])]

    out, tangent = asgfn.jvp(f, xs, ts)
    (plus,), (minus,) = (moved(lambda *a: [f(*a)], s) for s in (1, -1))
    np.testing.assert_allclose(value(tangent), (plus - minus) / (2 * eps), atol=1e-7)

    weights = g.standard_normal(out.shape)
    _, pull = asgfn.vjp(f, *xs)
    cts = pull(jnp.asarray(weights))
    total = sum(float((value(c) * t).sum()) for c, t in zip(cts, ts, strict=True))
    np.testing.assert_allclose(total, float((value(tangent) * weights).sum()), rtol=1e-10, atol=1e-12)

    def loss(*args):
        return (jnp.sin(f(*args)) * weights).sum()

    gradient = asgfn.grad(loss, tuple(range(len(xs))))
    _, second = asgfn.jvp(gradient, xs, ts)
    for got, a, b in zip(second, moved(gradient, 1), moved(gradient, -1), strict=True):
        np.testing.assert_allclose(value(got), (a - b) / (2 * eps), atol=1e-6)


@pytest.mark.parametrize("name", list(CASES))
def test_vmap_equals_a_loop(name, x64):
    f, indices, xs, g = _inputs(name)
    args = [*xs, *indices]
    for choice in range(1, 2 ** len(args)):
        dims, columns = [], []
        for k, arg in enumerate(args):
            if not choice >> k & 1:
                dims.append(None)
                columns.append([arg, arg])
                continue
            axis = int(g.integers(0, arg.ndim + 1))
            dims.append(axis)
            other = np.roll(arg, 1) if arg.dtype == np.float64 else arg[::-1] if arg.ndim else np.maximum(arg - 1, 0)
            columns.append([arg, other])
        batched = [c[0] if d is None else np.stack(c, d) for c, d in zip(columns, dims, strict=True)]
        got = asgfn.vmap(f, in_axes=tuple(dims))(*batched)
        for k in range(2):
            np.testing.assert_allclose(value(got)[k], value(f(*[c[k] for c in columns])), rtol=1e-12)


def test_products_leave_out_zeros_exactly(x64):
    """The gradient of a repeated product at zeros, where dividing by the factor would give NaN."""
    numbers = lax.ScatterDimensionNumbers((), (0,), (0,))
    indices = I32([[0], [0], [0], [1]])

    def f(u):
        return lax.scatter_mul(jnp.asarray([2.0, 3.0]), indices, u, numbers).sum()

    assert value(asgfn.grad(f)(np.array([0.0, 4.0, 5.0, 0.0]))).tolist() == [40, 0, 0, 3]
    hessian = value(asgfn.hessian(f)(np.array([0.0, 0.0, 5.0, 1.0])))
    assert hessian[0, 1] == hessian[1, 0] == 10 and np.count_nonzero(hessian) == 2


def test_ties_share_the_gradient():
    x, v = jnp.asarray([1.0, 5.0]), jnp.asarray([1.0, 1.0, 9.0])
    i = jnp.asarray([0, 0, 1])
    gx, gv = asgfn.grad(lambda x, v: x.at[i].max(v)[:].sum(), (0, 1))(x, v)
    np.testing.assert_allclose(value(gx), [1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(value(gv), [1 / 3, 1 / 3, 1], rtol=1e-6)


def test_gradient_of_a_repeated_set_goes_to_the_winner():
    x, v, i = jnp.zeros(3), jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([1, 1, 2])
    gx, gv = asgfn.grad(lambda x, v: (x.at[i].set(v) * jnp.asarray([1.0, 10.0, 100.0])).sum(), (0, 1))(x, v)
    assert value(x.at[i].set(v)).tolist() == [0, 2, 3]
    assert value(gx).tolist() == [1, 0, 0]
    assert value(gv).tolist() == [0, 10, 100]


def test_empty_arrays():
    empty = jnp.zeros((0, 3))
    assert empty[jnp.zeros((0,), int)].shape == (0, 3)
    assert empty[:, jnp.asarray([1, 1])].shape == (0, 2)
    assert empty.at[jnp.zeros((2, 0), int)].add(1.0).shape == (0, 3)
    assert asgfn.grad(lambda x: x[:, jnp.asarray([0])].sum())(empty).shape == (0, 3)
    assert jnp.zeros(3)[jnp.zeros((2, 0), int)].shape == (2, 0)
    assert jnp.asarray(5.0)[()].shape == () and jnp.asarray(5.0)[None].shape == (1,)
    assert float(jnp.asarray(5.0).at[()].add(1.0)) == 6
    assert asgfn.vmap(lambda x, i: x[i])(jnp.zeros((0, 4)), jnp.zeros((0,), int)).shape == (0,)


def test_graphs_with_indexing_round_trip():
    graph = asgfn.trace(lambda x, i: x[i].at[0].set(1.0))(jnp.zeros((4, 3)), jnp.asarray([1, 2]))
    again = asgfn.Asg.from_bytes(graph.to_bytes())
    again.validate()
    assert again == graph
    x = numbered((4, 3))
    np.testing.assert_array_equal(value(again(x, I32([3, 0]))), value(graph(x, I32([3, 0]))))
