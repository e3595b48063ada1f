"""The methods and operators of `asgfn.Array`, what users see of them, and the errors of `asgfn.numpy`."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp


def primitives(f, *args) -> list[str]:
    return [node.primitive.name for node in asgfn.make_jaxpr(f)(*args).nodes]


# ---------------------------------------------------------------------------------------------------- quality of graphs

X = np.ones((3, 4), np.float32)
GRAPHS = [
    (lambda x: x * 2, ["mul"]), (lambda x: 2.0 - x, ["sub"]), (lambda x: -x, ["neg"]), (lambda x: x**2, ["square"]),
    (lambda x: x**3, ["integer_pow"]), (lambda x: x > 0, ["gt"]), (lambda x: jnp.maximum(x, 0), ["max"]),
    (lambda x: jnp.where(x > 0, x, 0), ["gt", "select_n"]), (lambda x: jnp.clip(x, 0, 1), ["max", "min"]),
    (lambda x: x + x[0], ["slice", "squeeze", "broadcast_in_dim", "add"]), (lambda x: x.mean(1), ["reduce_sum", "div"]),
    (lambda x: x.reshape(3, 4), []), (lambda x: x.T, ["transpose"]), (lambda x: x @ x.T, ["transpose", "dot_general"]),
    (lambda x: jnp.zeros((2, 2)), ["broadcast_in_dim"]), (lambda x: jnp.diag(x[0]), ["slice", "squeeze", "pad", "reshape"]),
    (lambda x: jnp.diagonal(x), ["reshape", "slice"]), (lambda x: jnp.arange(5), ["iota"]), (lambda x: jnp.linspace(0, 1, 5), []),
    (lambda x: x % 2, ["rem", "lt", "select_n", "add"]), (lambda x: jnp.pad(x, 1), ["pad"]),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(GRAPHS)))
def test_few_nodes(case):
    f, expected = GRAPHS[case]
    assert primitives(f, X) == expected


def test_constants_are_shared():
    graph = asgfn.make_jaxpr(lambda x: (x * 2.0 + 2.0) * 2.0)(X)
    assert len(graph.constants) == 1


# ------------------------------------------------------------------------------------------------------------- methods


def test_methods_agree_with_functions():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    for name in (
        "all any argmax argmin max mean min prod ptp std sum var cumprod cumsum ravel squeeze diagonal trace argsort sort round "
        "nonzero flatten conj copy transpose"
    ).split():  # fmt: skip
        function = {"flatten": "ravel"}.get(name, name)
        got, expected = getattr(x, name)(), getattr(jnp, function)(x)
        for one, other in zip(
            got if isinstance(got, tuple) else [got], expected if isinstance(got, tuple) else [expected], strict=True
        ):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert x.reshape(2, 6).shape == x.reshape((2, -1)).shape == (2, 6)
    assert x.transpose(1, 0).shape == x.transpose((1, 0)).shape == x.T.shape == (4, 3)
    assert x.swapaxes(0, 1).shape == (4, 3)
    assert x.repeat(2, axis=0).shape == (6, 4)
    assert x.astype(jnp.float16).dtype == "float16"
    assert x.take(jnp.array([1]), axis=0).shape == (1, 4)
    assert x.compress(jnp.array([True, False, True]), axis=0).shape == (2, 4)
    assert x.dot(jnp.ones(4)).shape == (3,)
    assert x.flat[5] == x.ravel()[5]


def test_views():
    x = jnp.arange(4, dtype=jnp.float32)
    for dtype in ("int32", "uint8", "float16", "complex64"):
        np.testing.assert_array_equal(np.asarray(x.view(dtype)), np.asarray(x).view(dtype))
    np.testing.assert_array_equal(np.asarray(x.view("uint8").view("float32")), np.asarray(x))
    with pytest.raises(ValueError, match="divide"):
        jnp.zeros(3, jnp.int8).view(jnp.int32)


def test_arrays_as_sequences():
    x = jnp.arange(6).reshape(2, 3)
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[0, 1, 2], [3, 4, 5]]
    assert 4 in x and 9 not in x
    first, second = asgfn.jit(lambda x: tuple(x))(x)
    assert second.tolist() == [3, 4, 5] and first.shape == (3,)
    for f in (len, iter):
        with pytest.raises(TypeError, match="rank 0"):
            f(jnp.array(1))


def test_numpy_arrays_on_the_left():
    x = jnp.ones(2)
    for result in (np.ones(2) + x, np.float32(2) * x, np.ones(2) @ x, np.ones(2) < x):
        assert isinstance(result, asgfn.Array)


def test_python_protocols():
    x = jnp.arange(3.0)
    assert copy.copy(x) is x and copy.deepcopy(x) is x
    again = pickle.loads(pickle.dumps(x))
    assert again.tolist() == x.tolist() and again.dtype == x.dtype
    assert repr(x) == "Array([0., 1., 2.], dtype=float32)"
    assert str(x) == "[0. 1. 2.]"
    assert f"{jnp.array(1.25):.1f}" == "1.2"
    assert jnp.array(2.5).item() == 2.5
    assert jnp.array([[1, 2]]).tolist() == [[1, 2]]
    assert jnp.array([1.5], jnp.bfloat16).tolist() == [1.5]
    assert np.asarray(x).flags.writeable is False
    with pytest.raises(TypeError):
        hash(x)
    assert (x == None) is False  # noqa: E711


def test_dtypes_are_callable_and_comparable():
    assert jnp.float32(1).dtype == jnp.float32 == np.float32 == np.dtype("float32")
    assert np.zeros(2, jnp.bfloat16).dtype == jnp.bfloat16
    assert {jnp.float32: 1}[jnp.float32] == 1
    assert jnp.dtype(jnp.int8) == "int8"
    assert jnp.issubdtype(jnp.bfloat16, jnp.floating) and not jnp.issubdtype(jnp.bfloat16, jnp.integer)
    assert jnp.finfo(jnp.bfloat16).bits == 16
    assert pickle.loads(pickle.dumps(jnp.float32)) == jnp.float32
    assert jnp.float64(1).dtype == "float32"


def test_files(tmp_path):
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jnp.array([1.5, 2.5], dtype)
        jnp.save(tmp_path / "x.npy", x)
        assert jnp.load(tmp_path / "x.npy").dtype == dtype
    jnp.savez(tmp_path / "x.npz", a=x)
    assert "a" in jnp.load(tmp_path / "x.npz")


# -------------------------------------------------------------------------------------------------------------- errors


def test_item_assignment_shows_the_replacement():
    x = jnp.zeros((2, 3))
    with pytest.raises(TypeError, match=r"x = x\.at\[0, 1:\]\.set\(5\.0\)"):
        x[0, 1:] = 5.0
    with pytest.raises(TypeError, match=r"x = x\.at\[0\]\.add\(2\)"):
        x[0] += 2


MESSAGES = [
    (lambda x: jnp.sum([1, 2]), "lists are not accepted"),
    (lambda x: jnp.add(None, 1), "return statement"),
    (lambda x: x * [1, 2], "jnp.asarray"),
    (lambda x: jnp.sum(x, axis=5), r"sum: axis 5 is out of bounds for an array of shape \(2, 3\)"),
    (lambda x: jnp.sum(x, axis=(0, 0)), "twice"),
    (lambda x: jnp.sum(x, axis=1.5), "must be an int"),
    (lambda x: x + jnp.ones(4), r"add: shapes \(2, 3\), \(4,\) do not broadcast"),
    (lambda x: x.reshape(4, 2), "6 elements"),
    (lambda x: x.reshape(-1, -1), "one size can be -1"),
    (lambda x: jnp.zeros((2, -1)), "negative"),
    (lambda x: jnp.zeros(2.5), "shape is an int"),
    (lambda x: jnp.array([[1], [1, 2]]), "ragged"),
    (lambda x: jnp.squeeze(x, 0), "only length 1"),
    (lambda x: jnp.left_shift(1.5, 1), "integers or booleans"),
    (lambda x: jnp.negative(True), "not defined for booleans"),
    (lambda x: bool(x), "ambiguous"),
    (lambda x: float(x), "rank 0"),
    (lambda x: jnp.pad(x, 1, "nope"), "mode must be"),
    (lambda x: jnp.eye(2.5), "must be an int"),
    (lambda x: jnp.full((2,), jnp.ones(3)), "full: shapes"),
]


@pytest.mark.parametrize("case", range(len(MESSAGES)))
def test_messages(case):
    f, text = MESSAGES[case]
    with pytest.raises((TypeError, ValueError, IndexError), match=text):
        f(jnp.ones((2, 3)))


TRACED = [
    (lambda n: jnp.zeros(n), "static_argnums"),
    (lambda n: jnp.arange(n), "static_argnums"),
    (lambda n: jnp.ones(6).reshape(n), "static_argnums"),
    (lambda n: jnp.sum(jnp.ones((2, 3)), axis=n), "static_argnums"),
    (lambda n: jnp.linspace(0, 1, n), "static_argnums"),
    (lambda n: jnp.unique(jnp.stack([n, n])), "size="),
    (lambda n: jnp.eye(n), "static_argnums"),
]


@pytest.mark.parametrize("case", range(len(TRACED)))
def test_values_that_must_be_known_while_tracing(case):
    f, text = TRACED[case]
    with pytest.raises(TypeError, match=text):
        asgfn.jit(f)(3)


def test_rank_promotion_can_be_forbidden():
    with asgfn.numpy_rank_promotion("raise"), pytest.raises(ValueError, match="numpy_rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)
    with asgfn.numpy_rank_promotion("warn"), pytest.warns(UserWarning, match="ranks"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_array_copies_so_that_donating_one_leaves_the_other():
    x = jnp.arange(4.0)
    y = jnp.array(x)
    asgfn.jit(lambda x: x + 1, donate_argnums=0)(x)
    assert x.is_deleted() and not y.is_deleted()
    np.testing.assert_array_equal(y, [0, 1, 2, 3])
    assert jnp.array(y, copy=False) is y and jnp.asarray(y) is y
