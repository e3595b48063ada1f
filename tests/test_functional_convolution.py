"""Linear maps and convolutions of `nn_fn.functional`."""

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
from tests.references.functional_convolution import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch(case: Case) -> None:
    assert_case("functional_convolution", case, F)


def _operands(x: tuple, weight: tuple) -> tuple[Any, Any]:
    return jnp.asarray(normal("x", *x).astype("float32")), jnp.asarray(normal("w", *weight).astype("float32"))


def test_a_convolution_is_one_operation() -> None:
    x, weight = _operands((2, 4, 6, 6), (4, 2, 3, 3))
    for f in (
        lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=2),
        lambda x, w: F.conv2d(x, w[:, :, :2], padding="same", groups=2),
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, groups=2),
    ):
        names = [node.primitive.name for node in asgfn.trace(f)(x, weight).nodes]
        assert names.count("conv_general_dilated") == 1
        assert set(names) <= {"conv_general_dilated", "slice", "rev", "reshape", "transpose"}


def test_transposed_is_the_gradient_of_the_convolution() -> None:
    with asgfn.enable_x64(True):
        x, weight = jnp.asarray(normal("x", 2, 4, 7, 8)), jnp.asarray(normal("w", 6, 2, 3, 3))
        options: dict[str, Any] = {"stride": (2, 3), "padding": (1, 0), "groups": 2}
        y, vjp = asgfn.vjp(lambda x: F.conv2d(x, weight, **options), x)
        ct = jnp.asarray(normal("ct", *y.shape))
        back = F.conv_transpose2d(ct, weight, **options, output_padding=(0, 2))
        np.testing.assert_allclose(back, vjp(ct)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_transforms_compose(name: str) -> None:
    with asgfn.enable_x64(True):
        x, weight = jnp.asarray(normal("x", 3, 2, 4, 5, 5)), jnp.asarray(normal("w", 3, 4, 2, 3, 3))
        f = lambda x, w: getattr(F, name)(x, w, stride=2, padding=1, groups=2)
        one = lambda x, w: jnp.sum(jnp.tanh(f(x, w)))
        slopes = asgfn.vmap(asgfn.grad(one, argnums=(0, 1)))(x, weight)
        for i in range(3):
            for found, expected in zip(slopes, asgfn.grad(one, argnums=(0, 1))(x[i], weight[i]), strict=True):
                np.testing.assert_allclose(found[i], expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(asgfn.jit(f)(x[0], weight[0]), f(x[0], weight[0]), rtol=1e-12)
        second = asgfn.grad(lambda w: jnp.sum(asgfn.grad(one)(x[0], w) ** 2))(weight[0])
        h = 1e-5
        bump = jnp.zeros_like(weight[0]).at[1, 0, 1, 2].set(h)
        value = lambda w: jnp.sum(asgfn.grad(one)(x[0], w) ** 2)
        expected = (value(weight[0] + bump) - value(weight[0] - bump)) / (2 * h)
        np.testing.assert_allclose(second[1, 0, 1, 2], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    x, weight = _operands((1, 2, 4, 4), (3, 2, 3, 3))
    y = F.conv2d(x.astype(dtype), weight.astype(dtype), jnp.ones(3, dtype), padding=1)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype("float32"), F.conv2d(x, weight, jnp.ones(3), padding=1), atol=0.15)


def test_empty_batch_has_gradients() -> None:
    weight = jnp.ones((3, 2, 3, 3))
    slope = asgfn.grad(lambda w: jnp.sum(F.conv2d(jnp.zeros((0, 2, 5, 5)), w, jnp.ones(3))))(weight)
    np.testing.assert_array_equal(slope, np.zeros((3, 2, 3, 3)))
    assert F.conv_transpose2d(jnp.zeros((0, 3, 5, 5)), weight).shape == (0, 2, 7, 7)


X, W = np.ones((2, 4, 5, 5), np.float32), np.ones((6, 4, 3, 3), np.float32)
WRONG: list[tuple[Callable[[], Any], type, str]] = [
    (lambda: F.conv2d(X, W, groups=2), ShapeError, r"with groups=2, weight float32\[6,4,3,3\] takes 8 input channels"),
    (lambda: F.conv2d(X, W[:5, :2], groups=2), ShapeError, "must give a multiple of 2 output channels"),
    (lambda: F.conv2d(X[:, :, :2], W), ShapeError, r"padded input has spatial sizes \(2, 5\).*needs at least \(3, 3\)"),
    (lambda: F.conv2d(X, W, dilation=3), ShapeError, r"needs at least \(7, 7\)"),
    (lambda: F.conv2d(X[0, 0], W), ShapeError, r"conv2d: x must be \[N, C, H, W\] or, without a batch, \[C, H, W\]"),
    (lambda: F.conv1d(X, W[..., 0]), ShapeError, r"conv1d: x must be \[N, C, L\]"),
    (lambda: F.conv2d(X, W[..., 0]), ShapeError, "conv2d: weight must have 4 axes"),
    (lambda: F.conv2d(X, W, np.ones(4, np.float32)), ShapeError, r"bias must be \[6\].*got float32\[4\]"),
    (lambda: F.conv2d(X.astype(int), W), DTypeError, r"x must be floating point, got int.*astype"),
    (lambda: F.conv2d(X, W.astype("float16")), DTypeError, "operands must have one dtype, got x float32.*weight float16"),
    (lambda: F.conv2d(X, W, stride=0), ValueError, "stride must be at least 1, got 0"),
    (lambda: F.conv2d(X, W, stride=(1, 1, 1)), ValueError, "stride must be an int or 2 of them"),
    (lambda: F.conv2d(X, W, stride=1.5), TypeError, "stride must be an int, got 1.5"),
    (lambda: F.conv2d(X, W, padding=-1), ValueError, "padding must be at least 0"),
    (lambda: F.conv2d(X, W, padding="full"), ValueError, "padding must be one of 'valid', 'same'; got 'full'"),
    (lambda: F.conv2d(X, W, stride=2, padding="same"), ValueError, "which a stride of .* does not"),
    (lambda: F.conv2d(X, W, groups=0), ValueError, "groups must be at least 1"),
    (lambda: F.conv_transpose2d(X, W), ShapeError, "takes 6 input channels, which must be those of x"),
    (lambda: F.conv_transpose2d(X, W[:4], groups=3), ShapeError, "a multiple of groups=3"),
    (lambda: F.conv_transpose2d(X, W[:4], output_padding=1), ValueError, "must be less than stride"),
    (lambda: F.conv_transpose2d(X, W[:4], padding=4), ShapeError, r"result would have spatial sizes \(-1, -1\)"),
    (lambda: F.linear(X, W[0, 0, :, :2]), ShapeError, "last axis of x must have the length of the first of weight"),
    (lambda: F.linear(X, np.ones((3, 5), np.float32)), ShapeError, r"transpose of PyTorch's: pass weight.T"),
    (lambda: F.linear(X, np.ones((5, 3), np.float32), np.ones(5, np.float32)), ShapeError, r"bias must be \[3\]"),
    (lambda: F.linear(X, W), ShapeError, r"weight must be \[in, out\] or \[in\]"),
    (lambda: F.bilinear(X, X[:1], W[..., 0]), ShapeError, r"must be \[..., in1\], \[..., in2\] and \[out, in1, in2\]"),
    (lambda: F.bilinear(X, X[:1], np.ones((2, 5, 5), np.float32)), ShapeError, "same leading axes"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors_say_what_is_wrong(number: int) -> None:
    call, kind, text = WRONG[number]
    with pytest.raises(kind, match=text):
        call()


def test_a_traced_stride_is_explained() -> None:
    with pytest.raises(asgfn.errors.ConcretizationError, match="conv2d: stride is traced, but it decides shapes"):
        asgfn.jit(lambda s: F.conv2d(X, W, stride=s))(2)
