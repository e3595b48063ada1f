"""Making, reshaping, joining, padding and rearranging arrays with `asgfn.numpy`, against NumPy."""

from __future__ import annotations

import enum

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp

X = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)


def same(got, expected):
    if isinstance(expected, (list, tuple)) and not np.isscalar(expected[0] if len(expected) else 0):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            same(one, other)
        return
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-5, atol=1e-6)
    assert got.shape == np.shape(expected)


# ------------------------------------------------------------------------------------------------------------- creation


def test_array_from_nested_data():
    assert jnp.array([[1, 2], [3, 4.5]]).dtype == "float32"
    assert jnp.array([np.float16(1), 2.0]).dtype == "float16"
    assert jnp.array([True, 2]).dtype == "int32"
    assert jnp.array([]).dtype == "float32"
    assert jnp.array(range(3)).tolist() == [0, 1, 2]
    same(jnp.array([jnp.ones(2), np.zeros(2)]), [[1, 1], [0, 0]])
    same(asgfn.jit(lambda a: jnp.array([[a, 1.0], [2.0, a]]))(3.0), [[3, 1], [2, 3]])
    assert jnp.array(5, ndmin=3).shape == (1, 1, 1)
    assert jnp.array([1.9, -1.9], dtype=int).tolist() == [1, -1]
    assert jnp.array([1 + 2j], dtype=float).tolist() == [1.0]


def test_array_copies_numpy_data():
    source = np.zeros(3, np.float32)
    copied = jnp.array(source)
    source[0] = 5
    assert copied.tolist() == [0, 0, 0]


def test_enums_count_as_numbers():
    class Level(enum.IntEnum):
        HIGH = 3

    assert (jnp.zeros(2) + Level.HIGH).tolist() == [3, 3]


@pytest.mark.parametrize("bad", [[[1, 2], [3]], "text", [None], ["a"], {"a": 1}, object()])
def test_array_of_bad_data(bad):
    with pytest.raises((ValueError, TypeError), match="array"):
        jnp.array(bad)


RANGES = [(5,), (5.0,), (1, 5), (1, 10, 3), (10, 1, -3), (0, 1, 0.1), (0.5, 3), (5, 1), (-1.0, 1.0, 0.25)]


@pytest.mark.parametrize("args", RANGES)
def test_arange(args):
    result = jnp.arange(*args)
    same(result, np.arange(*args).astype(result.dtype))
    assert result.dtype == ("int32" if all(isinstance(v, int) for v in args) else "float32")


def test_linspace_and_relatives():
    same(jnp.linspace(0, 10, 5, endpoint=False), np.linspace(0, 10, 5, endpoint=False))
    same(jnp.linspace(0, 10, 4, dtype=int), [0, 3, 6, 10])
    same(jnp.linspace(jnp.zeros(2), jnp.array([1.0, 2.0]), 3, axis=1), np.linspace([0, 0], [1, 2], 3, axis=1))
    values, step = jnp.linspace(0, 1, 5, retstep=True)
    assert step.item() == 0.25 and values.shape == (5,)
    traced = asgfn.jit(lambda a, b: jnp.linspace(a, b, 7))(0.1, 0.7)
    same(traced, np.linspace(0.1, 0.7, 7))
    assert traced[-1].item() == np.float32(0.7)
    same(jnp.logspace(0, 2, 5, base=3), np.logspace(0, 2, 5, base=3))
    same(jnp.geomspace(-1, -1000, 4), [-1, -10, -100, -1000])


def test_grids():
    same(jnp.meshgrid(jnp.arange(3), jnp.arange(2)), np.meshgrid(np.arange(3), np.arange(2)))
    same(jnp.meshgrid(jnp.arange(3), jnp.arange(2), indexing="ij", sparse=True), [[[0], [1], [2]], [[0, 1]]])
    same(jnp.mgrid[0:3, 0:1:3j], np.mgrid[0:3, 0:1:3j])
    same(jnp.ogrid[0:3, 0:2], list(np.ogrid[0:3, 0:2]))
    same(jnp.indices((2, 3)), np.indices((2, 3)))
    same(jnp.fromfunction(lambda i, j: i * 10 + j, (2, 3)), [[0, 1, 2], [10, 11, 12]])
    same(jnp.r_[jnp.arange(2), 5, 0:1:3j], np.r_[np.arange(2), 5, 0:1:3j])
    same(jnp.c_[jnp.arange(2), jnp.arange(2)], np.c_[np.arange(2), np.arange(2)])
    for text in ("0,2", "0,2,-1", "0,2,-2", "0,2,0", "1,2,0", "0,3,1", "-1"):
        same(jnp.r_[text, [1, 2, 3], [4, 5, 6]], np.r_[text, [1, 2, 3], [4, 5, 6]])
    assert jnp.r_["r", [1, 2], 3].tolist() == [[1, 2, 3]] and jnp.r_["c", [1, 2], 3].tolist() == [[1], [2], [3]]
    same(jnp.c_["r", [1, 2], [3, 4]], [[1, 3], [2, 4]])


@pytest.mark.parametrize("name", ["bartlett", "blackman", "hamming", "hanning"])
@pytest.mark.parametrize("size", [0, 1, 7])
def test_windows(name, size):
    same(getattr(jnp, name)(size), getattr(np, name)(size))


def test_kaiser():
    same(jnp.kaiser(6, 3.5), np.kaiser(6, 3.5))
    same(asgfn.jit(lambda beta: jnp.kaiser(6, beta))(3.5), np.kaiser(6, 3.5))


@pytest.mark.parametrize("k", [-4, -1, 0, 2, 5])
def test_diagonals(k):
    m, v = X[0], np.arange(1.0, 4.0)
    for name in ("tril", "triu", "diagonal"):
        same(getattr(jnp, name)(jnp.asarray(m), k), getattr(np, name)(m, k))
    same(jnp.diag(jnp.asarray(v), k), np.diag(v, k))
    same(jnp.diag(jnp.asarray(m), k), np.diag(m, k))
    same(jnp.eye(3, 4, k), np.eye(3, 4, k))
    same(jnp.tri(3, 4, k), np.tri(3, 4, k))
    same(jnp.trace(jnp.asarray(X), k, 1, 2), np.trace(X, k, 1, 2))
    same(jnp.tril_indices(4, k), np.tril_indices(4, k))


def test_more_diagonals():
    same(jnp.diagonal(jnp.asarray(X), 1, 2, 0), np.diagonal(X, 1, 2, 0))
    same(jnp.vander(jnp.array([1, 2, 3]), 4, increasing=True), np.vander([1, 2, 3], 4, increasing=True))
    filled = np.zeros((5, 3))
    np.fill_diagonal(filled, [1, 2], wrap=True)
    same(jnp.fill_diagonal(jnp.zeros((5, 3)), jnp.array([1.0, 2.0]), wrap=True, inplace=False), filled)
    same(jnp.mask_indices(3, jnp.triu), np.mask_indices(3, np.triu))


# -------------------------------------------------------------------------------------------------------- rearranging

REARRANGEMENTS = [
    ("reshape", (6, -1), {}), ("reshape", ((4, 6),), {"order": "F"}), ("ravel", ("F",), {}), ("transpose", (), {}),
    ("transpose", ((1, 2, 0),), {}), ("moveaxis", ((0, 1), (-1, 0)), {}), ("rollaxis", (2,), {}), ("rollaxis", (0, 3), {}),
    ("swapaxes", (0, -1), {}), ("expand_dims", ((0, -1),), {}), ("flip", (), {}), ("flip", ((0, 2),), {}), ("fliplr", (), {}),
    ("flipud", (), {}), ("roll", (2,), {}), ("roll", ((1, -2), (0, 1)), {}), ("roll", (1, (0, 1)), {}), ("rot90", (1, (1, 2)), {}),
    ("rot90", (2,), {}), ("rot90", (-1,), {}), ("tile", ((2, 1, 2),), {}), ("tile", (2,), {}), ("repeat", (3,), {}),
    ("repeat", (2, 1), {}), ("repeat", (np.array([1, 0, 2]), 1), {}), ("resize", ((5, 7),), {}), ("split", (2, 2), {}),
    ("array_split", (3, 2), {}), ("split", ([1, 1, 5], 2), {}), ("dsplit", (2,), {}), ("append", (np.ones(2),), {}),
    ("delete", (1, 1), {}), ("delete", ([0, -1], 2), {}), ("delete", (slice(0, 4, 2), 2), {}), ("insert", (1, 9, 1), {}),
    ("insert", ([0, 3], 9, 2), {}), ("insert", (2, np.ones(4), 1), {}), ("atleast_2d", (), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "kwargs"), REARRANGEMENTS)
def test_rearrangement(name, args, kwargs):
    x = X.reshape(24) if name == "reshape" and len(args) == 2 else X
    if name == "reshape" and len(args) == 2:
        args = (args,)
    expected = getattr(np, name)(x, *args, **kwargs)
    ours = tuple(
        jnp.asarray(a)
        if isinstance(a, np.ndarray)
        else (np.array(a) if isinstance(a, list) and name in ("delete", "insert") else a)
        for a in args
    )
    same(getattr(jnp, name)(jnp.asarray(x), *ours, **kwargs), expected)
    same(asgfn.jit(lambda a: getattr(jnp, name)(a, *ours, **kwargs))(x), expected)


def test_traced_amounts():
    x = jnp.arange(5)
    assert asgfn.jit(lambda s: jnp.roll(x, s))(7).tolist() == [3, 4, 0, 1, 2]
    counts = jnp.array([1, 0, 2, 1, 1])
    repeated = asgfn.jit(lambda c: jnp.repeat(x, c, total_repeat_length=6))(counts)
    assert repeated.tolist() == [0, 2, 2, 3, 4, 4]
    assert asgfn.jit(lambda i: jnp.delete(x, i))(1).tolist() == [0, 2, 3, 4]
    assert asgfn.jit(lambda i: jnp.insert(x, i, 9))(1).tolist() == [0, 9, 1, 2, 3, 4]
    with pytest.raises(TypeError, match="total_repeat_length"):
        asgfn.jit(lambda c: jnp.repeat(x, c))(counts)


def test_joining():
    a, b = X[0], X[1]
    for name in ("vstack", "hstack", "dstack", "column_stack", "stack"):
        same(getattr(jnp, name)([jnp.asarray(a), jnp.asarray(b)]), getattr(np, name)([a, b]))
    for name in ("vstack", "hstack", "dstack", "column_stack"):
        same(getattr(jnp, name)([jnp.asarray(a[0]), jnp.asarray(b[0])]), getattr(np, name)([a[0], b[0]]))
    same(jnp.concatenate([a, b], axis=None), np.concatenate([a, b], axis=None))
    same(jnp.block([[jnp.ones((2, 2)), jnp.zeros((2, 1))], [jnp.ones((1, 3))]]), [[1, 1, 0], [1, 1, 0], [1, 1, 1]])
    assert jnp.concatenate([jnp.arange(2), jnp.ones(2)]).dtype == "float32"
    with pytest.raises(ValueError, match="except along axis"):
        jnp.concatenate([jnp.ones((2, 3)), jnp.ones((3, 2))])
    with pytest.raises(TypeError, match="sequence"):
        jnp.concatenate(3)


def test_no_ops_return_their_argument():
    x = jnp.ones((2, 3))
    for result in (
        x.reshape(2, 3), jnp.squeeze(x), jnp.broadcast_to(x, (2, 3)), x.astype(jnp.float32), x.transpose(0, 1), jnp.roll(x, 0, 0),
        jnp.tile(x, 1), jnp.pad(x, 0), jnp.atleast_2d(x), jnp.asarray(x), jnp.rot90(x, 4), +x,
    ):  # fmt: skip
        assert result is x


PADS = [
    ("constant", {"constant_values": ((1, 2), (3, 4))}), ("constant", {"constant_values": (1, 2)}), ("edge", {}),
    ("reflect", {}), ("reflect", {"reflect_type": "odd"}), ("symmetric", {}), ("symmetric", {"reflect_type": "odd"}),
    ("wrap", {}), ("linear_ramp", {}), ("linear_ramp", {"end_values": ((5, -4), (2, 7))}), ("maximum", {}),
    ("minimum", {"stat_length": 2}), ("mean", {"stat_length": ((1, 2), (2, 1))}), ("median", {}),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "options"), PADS)
@pytest.mark.parametrize("width", [1, (2, 3), ((7, 1), (0, 9))])
def test_pad(mode, options, width):
    x = np.array([[1.0, 4.0, 2.0], [8.0, 5.0, 7.0]], np.float32)
    same(jnp.pad(jnp.asarray(x), width, mode, **options), np.pad(x, width, mode, **options))


def test_pad_with_a_function():
    result = jnp.pad(jnp.ones(2), 2, lambda v, widths, axis, options: v.at[: widths[0]].set(options["fill"]), fill=7.0)
    assert result.tolist() == [7, 7, 1, 1, 0, 0]
    assert jnp.pad(jnp.ones(2), {0: (1, 2)}).tolist() == [0, 1, 1, 0, 0]


def test_bits():
    bits = np.array([[1, 0, 1], [0, 1, 1]], np.uint8)
    for axis in (None, 0, 1):
        for order in ("big", "little"):
            packed = np.packbits(bits, axis, order)
            same(jnp.packbits(jnp.asarray(bits), axis, order), packed)
            same(jnp.unpackbits(jnp.asarray(packed), axis, 3, order), np.unpackbits(packed, axis, 3, order))


def test_index_arithmetic():
    flat = np.array([0, 5, 23])
    same(jnp.unravel_index(jnp.asarray(flat), (2, 3, 4)), np.unravel_index(flat, (2, 3, 4)))
    index = (np.array([0, 1]), np.array([2, 5]))
    for order in ("C", "F"):
        for mode in ("wrap", "clip"):
            expected = np.ravel_multi_index(index, (2, 4), mode, order)
            same(jnp.ravel_multi_index(index, (2, 4), mode, order), expected)
    with pytest.raises(IndexError, match="outside"):
        jnp.ravel_multi_index(index, (2, 4))
    same(jnp.ix_(jnp.array([0, 1]), jnp.array([True, False, True])), np.ix_([0, 1], [True, False, True]))


def test_vectorize():
    dot = jnp.vectorize(jnp.dot, signature="(n),(n)->()")
    same(dot(X, X[0, 0]), X @ X[0, 0])
    scaled = jnp.vectorize(lambda v, s: (v.sum(), v * s), signature="(n),()->(),(n)")
    total, product = scaled(X, np.ones((5, 1, 3)) * 2)
    same(product, np.broadcast_to(X * 2, (5, 2, 3, 4)))
    assert total.shape == (5, 2, 3)
    assert jnp.vectorize(lambda a, n: a * n, excluded={1})(jnp.arange(3), 2).tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match="core dimension"):
        dot(jnp.ones(3), jnp.ones(4))
    with pytest.raises(ValueError, match="signature"):
        jnp.vectorize(jnp.dot, signature="(n->")(1)


def test_apply_along_and_over_axes():
    for axis in range(3):
        same(
            jnp.apply_along_axis(lambda v: v[:2] * v.sum(), axis, X),
            np.apply_along_axis(lambda v: v[:2] * v.sum(), axis, X),
        )
    same(jnp.apply_over_axes(jnp.sum, X, (0, 2)), np.apply_over_axes(np.sum, X, (0, 2)))
