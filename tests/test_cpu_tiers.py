"""Kernels that are compiled quickly at first, and well once their program is called again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import asgfn
import asgfn.numpy as jnp
from asgfn import background, lax, nn
from asgfn.errors import BackendError
from backends.cpu import native, tiers
from backends.cpu.program import Program
from backends.llvm import objects
from backends.llvm.building import Building, Ended
from backends.llvm.compiling import Compiler
from backends.llvm.engine import Engine
from backends.llvm.host import is_x86
from tests.compiled_checks import array, assert_same_bits, both_tiers, cpu_fixture  # noqa: F401

pytestmark = pytest.mark.skipif(not is_x86(), reason="elsewhere kernels are compiled well at once")

ADD = "define i64 @add(i64 %x) {{\n  %y = add i64 %x, {}\n  ret i64 %y\n}}\n"


@pytest.fixture(autouse=True)
def tiered(cpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    native.load()
    monkeypatch.setenv("ASGFN_CACHE", str(tmp_path))
    monkeypatch.setattr(tiers, "is_tiered", lambda: True)


def settle() -> None:
    """Waits for the background, without telling it."""
    while background._running:
        time.sleep(0.001)


def program_of(jitted: Any, *args: Any) -> Program:
    found = jitted.lower(*args).compile().executable
    assert isinstance(found, Program)
    return found


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What is compiled in a test: the name of the function, and whether quickly."""
    found: list[tuple[str, bool]] = []
    compile_it = Compiler.compile

    def noted(self: Compiler, name: str, text: str, quick: bool = False) -> bytes:
        found.append((name, quick))
        return compile_it(self, name, text, quick)

    monkeypatch.setattr(Compiler, "compile", noted)
    return found


# ---------------------------------------------------------------------------------------------- programs
def test_a_program_that_is_called_again_is_compiled_well_meanwhile(compiled: list[tuple[str, bool]]) -> None:
    x = array(np.random.default_rng(0), 33, 70)
    f = asgfn.jit(lambda x: nn.softmax(x * 1.25, axis=-1), backend="cpu")
    first = np.asarray(f(x))
    program = program_of(f, x)
    before = program.addresses
    assert program.is_improvable and [quick for _, quick in compiled] == [True]
    second = np.asarray(f(x))
    settle()
    assert not program.is_improvable and program.addresses != before
    assert sorted(quick for _, quick in compiled) == [False, True] and len({name for name, _ in compiled}) == 1
    third = np.asarray(f(x))
    settle()
    assert len(compiled) == 2
    assert_same_bits(first, second)
    assert_same_bits(first, third)


def test_one_call_needs_no_good_code(compiled: list[tuple[str, bool]]) -> None:
    x = array(np.random.default_rng(0), 33, 71)
    f = asgfn.jit(lambda x: jnp.tanh(x).sum(0), backend="cpu")
    f(x)
    settle()
    assert program_of(f, x).is_improvable and all(quick for _, quick in compiled)


def test_other_programs_have_the_good_code_at_once(compiled: list[tuple[str, bool]]) -> None:
    x = array(np.random.default_rng(0), 33, 72)
    one, other = (asgfn.jit(lambda x, k=k: (jnp.exp(x - 0.75) * 3.0, k), backend="cpu") for k in range(2))
    one(x)
    program_of(one, x).improve()
    assert [quick for _, quick in compiled] == [True, False]
    other(x)
    assert not program_of(other, x).is_improvable and len(compiled) == 2


def test_loops_are_compiled_well_at_once(compiled: list[tuple[str, bool]]) -> None:
    x = array(np.random.default_rng(0), 16)

    def looped(x: Any) -> Any:
        y = lax.fori_loop(0, 5, lambda i, y: jnp.sin(y) * 1.5, x)
        return lax.while_loop(lambda y: y.sum() > 100, lambda y: y * 0.25, y)

    asgfn.jit(looped, backend="cpu")(x)
    assert compiled and not any(quick for _, quick in compiled)


def test_kernels_that_take_long_are_compiled_well_at_once(
    compiled: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "_SHORT", 1e-5)
    small, large = jnp.zeros((1 << 10,), jnp.float32), jnp.zeros((1 << 16,), jnp.float32)
    f = asgfn.jit(lambda x: x * 3.5 + 1, backend="cpu")
    f(small)
    f(large)
    assert [quick for _, quick in compiled] == [True, False]
    assert program_of(f, small).is_improvable and not program_of(f, large).is_improvable


def test_what_is_in_a_loop_and_outside_of_it_is_compiled_once(compiled: list[tuple[str, bool]]) -> None:
    x = array(np.random.default_rng(0), 16)
    step = lambda x: jnp.cos(x) * 2.25
    f = asgfn.jit(lambda x: lax.fori_loop(0, 3, lambda i, y: step(y), step(x)), backend="cpu")
    f(x)
    program_of(f, x).improve()
    well = [name for name, quick in compiled if not quick]
    assert well and len(set(well)) == len(well) and len(compiled) - len(well) <= 1


def test_functions_of_products_are_compiled_well_at_once(compiled: list[tuple[str, bool]]) -> None:
    rng = np.random.default_rng(0)
    a, b = array(rng, 37, 41), array(rng, 41, 53)
    asgfn.jit(lambda a, b: nn.relu(a @ b + 0.5), backend="cpu")(a, b)
    assert compiled
    assert all(quick == name.startswith("k") for name, quick in compiled)


def test_layers_and_their_derivatives_have_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    image, kernel = array(rng, 2, 3, 15, 14), array(rng, 8, 3, 3, 3)
    q, k, v = (array(rng, 2, 2, 20, 8) for _ in range(3))

    def convolved(image: Any, kernel: Any) -> Any:
        y = lax.conv_general_dilated(image, kernel, (1, 1), "SAME")
        y = lax.reduce_window(nn.gelu(y), -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return jnp.square(y).mean()

    def attended(q: Any, k: Any, v: Any) -> Any:
        weights = nn.softmax(jnp.einsum("bhqd,bhkd->bhqk", q, k) / 8**0.5, axis=-1)
        return jnp.square(jnp.einsum("bhqk,bhkd->bhqd", weights, v)).sum()

    both_tiers(asgfn.value_and_grad(convolved, argnums=(0, 1)), image, kernel)
    both_tiers(asgfn.value_and_grad(attended, argnums=(0, 1, 2)), q, k, v)
    x = array(rng, 40, 33)
    order = jnp.asarray(rng.integers(0, 40, 60))
    both_tiers(lambda x: (jnp.sort(x, axis=0), jnp.cumsum(x, axis=1), x[order], x.argmax(0), x.T[::-1, ::2]), x)
    edges = jnp.asarray(np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -1e-40, 3e38], np.float32))
    both_tiers(
        lambda x: [op(x[:, None], x[None]) for op in (jnp.maximum, jnp.minimum, jnp.add, jnp.multiply, jnp.fmod)], edges
    )
    both_tiers(lambda x: (nn.relu(x), jnp.clip(x, 0.0, 1.0), x.max(), x.min(), jnp.exp(x), jnp.log(x)), edges)


def test_what_was_donated_is_donated_still() -> None:
    f = asgfn.jit(lambda p, g: p - 0.125 * g, donate_argnums=0, backend="cpu")
    p, g = jnp.ones((64, 9)), jnp.full((64, 9), 2.0)
    for _ in range(4):
        p = f(p, g)
        settle()
    assert (np.asarray(p) == 0).all()


def test_calls_of_many_threads_while_code_changes() -> None:
    x = array(np.random.default_rng(0), 64, 100)
    f = asgfn.jit(lambda x: nn.softmax(jnp.sin(x) + 0.375, axis=-1), backend="cpu")
    want, wrong = np.asarray(f(x)), []

    def call() -> None:
        for _ in range(50):
            if not np.array_equal(np.asarray(f(x)), want):
                wrong.append(1)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle()
    for _ in range(3):  # who has waited for the background may have ended it
        f(x)
    program_of(f, x).improve()
    assert not wrong and np.array_equal(np.asarray(f(x)), want)


def test_who_waits_for_the_background_does_not_wait_for_good_code(
    compiled: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = array(np.random.default_rng(0), 33, 74)
    f = asgfn.jit(lambda x: jnp.tanh(x * 0.625).sum(1), backend="cpu")
    f(x)
    program = program_of(f, x)
    monkeypatch.setattr("backends.cpu.program.is_awaited", lambda: True)
    f(x)
    settle()
    assert program.is_improvable
    monkeypatch.undo()
    f(x)
    f(x)
    settle()
    assert not program.is_improvable


def test_code_that_cannot_be_improved_stays(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    x = array(np.random.default_rng(0), 33, 75)
    f = asgfn.jit(lambda x: jnp.tanh(x * 0.875).sum(1), backend="cpu")
    want = np.asarray(f(x))
    program = program_of(f, x)

    def fail(self: Compiler, name: str, text: str, quick: bool = False) -> bytes:
        raise BackendError("out of registers")

    monkeypatch.setattr(Compiler, "compile", fail)
    with caplog.at_level(logging.WARNING, "asgfn"):
        f(x)
        settle()
    assert "out of registers" in caplog.text and program.is_improvable
    assert np.array_equal(np.asarray(f(x)), want)


def test_profiles_are_of_good_code() -> None:
    x = array(np.random.default_rng(0), 33, 76)
    f = asgfn.jit(lambda x: jnp.tanh(x * 0.9375).sum(1), backend="cpu")
    compiled = f.lower(x).compile()
    assert compiled.executable.is_improvable
    compiled.profile(x)
    assert not compiled.executable.is_improvable


# ---------------------------------------------------------------------------------------------- functions
def test_a_function_that_shall_be_compiled_well_moves() -> None:
    engine, text = Engine(), ADD.format(1)
    first = engine.compile({"add": text}, quick=["add"])["add"]
    assert first in engine.quick
    assert engine.compile({"add": text}, quick=["add"])["add"] == first
    well = engine.compile({"add": text})["add"]
    assert well not in engine.quick
    assert engine.compile({"add": text}, quick=["add"])["add"] == well == engine.compile({"add": text})["add"]


def test_both_are_kept_and_the_good_one_is_found_first(compiled: list[tuple[str, bool]]) -> None:
    text = ADD.format(2)
    for quick, wanted in (((), [False]), (["add"], [False])):
        with Building(0) as building:
            (found,) = building.objects({"add": text}, quick)
        assert not found.is_quick and [q for _, q in compiled] == wanted
    compiled.clear()
    text = ADD.format(3)
    for quick, is_quick, wanted in ((["add"], True, [True]), (["add"], True, [True]), ((), False, [True, False])):
        with Building(0) as building:
            (found,) = building.objects({"add": text}, quick)
        assert found.is_quick == is_quick and [q for _, q in compiled] == wanted
    assert objects.key_of(text) != objects.key_of(text, quick=True)


def test_who_needs_good_code_later_gets_it() -> None:
    text = ADD.format(4)
    with Building(0) as building:
        building.begin({"add": text}, quick=True)
        building.begin({"add": text})
        building.begin({"add": text}, quick=True)
        (found,) = building.objects({"add": text})
    assert not found.is_quick


def test_a_building_that_ends_early(compiled: list[tuple[str, bool]]) -> None:
    texts = {f"add{k}": ADD.format(k).replace("@add", f"@add{k}") for k in range(5, 10)}
    with pytest.raises(Ended), Building(0, lambda: len(compiled) == 2) as building:
        building.objects(texts)
    assert len(compiled) == 2
    with Building(0, lambda: True) as building:  # nothing is left to do for these
        building.objects({name: texts[name] for name, _ in compiled[:2]})
    with Building(0) as building:
        assert len(building.objects(texts)) == 5


@pytest.mark.parametrize("most", [0, 1])
def test_what_is_left_for_later_is_done_in_the_background(most: int) -> None:
    done = []
    with Building(most) as building:
        building.later(lambda: done.append(threading.current_thread()))
        building.objects({"add": ADD.format(11 + most)})
        assert not done
    settle()
    assert len(done) == 1 and done[0] is not threading.current_thread()


# ---------------------------------------------------------------------------------------------- the variable
@pytest.fixture
def is_tiered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bool]]:
    monkeypatch.undo()
    tiers.is_tiered.cache_clear()
    yield tiers.is_tiered
    tiers.is_tiered.cache_clear()


def test_the_variable(is_tiered: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    for text, wanted in (("0", False), ("1", True), ("", True)):
        monkeypatch.setenv(tiers.VARIABLE, text)
        tiers.is_tiered.cache_clear()
        assert is_tiered() is wanted
    monkeypatch.setenv(tiers.VARIABLE, "yes")
    tiers.is_tiered.cache_clear()
    with pytest.raises(BackendError, match="ASGFN_CPU_TIERED='yes'"):
        is_tiered()


def test_a_process_begins_with_what_the_one_before_it_has_left(tmp_path: Path) -> None:
    program = """
import sys, time
import numpy as np
import asgfn
from asgfn import background, nn
from backends.llvm.compiling import Compiler
found, compile_it = [], Compiler.compile
def noted(self, name, text, quick=False):
    if name.startswith("k"):
        found.append(quick)
    return compile_it(self, name, text, quick)
Compiler.compile = noted
f = asgfn.jit(lambda x: nn.softmax(x, axis=-1), backend="cpu")
for _ in range(int(sys.argv[1])):
    f(np.ones((20, 30), np.float32))
    if sys.argv[2] == "wait":
        while background._running:
            time.sleep(0.01)
print(found, f.lower(np.ones((20, 30), np.float32)).compile().executable.is_improvable)
"""
    for calls, how, wanted in (
        ("1", "go", "[True] True"),  # compiled quickly, and kept
        ("1", "go", "[] True"),
        ("2", "wait", "[False] False"),  # called again
        ("1", "go", "[] False"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, calls, how],
            env={**os.environ, "ASGFN_CPU_TIERED": "1", "ASGFN_CACHE": str(tmp_path / "kept")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == wanted, (calls, done.stdout)
