"""Convolutions with few features a group on the compiled CPU: forward, and both gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
from asgfn import jit, lax
from asgfn.records import replace
from backends.kernels.lowering import single
from backends.kernels.schedules.contraction_region import CONTRACTIONS, Region
from backends.kernels.schedules.simd_taps import positions_of
from backends.kernels.schedules.simd_windows_image import image_of
from backends.kernels.target import Target
from backends.kernels.types import Types

TARGET = Target(types=Types(narrow=True), simd=16, product=(8, 48))

# image, channels, groups, output features, kernel, stride, padding, dilation
CASES = [
    ((13, 17), 3, 3, 3, (3, 3), (1, 1), [(1, 1), (1, 1)], (1, 1)),
    ((14, 14), 4, 4, 4, (3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1)),
    ((16, 16), 4, 4, 8, (3, 3), (2, 2), [(0, 1), (0, 1)], (1, 1)),
    ((7, 7), 3, 3, 9, (5, 3), (1, 1), [(2, 2), (1, 1)], (1, 1)),
    ((15, 18), 2, 2, 2, (3, 3), (1, 2), [(2, 2), (0, 3)], (2, 2)),
    ((20, 19), 2, 2, 2, (2, 3), (3, 2), [(0, 0), (2, 0)], (1, 3)),
    ((9, 9), 3, 3, 3, (7, 7), (1, 1), [(3, 3), (3, 3)], (1, 1)),
    ((12, 10), 6, 3, 6, (3, 3), (1, 1), [(1, 1), (1, 1)], (1, 1)),
    ((12, 10), 8, 2, 4, (3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1)),
    ((12, 10), 5, 1, 2, (3, 3), (1, 1), [(1, 1), (1, 1)], (1, 1)),
    ((12, 12), 3, 3, 3, (1, 1), (2, 2), [(0, 0), (0, 0)], (1, 1)),
    ((41,), 3, 3, 3, (5,), (2,), [(2, 2)], (1,)),
    ((700,), 2, 2, 4, (4,), (1,), [(3, 0)], (2,)),
    ((5, 6, 9), 2, 2, 2, (3, 2, 3), (1, 2, 2), [(1, 1), (0, 0), (1, 0)], (1, 1, 1)),
    ((130, 140), 1, 1, 1, (3, 3), (2, 1), [(1, 1), (1, 1)], (1, 1)),
]  # fmt: skip


def compiled(f: Any, *args: np.ndarray) -> np.ndarray:
    program = jit(f, backend="cpu").lower(*args).compile()
    assert program.host_nodes == []
    return np.asarray(program(*args))


def agree(f: Any, *args: np.ndarray) -> None:
    found, wanted = compiled(f, *args), np.asarray(jit(f, backend="numpy")(*args))
    limit = 1e-12 if found.dtype == np.float64 else 2e-5
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=limit, atol=limit * np.abs(wanted).max())


def operands(case: Any, dtype: Any, batch: int = 3) -> tuple[Any, np.ndarray, np.ndarray]:
    space, channels, groups, features, kernel, stride, padding, dilation = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, channels, *space)).astype(dtype)
    w = rng.standard_normal((features, channels // groups, *kernel)).astype(dtype)

    def conv(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(x, w, stride, padding, rhs_dilation=dilation, feature_group_count=groups)

    return conv, x, w


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_gradients(case: Any, dtype: Any) -> None:
    with asgfn.enable_x64(dtype is np.float64):
        conv, x, w = operands(case, dtype)
        agree(conv, x, w)
        g = np.asarray(jit(conv, backend="numpy")(x, w))
        agree(lambda x, w, g: asgfn.vjp(lambda x: conv(x, w), x)[1](g)[0], x, w, g)
        agree(lambda x, w, g: asgfn.vjp(lambda w: conv(x, w), w)[1](g)[0], x, w, g)


# image, groups, features and channels a group, kernel, stride, padding, dilation
LAST = [
    ((9, 11), 16, 1, 1, (3, 3), (1, 1), [(1, 1), (1, 1)], (1, 1)),
    ((10, 8), 37, 1, 1, (3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1)),
    ((10, 12), 64, 1, 1, (3, 3), (2, 2), [(0, 1), (0, 1)], (1, 1)),
    ((7, 9), 20, 2, 1, (5, 3), (1, 2), [(2, 2), (0, 2)], (1, 2)),
    ((8, 7), 16, 3, 2, (3, 2), (1, 1), [(1, 1), (0, 0)], (1, 1)),
    ((9, 9), 32, 1, 1, (7, 7), (1, 1), [(3, 3), (3, 3)], (1, 1)),
    ((70,), 128, 1, 1, (5,), (2,), [(2, 2)], (1,)),
    ((4, 5, 6), 18, 1, 1, (3, 2, 3), (1, 2, 2), [(1, 1), (0, 0), (1, 0)], (1, 1, 1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("case", LAST, ids=str)
def test_channels_last(case: Any, dtype: Any) -> None:
    space, groups, features, channels, kernel, stride, padding, dilation = case
    rng = np.random.default_rng(0)
    letters = "DHW"[3 - len(space) :]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    with asgfn.enable_x64(dtype is np.float64):
        x = rng.standard_normal((3, *space, groups * channels)).astype(dtype)
        w = rng.standard_normal((*kernel, channels, groups * features)).astype(dtype)

        def conv(x: Any, w: Any) -> Any:
            return lax.conv_general_dilated(
                x, w, stride, padding, rhs_dilation=dilation, dimension_numbers=numbers, feature_group_count=groups
            )

        agree(lambda x, w: asgfn.numpy.tanh(conv(x, w) + 1.0), x, w)
        g = np.asarray(jit(conv, backend="numpy")(x, w))
        agree(lambda x, w, g: asgfn.vjp(lambda x: conv(x, w), x)[1](g)[0], x, w, g)
        agree(lambda x, w, g: asgfn.vjp(lambda w: conv(x, w), w)[1](g)[0], x, w, g)


@pytest.mark.parametrize("case", CASES[:6] + LAST[:2], ids=str)
def test_transposed(case: Any) -> None:
    """The image is spread out: positions see some of the taps only, and so does the gradient of these."""
    space, groups, kernel = case[0], 16, case[4]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *space, groups)).astype(np.float32)
    w = rng.standard_normal((*kernel, 1, groups)).astype(np.float32)
    for numbers, order in [(("NHWC", "HWIO", "NHWC"), (0, 1, 2, 3)), (("NCHW", "HWIO", "NCHW"), (0, 3, 1, 2))]:
        image = np.ascontiguousarray(x.transpose(order))

        def conv(x: Any, w: Any, numbers: Any = numbers) -> Any:
            return lax.conv_general_dilated(
                x,
                w,
                (1, 1),
                [(2, 2), (1, 2)],
                lhs_dilation=(2, 3),
                dimension_numbers=numbers,
                feature_group_count=groups,
            )

        agree(conv, image, w)
        g = np.asarray(jit(conv, backend="numpy")(image, w))
        agree(lambda x, w, g, conv=conv: asgfn.vjp(lambda x: conv(x, w), x)[1](g)[0], image, w, g)
        agree(lambda x, w, g, conv=conv: asgfn.vjp(lambda w: conv(x, w), w)[1](g)[0], image, w, g)


def test_what_follows_is_computed_in_the_same_kernel() -> None:
    conv, x, w = operands(CASES[1], np.float32)
    scale = np.arange(4, dtype=np.float32).reshape(4, 1, 1)

    def f(x: Any, w: Any, scale: Any) -> Any:
        return asgfn.numpy.maximum(conv(x, w) * scale + 1.0, 0.0).transpose(0, 2, 3, 1)

    agree(f, x, w, scale)
    program = jit(f, backend="cpu").lower(x, w, scale).compile()
    assert len(program.kernels) == 1


def test_elements_of_no_tap_add_nothing() -> None:
    """The gradient of a step of two meets each class of positions with some taps only."""
    conv, x, w = operands(CASES[1], np.float32)
    g = np.asarray(jit(conv, backend="numpy")(x, w)).copy()
    g[0, 0, 3, 3] = np.inf
    found = compiled(lambda x, w, g: asgfn.vjp(lambda x: conv(x, w), x)[1](g)[0], x, w, g)
    assert np.isfinite(found).sum() == found.size - 9


def test_more_cores_do_not_change_the_order_of_sums() -> None:
    conv, x, w = operands(CASES[-1], np.float32)
    g = np.asarray(jit(conv, backend="numpy")(x, w))
    asg = asgfn.trace(lambda x, g: asgfn.vjp(lambda w: conv(x, w), w)[1](g)[0])(x, g)
    asg = next(single(n, [asg.value_types[i] for i in n.inputs]) for n in asg.nodes if n.primitive.name in CONTRACTIONS)
    p = Region(asg, TARGET.types).product
    p = p if p.rows.is_image else p.swapped()
    image = image_of(p)
    assert image is not None and p.k > p.m
    found = {positions_of(p, image.depth, image.free, True, replace(TARGET, cores=cores)) for cores in (1, 2, 8, 64)}
    assert len(found) == 1 and None not in found
