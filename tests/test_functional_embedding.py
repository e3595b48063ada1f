"""Embeddings, bags and one-hot vectors of `nn_fn.functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import ConcretizationError, DTypeError, IndexOutOfRangeError, ShapeError
from tests.references import Case, assert_case, normal
from tests.references.functional_embedding import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch(case: Case) -> None:
    assert_case("functional_embedding", case, F)


WEIGHT = normal("weight", 5, 3).astype("float32")
INDICES = np.array([[0, 3, 3], [4, 0, 2]], np.int32)


@pytest.mark.parametrize("mode", ["embedding", "sum", "mean", "max"])
def test_jit_and_vmap(mode: str) -> None:
    if mode == "embedding":
        f = lambda x, weight: F.embedding(x, weight, padding_idx=3)
    else:
        f = lambda x, weight: F.embedding_bag(x, weight, mode=mode, padding_idx=3)
    slope = asgfn.grad(lambda weight, x: jnp.sum(jnp.sin(f(x, weight))))
    weight = jnp.asarray(WEIGHT)
    np.testing.assert_allclose(asgfn.jit(f)(INDICES, weight), f(INDICES, weight), rtol=1e-6)
    np.testing.assert_allclose(asgfn.jit(slope)(weight, INDICES), slope(weight, INDICES), rtol=1e-6)
    np.testing.assert_array_equal(slope(weight, INDICES)[3], np.zeros(3))
    many = jnp.stack([jnp.asarray(INDICES), jnp.asarray(INDICES[::-1].copy())])
    found = asgfn.vmap(slope, in_axes=(None, 0))(weight, many)
    for i in range(2):
        np.testing.assert_allclose(found[i], slope(weight, many[i]), rtol=1e-5, atol=1e-7)


def test_bags_by_traced_offsets() -> None:
    x, offsets = INDICES.reshape(-1), jnp.array([0, 2, 2])
    for mode in ("sum", "mean", "max"):
        f = lambda x, offsets, mode=mode: F.embedding_bag(x, WEIGHT, offsets, mode)
        np.testing.assert_allclose(asgfn.jit(f)(x, offsets), f(x, offsets), rtol=1e-6)
        np.testing.assert_array_equal(f(x, offsets)[1], np.zeros(3))


def test_traced_indices_out_of_range_give_nan() -> None:
    y = asgfn.jit(F.embedding)(np.array([1, 5, -1]), WEIGHT)
    np.testing.assert_array_equal(y[0], WEIGHT[1])
    assert np.isnan(y[1:]).all()


def test_known_indices_of_a_jitted_function() -> None:
    bags = lambda weight: F.embedding_bag(FLAT, weight, np.array([0, 2]), "sum")
    for f in (lambda weight: F.embedding(INDICES, weight, 0), bags):
        np.testing.assert_allclose(asgfn.jit(f)(WEIGHT), f(WEIGHT), rtol=1e-6)
    with pytest.raises(IndexOutOfRangeError, match="got 1 to 5"):
        asgfn.jit(lambda weight: F.embedding(INDICES + 1, weight))(WEIGHT)


def test_one_hot_types() -> None:
    assert F.one_hot(np.array([0, 2], np.uint8)).dtype == np.int32
    with asgfn.enable_x64(True):
        assert F.one_hot(np.array([0, 2])).dtype == np.int64
    hot = asgfn.jit(lambda x: F.one_hot(x, 3))(np.array([1, 7]))
    np.testing.assert_array_equal(hot, [[0, 1, 0], [0, 0, 0]])
    with pytest.raises(ConcretizationError, match=r"one_hot: x is traced.*pass num_classes"):
        asgfn.jit(F.one_hot)(np.array([1, 7]))


FLAT = INDICES.reshape(-1)
WRONG: list[tuple[Callable[[], Any], type, str]] = [
    (lambda: F.embedding(INDICES + 1, WEIGHT), IndexOutOfRangeError, r"must be in \[0, 5\) for weight float32\[5,3\], got 1 to 5"),
    (lambda: F.embedding(INDICES - 1, WEIGHT), IndexOutOfRangeError, "got -1 to 3"),
    (lambda: F.embedding(WEIGHT, WEIGHT), DTypeError, "x must hold integers"),
    (lambda: F.embedding(INDICES, INDICES), DTypeError, "weight must be floating point"),
    (lambda: F.embedding(INDICES, WEIGHT[0]), ShapeError, r"weight must be \[rows, features\]"),
    (lambda: F.embedding(INDICES, WEIGHT, 5), ValueError, "padding_idx 5 names no row"),
    (lambda: F.embedding_bag(INDICES, WEIGHT, mode="min"), ValueError, "mode must be one of"),
    (lambda: F.embedding_bag(INDICES, WEIGHT, np.array([0])), ValueError, "needs no offsets"),
    (lambda: F.embedding_bag(FLAT, WEIGHT), ShapeError, "with offsets"),
    (lambda: F.embedding_bag(FLAT, WEIGHT, np.array([1, 2])), ValueError, "offsets must begin with 0"),
    (lambda: F.embedding_bag(FLAT, WEIGHT, np.array([0, 3, 2])), ValueError, "never fall"),
    (lambda: F.embedding_bag(FLAT, WEIGHT, np.array([0, 7])), ValueError, "end at 6 or before"),
    (lambda: F.embedding_bag(FLAT, WEIGHT, np.array([0, 5]), include_last_offset=True), ValueError, "must be 6"),
    (lambda: F.embedding_bag(INDICES, WEIGHT, per_sample_weights=WEIGHT[:2]), ValueError, "go with mode='sum'"),
    (lambda: F.embedding_bag(INDICES, WEIGHT, mode="sum", per_sample_weights=WEIGHT), ShapeError, "shape of x"),
    (lambda: F.one_hot(np.array([-1, 2])), IndexOutOfRangeError, r"must be in \[0, 3\) for 3 classes, got -1 to 2"),
    (lambda: F.one_hot(np.array([1, 3]), 3), IndexOutOfRangeError, "got 1 to 3"),
    (lambda: F.one_hot(np.zeros((0,), int)), ValueError, "cannot be told from an array without elements"),
    (lambda: F.one_hot(np.array([1]), 0), ValueError, "num_classes must be positive"),
    (lambda: F.one_hot(np.array([1.0])), DTypeError, "must hold integers"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors_say_what_is_wrong(number: int) -> None:
    call, kind, text = WRONG[number]
    with pytest.raises(kind, match=text):
        call()
