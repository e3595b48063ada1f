"""Interpolation, padding, pixel shuffles, folding and grid sampling of `nn_fn.functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import DTypeError, ShapeError
from tests.references import Case, assert_case, normal
from tests.references.functional_resizing import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch(case: Case) -> None:
    assert_case("functional_resizing", case, F)


GRID = normal("grid", 2, 3, 3, 2)
CALLS: list[tuple[str, Callable[[Any], Any]]] = [
    *((mode, lambda x, mode=mode: F.interpolate(x, (7, 3), mode=mode)) for mode in ("nearest", "bilinear", "bicubic", "area")),
    ("antialias", lambda x: F.interpolate(x, (2, 3), mode="bicubic", antialias=True)),
    ("reflect", lambda x: F.pad(x, (1, 2, 3, 0), "reflect")),
    ("circular", lambda x: F.pad(x, (1, 2, 3, 0), "circular")),
    ("unfold", lambda x: F.unfold(x, 3, padding=1, stride=2)),
    ("fold", lambda x: F.fold(F.unfold(x, 2), x.shape[2:], 2)),
    ("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2)),
    ("grid_sample", lambda x: F.grid_sample(x, jnp.asarray(GRID).astype(x.dtype))),
]  # fmt: skip


@pytest.mark.parametrize("f", [f for _, f in CALLS], ids=[name for name, _ in CALLS])
def test_transforms_compose(f: Callable[[Any], Any]) -> None:
    with asgfn.enable_x64(True):
        x, direction = jnp.asarray(normal("x", 3, 2, 2, 4, 6)), jnp.asarray(normal("t", 2, 2, 4, 6))
        total = lambda x: jnp.sum(jnp.sin(f(x)))
        slopes = asgfn.jit(asgfn.vmap(asgfn.grad(total)))(x)
        for i in range(3):
            np.testing.assert_allclose(asgfn.vmap(f)(x)[i], f(x[i]), rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(slopes[i], asgfn.grad(total)(x[i]), rtol=1e-12, atol=1e-14)
        # linear in x: the tangent is the function of the direction
        np.testing.assert_allclose(asgfn.jvp(f, (x[0],), (direction,))[1], f(direction), rtol=1e-12, atol=1e-13)
        h = 1e-5
        _, curvature = asgfn.jvp(asgfn.grad(total), (x[0],), (direction,))
        along = (asgfn.grad(total)(x[0] + h * direction) - asgfn.grad(total)(x[0] - h * direction)) / (2 * h)
        np.testing.assert_allclose(curvature, along, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    x = jnp.asarray(normal("x", 2, 2, 4, 6).astype("float32"))
    for name, f in CALLS:
        y = f(x.astype(dtype))
        assert y.dtype == dtype
        np.testing.assert_allclose(y.astype("float32"), f(x), rtol=5e-2, atol=5e-2, err_msg=name)


def test_whole_factors_are_repetitions_and_slices() -> None:
    x = jnp.ones((1, 1, 4, 4))
    names = lambda f: {node.primitive.name for node in asgfn.trace(f)(x).nodes}
    assert names(lambda x: F.interpolate(x, scale_factor=2)) == {"broadcast_in_dim", "reshape"}
    assert names(lambda x: F.interpolate(x, scale_factor=0.5)) == {"slice"}
    assert names(lambda x: F.interpolate(x, (4, 4), mode="bilinear")) == set()


def test_an_infinite_element_stays_where_it_is() -> None:
    x = jnp.zeros((1, 1, 6)).at[0, 0, 0].set(np.inf)
    y = np.asarray(F.interpolate(x, 12, mode="linear"))[0, 0]
    np.testing.assert_array_equal(y[3:], 0.0)
    assert np.isinf(y[1])


def test_fold_undoes_unfold_without_overlap() -> None:
    x = jnp.asarray(normal("x", 2, 3, 6, 4).astype("float32"))
    np.testing.assert_array_equal(F.fold(F.unfold(x, 2, stride=2), (6, 4), 2, stride=2), x)
    assert F.unfold(jnp.zeros((0, 3, 6, 4)), 2).shape == (0, 12, 15)


def test_pixel_shuffle_round_trip() -> None:
    x = jnp.arange(2 * 8 * 3 * 2).reshape(2, 8, 3, 2)
    np.testing.assert_array_equal(F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), x)


X = np.ones((2, 3, 4, 5), np.float32)
WRONG: list[tuple[Callable[[], Any], type, str]] = [
    (lambda: F.interpolate(X), ValueError, "give either size or scale_factor"),
    (lambda: F.interpolate(X, 3, 2.0), ValueError, "give either size or scale_factor"),
    (lambda: F.interpolate(X, 3, mode="linear"), ShapeError, "mode 'linear' takes x of rank 3"),
    (lambda: F.interpolate(X, 3, mode="cubic"), ValueError, "mode must be one of"),
    (lambda: F.interpolate(X, 3, align_corners=True), ValueError, "align_corners goes with linear and cubic modes"),
    (lambda: F.interpolate(X, 3, antialias=True), ValueError, "antialias goes with 'bilinear' and 'bicubic'"),
    (lambda: F.interpolate(X, 3, recompute_scale_factor=True), ValueError, "goes with scale_factor"),
    (lambda: F.interpolate(X, (3, 0)), ShapeError, "sizes must be positive"),
    (lambda: F.interpolate(X, scale_factor=0.1), ShapeError, "sizes must be positive"),
    (lambda: F.interpolate(X, scale_factor=(2, 2, 2)), ValueError, "scale_factor must be a number or 2 of them"),
    (lambda: F.interpolate(X.astype(int), 3), DTypeError, "must be floating point"),
    (lambda: F.pad(X, (1,)), ValueError, r"must have a \(before, after\) pair"),
    (lambda: F.pad(X[0, 0, 0], (1, 1, 1, 1)), ShapeError, "at most 1 axes"),
    (lambda: F.pad(X, (5, 0), "reflect"), ShapeError, r"'reflect' can add at most 4 elements to an end of axis 3"),
    (lambda: F.pad(X, (6, 0), "circular"), ShapeError, r"'circular' can add at most 5 elements"),
    (lambda: F.pad(X[..., :0], (1, 0), "replicate"), ShapeError, r"'replicate' can add at most 0 elements"),
    (lambda: F.pad(X, (-3, -3)), ShapeError, "removes more than there is"),
    (lambda: F.pad(X, (1, 1), "edge"), ValueError, "mode must be one of 'constant', 'reflect'"),
    (lambda: F.pad(X, (1, 1), "reflect", 1.0), ValueError, "a value goes with mode='constant' only"),
    (lambda: F.pixel_shuffle(X, 2), ShapeError, "multiple of 4 channels"),
    (lambda: F.pixel_unshuffle(X, 2), ShapeError, "multiples of downscale_factor 2"),
    (lambda: F.channel_shuffle(X, 2), ShapeError, "multiple of groups=2"),
    (lambda: F.unfold(X, 7), ShapeError, "does not fit into an image"),
    (lambda: F.fold(X[0], (4, 4), 2), ShapeError, r"has 9 such windows of 4 elements, so x must be \[N, C \* 4, 9\]"),
    (lambda: F.grid_sample(X, X), ShapeError, r"with grid \[N, h, w, 2\]"),
    (lambda: F.grid_sample(X, X[..., :2], "linear"), ValueError, "mode must be one of"),
    (lambda: F.affine_grid(X[0], (2, 3, 4, 5)), ShapeError, r"theta \[N, 2, 3\]"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors_say_what_is_wrong(number: int) -> None:
    call, kind, text = WRONG[number]
    with pytest.raises(kind, match=text):
        call()
