"""Which results of kernels may take the place of operands; rows of larger memories; both as WGSL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from backends.kernels.in_place import in_place_pairs
from backends.kernels.ir import F32, I32, Builder
from backends.kernels.lowering import Argument, Stage, lower_region
from backends.kernels.target import Target
from backends.wgsl import source


def stage(f: Callable, *args: Any) -> Stage:
    plan = lower_region(asgfn.trace(f)(*args), "elementwise", Target())
    assert plan is not None
    return plan.stages[0]


def pairs(f: Callable, *args: Any) -> set[tuple[int, int]]:
    """Numbers of operands and results."""
    kernel, arguments = stage(f, *args)
    return {(arguments[k].number, arguments[j].number) for k, j in in_place_pairs(kernel)}


@pytest.mark.parametrize("n", [7, 4096])
def test_elements_that_are_read_where_they_are_written(n: int) -> None:
    x, y = jnp.ones(n), jnp.ones(n)
    assert pairs(lambda x, y: x + y, x, y) == {(0, 0), (1, 0)}
    assert pairs(lambda x, y: (x + y, x * 2), x, y) >= {(1, 0), (0, 1)}
    assert pairs(lambda x, y: jnp.exp(x[None]) * y.reshape(1, n), x, y) == {(0, 0), (1, 0)}


def test_elements_that_are_read_elsewhere_too() -> None:
    x, y = jnp.ones(8), jnp.ones(8)
    assert pairs(lambda x, y: x + y[::-1], x, y) == {(0, 0)}
    assert pairs(lambda x, y: x + x[::-1] + y, x, y) == {(1, 0)}
    assert pairs(lambda x, y: x + y.sum(), x, y) == {(0, 0)}
    assert pairs(lambda x: x.T, jnp.ones((3, 4))) == set()
    assert pairs(lambda x: x[:4] * 2, x) == set()  # not of the same size
    assert pairs(lambda x: x.astype(int), x) == set()  # nor of the same type


def test_load_in_another_list_of_statements_is_of_another_thread() -> None:
    def kernel(inside: bool) -> Any:
        b = Builder()
        x, y = b.argument("x", F32, 4), b.argument("y", F32, 4)
        group, thread = b.builtin("group_x"), b.builtin("thread")
        early = None if inside else b.load(x, group)
        with b.when(b.op("eq", thread, b.constant(0, I32), dtype="bool")):
            b.store(y, group, b.load(x, group) if early is None else early)
        return b.kernel("k", (64,), (4,))

    assert in_place_pairs(kernel(inside=True)) == ((0, 1),)
    assert in_place_pairs(kernel(inside=False)) == ()


def test_merged_memory_has_no_binding_of_its_own() -> None:
    kernel, arguments = stage(lambda x, y: x * y + 1, jnp.ones(5), jnp.ones(5))
    assert arguments == (Argument("input", 0), Argument("input", 1), Argument("output", 0))
    text = source(kernel, merged={0: 2})
    assert "in0" not in text and text.count("@binding") == 2
    assert "@group(0) @binding(0) var<storage, read> in1" in text
    assert "@group(0) @binding(1) var<storage, read_write> out0" in text


@pytest.mark.parametrize("n", [5, 4096])
def test_rows_are_found_by_a_number_in_uniform_memory(n: int) -> None:
    kernel, _ = stage(lambda x, y: x * y, jnp.ones(n), np.float32(2))
    text = source(kernel, rows={0: n, 2: n})
    width = kernel.memories[0].width
    assert text.count("var<uniform>") == 2
    for name in ("in0", "out0"):
        assert f"let {name}_row = row * {n // width};" in text and f"{name}[{name}_row + " in text
    assert "in1_row" not in text
