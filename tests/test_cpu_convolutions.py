"""Convolutions on the compiled CPU: what is infinite stays where it is seen, and classes of positions may lack taps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
from asgfn import jit, lax
from tests.test_simd_taps import CASES, agree, compiled, operands

# as those are: blocks of windows, large kernels with steps, and images that are spread out along one axis only
MORE = [
    ((28, 28), 3, 1, 64, (7, 7), (2, 2), [(3, 3), (3, 3)], (1, 1)),
    ((14, 15), 16, 1, 32, (3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1)),
    ((20,), 16, 1, 32, (1,), (2,), [(0, 0)], (1,)),
    ((1600,), 4, 1, 16, (1203,), (2,), [(600, 602)], (1,)),
]


def last(case: Any, x: np.ndarray, w: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """The same convolution with its channels last."""
    letters = "DHW"[3 - len(case[0]) :]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")

    def conv(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(
            x, w, case[5], case[6], rhs_dilation=case[7], dimension_numbers=numbers, feature_group_count=case[2]
        )

    x, w = np.moveaxis(x, 1, -1), np.moveaxis(w, (0, 1), (-1, -2))
    return conv, np.ascontiguousarray(x), np.ascontiguousarray(w)


@pytest.mark.parametrize("value", [np.inf, np.nan], ids=["infinite", "nan"])
@pytest.mark.parametrize("is_last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", CASES + MORE, ids=str)
def test_elements_that_are_not_seen_change_nothing(case: Any, is_last: bool, value: float) -> None:
    """Both gradients are finite where they are for NumPy."""
    conv, x, w = operands(case, np.float32, batch=2)
    if is_last:
        conv, x, w = last(case, x, w)
    g = np.asarray(jit(conv, backend="numpy")(x, w))
    rng = np.random.default_rng(1)

    def of_image(w: Any, g: Any) -> Any:
        return asgfn.vjp(lambda x: conv(x, w), x)[1](g)[0]

    def of_kernel(g: Any, x: Any) -> Any:
        return asgfn.vjp(lambda w: conv(x, w), w)[1](g)[0]

    for f, first, seen in ((of_image, w, g), (of_kernel, g, x)):
        for place in rng.integers(seen.size, size=4):
            given = seen.copy()
            given.flat[place] = value
            wanted = np.asarray(jit(f, backend="numpy")(first, given))
            assert np.isfinite(compiled(f, first, given))[np.isfinite(wanted)].all()


@pytest.mark.parametrize(("kernel", "dilation"), [((3, 40), (2, 1)), ((5, 20), (2, 1)), ((3, 40), (3, 1))], ids=str)
def test_rows_of_a_kernel_of_which_some_positions_see_fewer(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 20, 10, 50)).astype(np.float32)
    w = rng.standard_normal((32, 20, *kernel)).astype(np.float32)
    padding = [(kernel[0] // 2, kernel[0] // 2 + dilation[0] - 1), (kernel[1] // 2, (kernel[1] - 1) // 2)]
    agree(lambda x, w: lax.conv_general_dilated(x, w, (1, 1), padding, lhs_dilation=dilation), x, w)
