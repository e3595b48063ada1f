"""What the builder of kernels remembers: values in scope, computed once, and nothing that is something else by now."""

from __future__ import annotations

from backends.kernels import index as ix
from backends.kernels.ir import BOOL, F32, I32, Builder, Let


def names(block: list) -> list[str]:
    return [s.value.op for s in block if isinstance(s, Let)]


def test_values_are_computed_once_where_they_are_known() -> None:
    b = Builder()
    thread, i = b.builtin("thread"), ix.axis("i", 8)
    outside = b.op("add", thread, b.constant(1, I32))
    with b.loop(i):
        inside = b.op("mul", b.index(i), outside)
        assert b.op("mul", b.index(i), outside) is inside
        assert inside.depth == 1
        # does not depend on the loop, so it is computed before it
        early = b.op("sub", thread, b.constant(2, I32))
        assert early.depth == 0
    assert b.op("sub", thread, b.constant(2, I32)) is early
    assert names(b.body) == ["builtin", "add", "sub"]


def test_what_a_block_computed_is_forgotten_with_it() -> None:
    b = Builder()
    i, key = ix.axis("i", 8), ("a key",)
    with b.loop(i):
        first = b.index(i * 3 + 1)
        b.remember(key, first)
        assert b.recall(key) is first
    assert b.recall(key) is None
    with b.loop(i):
        second = b.index(i * 3 + 1)
        assert second is not first
        assert b.index(i * 3 + 1) is second


def test_what_is_remembered_outside_outlives_a_block_that_knew_it() -> None:
    b = Builder()
    thread = b.builtin("thread")
    with b.when(b.op("lt", thread, b.constant(4, I32), dtype=BOOL)):
        b.remember("key", b.read(b.variable(b.constant(0, I32))))
        b.remember("key", thread)
    assert b.recall("key") is thread


def test_an_axis_that_gets_another_value() -> None:
    b = Builder()
    i = ix.axis("i", 64)
    b.set_axis(i, b.builtin("group_x"))
    first = b.index(i * 2 + 5)
    b.set_axis(i, b.builtin("group_x"))
    assert b.index(i * 2 + 5) is first
    b.set_axis(i, b.builtin("group_y"))
    second = b.index(i * 2 + 5)
    assert second is not first
    assert second.args[0].args[0] is b.builtin("group_y")


def test_constants() -> None:
    b = Builder()
    assert b.constant(1, I32) is b.constant(1, I32)
    different = [b.constant(x, t) for x, t in ((1, I32), (1, F32), (1.0, F32), (True, BOOL), (0.0, F32), (-0.0, F32))]
    different += [b.constant(float("nan"), F32), b.constant(float("inf"), F32)]
    assert len({id(c) for c in different}) == len(different)
    assert b.constant(float("nan"), F32) is different[-2]


def test_coordinates_are_those_of_the_place() -> None:
    i, j = ix.axis("i", 6), ix.axis("j", 10)
    for _ in range(2):
        assert ix.coordinates(i * 10 + j, (6, 10)) == (i, j)
        assert ix.coordinates(i * 10 + j, (2, 3, 10)) == (i.digit(3), i.digit(1, 3), j)
        assert ix.coordinates(j * 6 + i, (10, 6)) == (j, i)


def test_what_is_read_under_a_condition_is_read_under_it_in_a_loop_that_certainly_runs() -> None:
    b = Builder()
    memory = b.argument("in0", F32, 64)
    thread = b.builtin("thread")
    with b.loop(ix.axis("i", 8), certain=True):
        assert b.load(memory, thread).depth == 0
    other = b.op("add", thread, b.constant(60, I32))
    with b.when(b.op("lt", other, b.constant(64, I32), dtype=BOOL)), b.loop(ix.axis("j", 8), certain=True):
        assert b.load(memory, other).depth == 1
