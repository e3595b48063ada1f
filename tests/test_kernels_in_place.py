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


def test_several_elements_of_a_thread_are_each_read_before_they_are_written() -> None:
    def kernel(early: bool) -> Any:
        b = Builder()
        x, y = b.argument("x", F32, 8), b.argument("y", F32, 8)
        first = b.builtin("group_x")
        second = b.op("add", first, b.constant(4, I32))
        values = [b.load(x, first), b.load(x, second)] if early else [b.load(x, first)]
        b.store(y, first, values[0])
        b.store(y, second, values[1] if early else b.load(x, first))
        return b.kernel("k", (64,), (4,))

    assert in_place_pairs(kernel(early=True)) == in_place_pairs(kernel(early=False)) == ((0, 1),)

    def written_twice() -> Any:
        b = Builder()
        x, y = b.argument("x", F32, 4), b.argument("y", F32, 4)
        place = b.builtin("group_x")
        b.store(y, place, b.constant(0.0, F32))
        b.store(y, place, b.load(x, place))
        return b.kernel("k", (64,), (4,))

    assert in_place_pairs(written_twice()) == ()


def test_weights_and_moments_of_a_tile_are_updated_in_place() -> None:
    def update(x: Any, g: Any, w: Any, m: Any) -> Any:
        m = 0.9 * m + x.T @ g
        return w - 0.1 * m, m

    for n in (32, 33):
        step = asgfn.fuse(update)
        arguments = jnp.ones((16, n)), jnp.ones((16, n)), jnp.ones((n, n)), jnp.ones((n, n))
        (region,) = asgfn.trace(step)(*arguments).nodes
        plan = lower_region(region.params["asg"], region.params["kind"], Target())
        assert plan is not None
        last = plan.stages[-1]
        found = {
            (region.inputs[last.arguments[k].number], last.arguments[j].number) for k, j in in_place_pairs(last.kernel)
        }
        assert found == {(2, 0), (3, 0), (2, 1), (3, 1)}  # w and m


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
