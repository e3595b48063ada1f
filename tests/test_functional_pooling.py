"""Pooling of `nn_fn.functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import DTypeError, IndexOutOfRangeError, ShapeError
from tests.references import Case, assert_case, normal
from tests.references.functional_pooling import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch(case: Case) -> None:
    assert_case("functional_pooling", case, F)


CALLS: list[tuple[str, Callable[[Any], Any]]] = [
    ("max", lambda x: F.max_pool2d(x, 3, 2, 1)),
    ("max with indices", lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[0]),
    ("avg", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False, ceil_mode=True)),
    ("lp", lambda x: F.lp_pool2d(x, 2, 3, 2)),
    ("adaptive avg", lambda x: F.adaptive_avg_pool2d(x, (3, 4))),
    ("adaptive max", lambda x: F.adaptive_max_pool2d(x, (3, 4))),
    ("unpool", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape[-2:])),
]


@pytest.mark.parametrize("f", [f for _, f in CALLS], ids=[name for name, _ in CALLS])
def test_transforms_compose(f: Callable[[Any], Any]) -> None:
    with asgfn.enable_x64(True):
        x = jnp.asarray(normal("x", 3, 2, 2, 7, 6))
        total = lambda x: jnp.sum(jnp.sin(f(x)))
        slopes = asgfn.jit(asgfn.vmap(asgfn.grad(total)))(x)
        for i in range(3):
            np.testing.assert_allclose(asgfn.vmap(f)(x)[i], f(x[i]), rtol=1e-12)
            np.testing.assert_allclose(slopes[i], asgfn.grad(total)(x[i]), rtol=1e-12, atol=1e-14)
        direction = jnp.asarray(normal("t", 2, 2, 7, 6))
        h = 1e-5
        along = lambda g: (g(x[0] + h * direction) - g(x[0] - h * direction)) / (2 * h)
        np.testing.assert_allclose(jnp.sum(asgfn.grad(total)(x[0]) * direction), along(total), rtol=1e-7)
        _, curvature = asgfn.jvp(asgfn.grad(total), (x[0],), (direction,))
        np.testing.assert_allclose(curvature, along(asgfn.grad(total)), rtol=1e-6, atol=1e-7)


def test_pooling_is_one_reduction() -> None:
    x = jnp.ones((2, 3, 8, 8))
    names = lambda f: [node.primitive.name for node in asgfn.trace(f)(x).nodes]
    assert names(lambda x: F.max_pool2d(x, 2)) == ["reduce_window_max"]
    assert names(lambda x: F.avg_pool2d(x, 3, 2, 1)) == ["reduce_window_sum", "div"]
    assert names(lambda x: F.adaptive_avg_pool2d(x, 4)) == ["reduce_window_sum", "div"]
    assert names(lambda x: F.adaptive_max_pool2d(x, (2, 4))) == ["reduce_window_max"]


def test_indices_find_the_elements() -> None:
    x = jnp.asarray(normal("x", 2, 3, 7, 9).astype("float32"))
    for y, where in (
        F.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True),
        F.adaptive_max_pool2d(x, (4, 5), return_indices=True),
        F.adaptive_max_pool2d(x, (7, 3), return_indices=True),
    ):
        assert where.dtype == np.int32
        taken = jnp.take_along_axis(x.reshape(2, 3, 63), where.reshape(2, 3, -1), axis=2)
        np.testing.assert_array_equal(taken.reshape(y.shape), y)


def test_means_of_bins_keep_infinities_apart() -> None:
    x = jnp.array([[[np.inf, 1.0, 2.0, 3.0, 4.0]]])
    np.testing.assert_array_equal(F.adaptive_avg_pool1d(x, 3)[0, 0], [np.inf, 2.0, 3.5])


def test_power_mean_of_zeros_has_no_slope() -> None:
    x = jnp.zeros((1, 1, 4))
    np.testing.assert_array_equal(asgfn.grad(lambda x: jnp.sum(F.lp_pool1d(x, 2, 2)))(x), np.zeros((1, 1, 4)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    x = jnp.asarray(normal("x", 1, 2, 7, 7).astype("float32"))
    for _, f in CALLS:
        y = f(x.astype(dtype))
        assert y.dtype == dtype
        np.testing.assert_allclose(y.astype("float32"), f(x.astype(dtype).astype("float32")), rtol=2e-2, atol=2e-2)


X = np.ones((2, 3, 4, 5), np.float32)
WRONG: list[tuple[Callable[[], Any], type, str]] = [
    (lambda: F.max_pool2d(X, 3, padding=2), ValueError, r"padding \(2, 2\) must be at most half of the window"),
    (lambda: F.max_pool2d(X, 6), ShapeError, r"window of \(6, 6\).*does not fit into the spatial sizes \(4, 5\)"),
    (lambda: F.max_pool2d(X, 3, dilation=3), ShapeError, "does not fit"),
    (lambda: F.max_pool2d(X[0, 0], 2), ShapeError, r"x must be \[N, C, H, W\]"),
    (lambda: F.max_pool2d(X[:, :, :0], 1), ShapeError, "does not fit"),
    (lambda: F.max_pool2d(X.astype(int), 2), DTypeError, "must be floating point"),
    (lambda: F.avg_pool2d(X, 0), ValueError, "kernel_size must be at least 1"),
    (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError, "divisor_override must not be 0"),
    (lambda: F.avg_pool2d(X, (1, 2, 3)), ValueError, "kernel_size must be an int or 2 of them"),
    (lambda: F.lp_pool2d(X, 0, 2), ValueError, "norm_type must not be 0"),
    (lambda: F.adaptive_avg_pool2d(X, 0), ValueError, "output_size must be at least 1"),
    (lambda: F.adaptive_max_pool2d(X, (1, 2, 3)), ValueError, "output_size must be an int or 2 of them"),
    (lambda: F.adaptive_avg_pool2d(X[:, :, :0], 1), ShapeError, "must not be empty"),
    (lambda: F.max_unpool2d(X, X.astype(int)[:1], 2), ShapeError, "indices must have the shape of x"),
    (lambda: F.max_unpool2d(X, X, 2), DTypeError, "indices must hold integers"),
    (lambda: F.max_unpool2d(X, np.full(X.shape, 80), 2), IndexOutOfRangeError, "from 80 to 80, but the result has 80 places"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors_say_what_is_wrong(number: int) -> None:
    call, kind, text = WRONG[number]
    with pytest.raises(kind, match=text):
        call()
