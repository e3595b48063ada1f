"""Functions in LLVM IR become functions of this process, and the native runner does with them what the commands say."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from asgfn.errors import BackendError
from backends.cpu import native
from backends.cpu.commands import Branch, Command, Copy, Fill, Loop, Place, Run, While, encode
from backends.cpu.native import Runner, thread_count
from backends.llvm import host, objects
from backends.llvm.building import Building, Object
from backends.llvm.compiling import Compiler
from backends.llvm.engine import Engine, engine

Unary = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)


def unary(name: str, body: str, declared: str = "") -> str:
    return f"{declared}\ndefine double @{name}(double %x) nounwind {{\n{body}\n}}\n"


def call(address: int, x: float) -> float:
    return Unary(address)(x)


TWICE = unary("twice", "  %y = fadd double %x, %x\n  ret double %y")
CALLS = "  %y = call double @{0}(double %x)\n  ret double %y"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for compiled functions; where they are in it."""
    monkeypatch.setenv("ASGFN_CACHE", str(tmp_path))
    for what in objects.counts:
        monkeypatch.setitem(objects.counts, what, 0)
    return tmp_path / "objects"


# ---------------------------------------------------------------------------------------------- engine
def test_functions_call_each_other_externals_and_the_c_library() -> None:
    @Unary
    def from_python(x: float) -> float:
        return x - 3

    at = ctypes.cast(from_python, ctypes.c_void_p).value or 0
    found = Engine().compile(
        {
            "twice": TWICE,
            "four": unary("four", CALLS.format("twice"), "declare double @twice(double)"),
            "outer": unary("outer", CALLS.format("given"), "declare double @given(double)"),
            "power": unary("power", CALLS.format("exp"), "declare double @exp(double)"),
        },
        {"given": at},
    )
    assert call(found["twice"], 4) == 8 and call(found["four"], 4) == 8 and call(found["outer"], 4) == 1
    assert call(found["power"], 1) == pytest.approx(math.e)


def test_large_copies_call_the_c_library() -> None:
    text = """declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define void @copy(ptr %to, ptr %from, i64 %n) nounwind {
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %n, i1 false)
  ret void
}
"""
    a, b = np.arange(1000.0), np.zeros(1000)
    copy = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    copy(Engine().compile({"copy": text})["copy"])(b.ctypes.data, a.ctypes.data, a.nbytes)
    np.testing.assert_array_equal(a, b)


def test_constants_of_vectors_and_private_globals() -> None:
    text = """@table = private constant [4 x double] [double 1.0, double 2.0, double 4.0, double 8.0]
define double @look(double %x) nounwind {
  %i = fptosi double %x to i64
  %p = getelementptr double, ptr @table, i64 %i
  %y = load double, ptr %p
  %v = insertelement <4 x double> zeroinitializer, double %y, i64 0
  %w = fadd <4 x double> %v, <double 0.5, double 1.5, double 2.5, double 3.5>
  %z = extractelement <4 x double> %w, i64 0
  ret double %z
}
"""
    at = Engine().compile({"look": text})["look"]
    assert [call(at, i) for i in range(4)] == [1.5, 2.5, 4.5, 8.5]


def test_a_function_is_compiled_once(cache: Path) -> None:
    one = Engine()
    first = one.compile({"twice": TWICE})
    assert one.compile({"twice": TWICE, "other": TWICE.replace("twice", "other")})["twice"] == first["twice"]
    assert objects.counts == {"hits": 0, "misses": 2, "stored": 2}


def test_same_name_with_another_text_is_another_function() -> None:
    one = Engine()
    caller = unary("caller", CALLS.format("twice"), "declare double @twice(double)")
    old = one.compile({"twice": TWICE, "caller": caller})
    new = one.compile({"twice": TWICE.replace("fadd", "fmul"), "caller": caller})
    assert [call(old[n], 5) for n in ("twice", "caller")] == [10, 10]
    assert [call(new[n], 5) for n in ("twice", "caller")] == [25, 25]


def test_functions_may_call_each_other_in_circles() -> None:
    text = """declare double @{1}(double)
define double @{0}(double %x) nounwind {{
  %small = fcmp olt double %x, 1.0
  br i1 %small, label %end, label %more
end:
  ret double {2}
more:
  %less = fsub double %x, 1.0
  %y = call double @{1}(double %less)
  ret double %y
}}
"""
    found = Engine().compile({"even": text.format("even", "odd", "1.0"), "odd": text.format("odd", "even", "0.0")})
    assert [call(found["even"], i) for i in range(4)] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    "body",
    [
        "  %y = add i32 1, 2.0\n  ret double %x",
        "  ret i32 1",
        "  %y = call double @nothing(double %x)\n  ret double %y",
        "%",
    ],
)
def test_malformed_ir_is_an_error_with_the_functions_name(body: str, cache: Path) -> None:
    with pytest.raises(BackendError, match="the function wrong_one"):
        Engine().compile({"twice": TWICE, "wrong_one": unary("wrong_one", body)})
    with pytest.raises(BackendError, match="missing"):
        Engine().compile({"missing": TWICE})


def test_the_error_shows_the_line() -> None:
    with pytest.raises(BackendError, match=r"line 3 of its IR: %y = add i32 1, 2\.0"):
        Engine().compile({"wrong": unary("wrong", "  %y = add i32 1, 2.0\n  ret double %x")})


def test_a_function_that_is_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    one = Engine()
    with pytest.raises(BackendError, match="could not link lost, which call asgfn_nowhere"):
        one.compile({"lost": unary("lost", CALLS.format("asgfn_nowhere"), "declare double @asgfn_nowhere(double)")})
    assert call(one.compile({"twice": TWICE})["twice"], 2) == 4  # the engine still works


def test_without_llvmlite(monkeypatch: pytest.MonkeyPatch) -> None:
    host.package.cache_clear()
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    try:
        with pytest.raises(ImportError, match=r"pip install 'asgfn\[all\]'"):
            host.package()
    finally:
        host.package.cache_clear()


# ---------------------------------------------------------------------------------------------- cache on disk
def test_another_engine_finds_it_on_disk(cache: Path) -> None:
    Engine().compile({"twice": TWICE})
    assert call(Engine().compile({"twice": TWICE})["twice"], 2) == 4
    assert objects.counts == {"hits": 1, "misses": 1, "stored": 1} and len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-9], lambda data: data[:60] + b"?" + data[61:]]
)
def test_a_damaged_file_is_compiled_again(damage: Callable[[bytes], bytes], cache: Path) -> None:
    Engine().compile({"twice": TWICE})
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert call(Engine().compile({"twice": TWICE})["twice"], 2) == 4
    assert objects.counts["hits"] == 0 and objects.counts["stored"] == 2
    assert len(file.read_bytes()) == len(whole) and call(Engine().compile({"twice": TWICE})["twice"], 2) == 4
    assert objects.counts["hits"] == 1


def test_other_processors_and_compilers_have_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = host.host()
    keys = {objects.key_of(TWICE), objects.key_of(TWICE + "\n")}
    for change in ({"processor": "other"}, {"features": "-avx"}, {"triple": "other"}, {"compiler": "other"}):
        monkeypatch.setattr(objects, "host", lambda change=change: host.Host(**{**vars(machine), **change}))
        keys.add(objects.key_of(TWICE))
    assert len(keys) == 6


def test_the_cache_can_be_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGFN_CACHE", "off")
    assert call(Engine().compile({"twice": TWICE})["twice"], 2) == 4
    assert objects.counts == {"hits": 0, "misses": 0, "stored": 0} and not cache.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASGFN_CACHE", str(tmp_path / "file"))
    found = Engine().compile({f"f{i}": TWICE.replace("twice", f"f{i}") for i in range(3)})
    assert all(call(at, 2) == 4 for at in found.values())


def test_concurrent_writers(cache: Path) -> None:
    functions = {f"f{i}": unary(f"f{i}", f"  %y = fadd double %x, {i}.0\n  ret double %y") for i in range(40)}
    engines = [Engine() for _ in range(3)] + [Engine()] * 2
    together(lambda k: all_right(engines[k].compile(functions)), len(engines))
    assert len(list(cache.iterdir())) == 40  # and no temporary ones
    program = (
        "from tests.test_cpu_native import *\n"
        "functions = {f'f{i}': unary(f'f{i}', f'  %y = fadd double %x, {i}.0\\n  ret double %y') for i in range(40)}\n"
        "all_right(Engine().compile(functions)); print(objects.counts)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert all("'hits': 40" in p.communicate()[0] and p.returncode == 0 for p in processes)


def all_right(found: dict[str, int]) -> None:
    assert all(call(at, 1) == 1 + int(name[1:]) for name, at in found.items())


def together(work: Callable[[int], Any], threads: int) -> None:
    """Does it in several threads at once, each with its number; raises what one of them raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(threads)

    def one(k: int) -> None:
        try:
            start.wait()
            work(k)
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=one, args=(k,)) for k in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]


# ---------------------------------------------------------------------------------------------- kernels for the runner
def kernel(name: str, memories: int, body: str, declared: str = "") -> str:
    """A kernel whose groups are elements: `body` computes number %g of arrays of doubles %m0, %m1, …"""
    pointers = "\n".join(
        f"  %a{i} = getelementptr ptr, ptr %memories, i64 {i}\n  %p{i} = load ptr, ptr %a{i}" for i in range(memories)
    )
    elements = "\n".join(f"  %m{i} = getelementptr double, ptr %p{i}, i64 %g" for i in range(memories))
    return f"""{declared}
define void @{name}(ptr %memories, i64 %first, i64 %last, ptr %scratch) nounwind {{
entry:
{pointers}
  br label %loop
loop:
  %g = phi i64 [ %first, %entry ], [ %next, %bottom ]
  %inside = icmp slt i64 %g, %last
  br i1 %inside, label %body, label %end
body:
{elements}
{body}
  br label %bottom
bottom:
  %next = add i64 %g, 1
  br label %loop
end:
  ret void
}}
"""


KERNELS = {
    # m0 += 1
    "increment": kernel(
        "increment", 1, "  %x = load double, ptr %m0\n  %y = fadd double %x, 1.0\n  store double %y, ptr %m0"
    ),
    # m1 = 2 m0 + 1
    "affine": kernel(
        "affine",
        2,
        "  %x = load double, ptr %m0\n  %t = fmul double %x, 2.0\n  %y = fadd double %t, 1.0\n  store double %y, ptr %m1",
    ),
    # m0 += m1
    "accumulate": kernel(
        "accumulate",
        2,
        "  %x = load double, ptr %m0\n  %t = load double, ptr %m1\n  %y = fadd double %x, %t\n  store double %y, ptr %m0",
    ),
    # the byte at m1 = m0 < 10
    "below_ten": kernel(
        "below_ten",
        2,
        "  %x = load double, ptr %m0\n  %c = fcmp olt double %x, 10.0\n  %b = zext i1 %c to i8\n  store i8 %b, ptr %p1",
    ),
    # m0 = g, by way of the scratch memory; all of 4096 bytes hold it for a while
    "remember": kernel(
        "remember",
        1,
        """  br label %fill
fill:
  %i = phi i64 [ 0, %body ], [ %i.next, %fill ]
  %s = getelementptr i64, ptr %scratch, i64 %i
  store volatile i64 %g, ptr %s
  %i.next = add i64 %i, 1
  %i.more = icmp slt i64 %i.next, 512
  br i1 %i.more, label %fill, label %read
read:
  %j = phi i64 [ 0, %fill ], [ %j.next, %read ]
  %same = phi i64 [ 0, %fill ], [ %same.next, %read ]
  %q = getelementptr i64, ptr %scratch, i64 %j
  %v = load volatile i64, ptr %q
  %d = xor i64 %v, %g
  %same.next = or i64 %same, %d
  %j.next = add i64 %j, 1
  %j.more = icmp slt i64 %j.next, 512
  br i1 %j.more, label %read, label %done
done:
  %sum = add i64 %same.next, %g
  %x = sitofp i64 %sum to double
  store double %x, ptr %m0""",
    ),
    # m0 = the address of the scratch memory modulo 64
    "alignment": kernel(
        "alignment",
        1,
        "  %n = ptrtoint ptr %scratch to i64\n  %r = and i64 %n, 63\n  %x = sitofp i64 %r to double\n  store double %x, ptr %m0",
    ),
    # many steps that need no memory: m0 = 1 + 1000 steps of x -> x / 2 + 1 / 2
    "busy": kernel(
        "busy",
        1,
        """  br label %work
work:
  %i = phi i64 [ 0, %body ], [ %i.next, %work ]
  %x = phi double [ 1.0, %body ], [ %y, %work ]
  %h = fmul double %x, 0.5
  %y = fadd double %h, 0.5
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, 1000
  br i1 %more, label %work, label %done
done:
  %o = load double, ptr %m0
  %z = fadd double %o, %y
  store double %z, ptr %m0""",
    ),
}


@pytest.fixture(scope="module")
def at() -> dict[str, int]:
    """The kernels' addresses."""
    return engine().compile(KERNELS)


@pytest.fixture(params=[1, 2, 5])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    found = Runner(request.param)
    yield found
    found.close()


def run(runner: Runner, commands: Sequence[Command], *arrays: np.ndarray, scratch: int = 0) -> None:
    runner.program(commands, len(arrays), scratch).run([a.ctypes.data for a in arrays])


def elements(storage: int, start: int = 0, rows: Sequence[tuple[int, int]] = ()) -> Place:
    """Doubles of a storage, from one on."""
    return Place(storage, 8 * start, tuple((loop, 8 * n) for loop, n in rows))


# ---------------------------------------------------------------------------------------------- commands
def test_kernels_copies_and_zeros_in_order(runner: Runner, at: dict[str, int]) -> None:
    x, y, z = np.arange(100.0), np.ones(100), np.ones(110)
    commands: list[Command] = [
        Run(at["affine"], (elements(0), elements(1)), 100, 7),
        Copy(elements(2, 10), elements(1), 800),
        Fill(elements(2, 100), 80),
        Run(at["affine"], (elements(2, 10), elements(2, 10)), 50, 1000),
    ]
    run(runner, commands, x, y, z)
    np.testing.assert_array_equal(y, 2 * x + 1)
    np.testing.assert_array_equal(z, np.concatenate([np.ones(10), 2 * y[:50] + 1, y[50:90], np.zeros(10)]))


def test_nothing_to_do(runner: Runner, at: dict[str, int]) -> None:
    x = np.ones(1)
    run(runner, [])
    run(runner, [Run(at["increment"], (Place(0),), 0, 1), Loop(0, (Fill(Place(0), 8),)), Fill(Place(0), 0)], x)
    assert x == 1


def test_copies_may_overlap(runner: Runner) -> None:
    x = np.arange(1000.0)
    run(runner, [Copy(elements(0, 1), elements(0), 8 * 999)], x)
    np.testing.assert_array_equal(x, np.concatenate([[0], np.arange(999.0)]))


@pytest.mark.parametrize("groups, chunk", [(1, 1), (2, 1), (63, 8), (64, 8), (65, 8), (10_000, 1), (100_000, 33)])
def test_each_group_is_done_once(groups: int, chunk: int, runner: Runner, at: dict[str, int]) -> None:
    x = np.zeros(groups + 2)
    program = runner.program([Run(at["increment"], (elements(0, 1),), groups, chunk)] * 3, 1)
    for _ in range(5):
        program.run([x.ctypes.data])
    np.testing.assert_array_equal(x, np.concatenate([[0], np.full(groups, 15), [0]]))


def test_many_short_kernels_see_what_came_before(runner: Runner, at: dict[str, int]) -> None:
    x, y = np.zeros(16), np.zeros(16)
    step = (
        Run(at["increment"], (Place(0),), 16, 1),
        Run(at["accumulate"], (Place(1), Place(0)), 16, 3),
    )
    run(runner, [Loop(2000, step)], x, y)
    assert np.all(x == 2000) and np.all(y == 2000 * 2001 / 2)


def test_kernels_have_scratch_memory_of_their_own(runner: Runner, at: dict[str, int]) -> None:
    x = np.zeros(3000)
    run(runner, [Run(at["remember"], (Place(0),), 3000, 10)], x, scratch=4096)
    np.testing.assert_array_equal(x, np.arange(3000))
    for scratch in (4096, 8, 100):
        run(runner, [Run(at["alignment"], (Place(0),), 3000, 10)], x, scratch=scratch)
        assert not x.any()
        x[:] = 1


def test_a_loop_goes_over_rows(runner: Runner, at: dict[str, int]) -> None:
    xs, total, out = np.arange(60.0).reshape(5, 12), np.zeros(12), np.zeros((5, 12))
    body = (
        Run(at["accumulate"], (Place(1), elements(0, 0, [(0, 12)])), 12, 4),
        Copy(elements(2, 0, [(0, 12)]), Place(1), 96),
    )
    run(runner, [Loop(5, body)], xs, total, out)
    np.testing.assert_array_equal(out, np.cumsum(xs, 0))
    total[:] = 0
    run(runner, [Loop(5, body, first=4, step=-1)], xs, total, out)
    np.testing.assert_array_equal(out, np.cumsum(xs[::-1], 0)[::-1])
    total[:], out[:] = 0, 0
    run(runner, [Loop(2, body, first=2)], xs, total, out)
    np.testing.assert_array_equal(out[2:4], np.cumsum(xs[2:4], 0))
    assert not out[[0, 1, 4]].any()


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_a_loop_swaps_storages(count: int, runner: Runner, at: dict[str, int]) -> None:
    old, new, out = np.ones(8), np.zeros(8), np.zeros(8)
    body = (Run(at["affine"], (Place(0), Place(1)), 8, 2),)
    commands: list[Command] = [Loop(count, body, swaps=((0, 1),)), Copy(Place(2), Place(0), 64)]
    program = runner.program(commands, 3)
    for _ in range(2):  # the swaps of one call do not reach the next one
        old[:] = 1
        program.run([a.ctypes.data for a in (old, new, out)])
        assert np.all(out == 2.0 ** (count + 1) - 1)


def test_loops_in_loops(runner: Runner, at: dict[str, int]) -> None:
    xs, total, sums = np.arange(24.0).reshape(2, 3, 4), np.zeros(4), np.zeros((3, 2, 4))
    inner = (
        Run(at["accumulate"], (Place(1), elements(0, 0, [(0, 12), (1, 4)])), 4, 2),
        Copy(elements(2, 0, [(1, 8), (0, 4)]), Place(1), 32),
    )
    run(runner, [Loop(2, (Fill(Place(1), 32), Loop(3, inner)))], xs, total, sums)
    np.testing.assert_array_equal(sums, np.cumsum(xs, 1).transpose(1, 0, 2))


def test_while(runner: Runner, at: dict[str, int]) -> None:
    x, flag = np.zeros(1), np.zeros(8, np.uint8)
    test = (Run(at["below_ten"], (Place(0), Place(1)), 1, 1),)
    commands: list[Command] = [While(Place(1, 3), test, (Run(at["increment"], (Place(0),), 1, 1),))]
    moved = [
        While(
            Place(1, 3),
            (Run(at["below_ten"], (Place(0), Place(1, 3)), 1, 1),),
            (Run(at["increment"], (Place(0),), 1, 1),),
        )
    ]
    for start, end in ((0, 10), (9.5, 10.5), (12, 12), (-5, 10)):
        x[0] = start
        run(runner, moved, x, flag)
        assert x[0] == end and flag[3] == 0
    flag[:] = 0
    x[0] = 0
    run(runner, commands, x, flag)  # the test writes elsewhere
    assert x[0] == 0 and flag[0] == 1


def test_while_swaps_storages(runner: Runner, at: dict[str, int]) -> None:
    old, new, flag, out = np.zeros(4), np.zeros(4), np.zeros(8, np.uint8), np.zeros(4)
    commands: list[Command] = [
        While(
            Place(2),
            (Run(at["below_ten"], (Place(0), Place(2)), 1, 1),),
            (Run(at["affine"], (Place(0), Place(1)), 4, 1),),
            swaps=((0, 1),),
        ),
        Copy(Place(3), Place(0), 32),
    ]
    program = runner.program(commands, 4)
    for _ in range(2):
        old[:] = 0
        program.run([a.ctypes.data for a in (old, new, flag, out)])
        assert np.all(out == 15)  # 0, 1, 3, 7, 15


@pytest.mark.parametrize("index, case", [(-(2**31), 0), (-1, 0), (0, 0), (1, 1), (2, 2), (3, 2), (2**31 - 1, 2)])
def test_branch(index: int, case: int, runner: Runner, at: dict[str, int]) -> None:
    x, which = np.full(4, 5.0), np.array([7, index], np.int32)
    cases = (
        (Run(at["increment"], (Place(0),), 4, 1),),
        (),
        (Run(at["affine"], (Place(0), Place(0)), 4, 1), Run(at["increment"], (Place(0),), 4, 4)),
    )
    run(runner, [Branch(Place(1, 4), cases), Run(at["increment"], (elements(0, 3),), 1, 1)], x, which)
    value = [6, 5, 12][case]
    np.testing.assert_array_equal(x, [value, value, value, value + 1])


def test_everything_in_everything(runner: Runner, at: dict[str, int]) -> None:
    x, flag, which, log = np.zeros(1), np.zeros(8, np.uint8), np.array([0, 1, 1, 0, 5], np.int32), np.zeros((5, 2))
    increment = Run(at["increment"], (Place(0),), 1, 1)
    up_to_ten = While(Place(1), (Run(at["below_ten"], (Place(0), Place(1)), 1, 1),), (increment,))
    body = (
        Fill(Place(0), 8),
        Branch(
            Place(2, 0, ((0, 4),)),
            (
                (up_to_ten, Loop(3, (increment,))),
                (Loop(2, (increment, Copy(elements(3, 0, [(0, 2), (1, 1)]), Place(0), 8))),),
                (increment, Loop(1, (Fill(Place(0), 8),))),
            ),
        ),
        Run(at["accumulate"], (elements(3, 0, [(0, 2)]), Place(0)), 1, 1),
    )
    run(runner, [Loop(5, body)], x, flag, which, log)
    np.testing.assert_array_equal(log, [[13, 0], [3, 2], [3, 2], [13, 0], [0, 0]])


def test_commands_out_of_range() -> None:
    place = Place(0)
    for command in (Run(1, (place,), 4, 0), Run(1, (place,), -1, 1), Run(1, (place,), 1 << 33, 1), Branch(place, ())):
        with pytest.raises(ValueError):
            encode([command])
    with pytest.raises(ValueError, match="1 loops are around it"):
        encode([Loop(2, (Fill(Place(0, 0, ((1, 8),)), 8),))])
    assert not encode([Run(1, (place,), 8, 8)]).parallel and encode([Loop(2, (Run(1, (place,), 9, 8),))]).parallel


# ---------------------------------------------------------------------------------------------- threads
def test_several_callers_at_once(at: dict[str, int]) -> None:
    runner = Runner(3)
    body = (
        Run(at["affine"], (Place(0), Place(1)), 64, 4),
        Run(at["remember"], (Place(2),), 64, 4),
        Run(at["accumulate"], (Place(1), Place(2)), 64, 4),
    )
    program = runner.program([Loop(20, body, swaps=((0, 1),)), Copy(Place(3), Place(0), 512)], 4, 4096)
    expected = np.zeros(64)
    for _ in range(20):
        expected = 2 * expected + 1 + np.arange(64)

    def work(k: int) -> None:
        for _ in range(30):
            arrays = [np.zeros(64) for _ in range(4)]
            program.run([a.ctypes.data for a in arrays])
            np.testing.assert_array_equal(arrays[3], expected)

    together(work, 4)
    runner.close()
    work(0)  # it starts anew
    runner.close()


def test_workers_take_part_and_then_rest(at: dict[str, int]) -> None:
    runner = Runner(3)
    x = np.zeros(2000)
    program = runner.program([Run(at["busy"], (Place(0),), 2000, 10)], 1)
    for k in range(4):
        program.run([x.ctypes.data])
        assert np.all(x == k + 1)
        if k % 2:
            time.sleep(0.05)
    pool = runner._pool
    assert pool is not None
    wait_until(lambda: len(pool._parked) == 2)
    used = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - used < 0.1  # nobody spins
    program.run([x.ctypes.data])
    wait_until(lambda: len(pool._parked) == 2)
    runner.close()
    assert not any(thread.is_alive() for thread in pool._threads)


def wait_until(what: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_workers_end_with_their_runner(at: dict[str, int]) -> None:
    runner = Runner(2)
    x = np.zeros(100)
    run(runner, [Run(at["busy"], (Place(0),), 100, 1)], x)
    pool = runner._pool
    assert pool is not None and pool._threads[0].is_alive()
    del runner
    wait_until(lambda: not pool._threads[0].is_alive())


def test_no_threads_are_started_without_need(at: dict[str, int]) -> None:
    runner = Runner(4)
    x = np.zeros(4)
    run(runner, [Run(at["increment"], (Place(0),), 4, 4)], x)
    assert runner._pool is None
    one = Runner(1)
    run(one, [Run(at["increment"], (Place(0),), 4, 1)], x)
    assert one._pool is None and np.all(x == 2)


def test_more_threads_than_processors(at: dict[str, int]) -> None:
    runner = Runner(8 * host.processors())
    x = np.zeros(512)
    program = runner.program([Loop(50, (Run(at["busy"], (Place(0),), 512, 4),))], 1)
    for k in range(3):
        program.run([x.ctypes.data])
        assert np.all(x == 50 * (k + 1))
    runner.close()


def test_a_system_without_more_threads(at: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    runner = Runner(3)
    x = np.zeros(100)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        run(runner, [Run(at["increment"], (Place(0),), 100, 1)], x)
    run(runner, [Run(at["increment"], (Place(0),), 100, 1)], x)
    assert np.all(x == 2)
    runner.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(at: dict[str, int]) -> None:
    runner = Runner(2)
    x = np.zeros(200)
    program = runner.program([Run(at["busy"], (Place(0),), 200, 1)], 1)
    program.run([x.ctypes.data])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for _ in range(3):
                program.run([x.ctypes.data])
            pool = runner._pool
            if np.all(x == 4) and pool is not None and pool._threads[0].is_alive():
                code = 0
        finally:
            os._exit(code)
    program.run([x.ctypes.data])
    assert np.all(x == 2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    runner.close()


def test_a_process_ends_in_time_and_without_noise() -> None:
    program = """
from tests.test_cpu_native import *
at, runner = engine().compile(KERNELS), Runner(4)
def some(steps):
    x = np.zeros(400)  # a thread's own: what the module has may go before a daemon ends
    run(runner, [Loop(steps, (Run(at["busy"], (Place(0),), 400, 4),))], x)
some(1)
if "daemon" in sys.argv:
    threading.Thread(target=some, args=(100000,), daemon=True).start()
    time.sleep(0.05)
"""
    for argument in ("", "daemon"):
        done = subprocess.run(
            [sys.executable, "-c", program, argument], capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "3")
    assert thread_count() == 3 and Runner().threads == 3
    for wrong in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv(native.VARIABLE, wrong)
        with pytest.raises(BackendError, match="ASGFN_CPU_THREADS="):
            thread_count()
    monkeypatch.delenv(native.VARIABLE)
    assert thread_count() == host.processors() >= 1


@pytest.fixture
def quota_is_read() -> Iterator[Callable[[], None]]:
    """Forgets what a container gets time for, whenever it is called and at the end."""
    yield host._allowed.cache_clear
    host._allowed.cache_clear()


def test_a_container_gets_no_more_threads_than_it_has_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota_is_read: Callable[[], None]
) -> None:
    many = 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(many), raising=False)
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(host, "_QUOTAS", ((str(limit),),))
    quota_is_read()
    assert host.processors() == many
    for text, count in (("max 100000", many), ("250000 100000", 3), ("50000 100000", 1), ("-1 100000", many)):
        limit.write_text(text)
        quota_is_read()
        assert host.processors() == count


def test_a_function_that_two_programs_need_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, begun, go_on = [], threading.Event(), threading.Event()
    compile_it = Compiler.compile

    def slowly(self: Compiler, name: str, text: str, quick: bool) -> bytes:
        compiled.append(name)
        begun.set()
        assert go_on.wait(10)
        return compile_it(self, name, text, quick)

    monkeypatch.setenv("ASGFN_CACHE", "off")
    monkeypatch.setattr(Compiler, "compile", slowly)
    found: list[list[Object]] = []

    def build() -> None:
        with Building(0) as building:
            found.append(building.objects({"twice": TWICE}))

    threads = [threading.Thread(target=build) for _ in range(3)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    threading.Timer(0.1, go_on.set).start()
    for thread in threads:
        thread.join()
    assert compiled == ["twice"] and len(found) == 3 and found[0] == found[1] == found[2]


def test_who_asks_for_a_function_that_is_being_compiled_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is looked at before somebody else has the code, and found empty after."""
    begun, go_on, done = (threading.Event() for _ in range(3))
    compile_it = Compiler.compile

    def slowly(self: Compiler, name: str, text: str, quick: bool) -> bytes:
        begun.set()
        assert go_on.wait(10)
        return compile_it(self, name, text, quick)

    def find(key: str) -> None:
        if begun.is_set():
            go_on.set()
            done.wait(1)

    monkeypatch.setenv("ASGFN_CACHE", "off")
    monkeypatch.setattr(Compiler, "compile", slowly)
    monkeypatch.setattr(objects, "find", find)
    found: list[list[Object]] = []
    threading.Timer(0.3, go_on.set).start()  # where the disk is not asked

    def build(also: Callable[[], object] = lambda: None) -> None:
        with Building(0) as building:
            found.append(building.objects({"twice": TWICE}))
            also()

    first = threading.Thread(target=build, args=(lambda: (done.set(), time.sleep(0.3)),), daemon=True)
    first.start()
    assert begun.wait(10)
    second = threading.Thread(target=build, daemon=True)
    second.start()
    for thread in (first, second):
        thread.join(10)
        assert not thread.is_alive()
    assert len(found) == 2 and found[0] == found[1]


def test_threads_take_short_turns_only_while_something_is_built() -> None:
    before = sys.getswitchinterval()
    with pytest.raises(ValueError), Building(0):
        assert sys.getswitchinterval() < before
        with Building(0):
            assert sys.getswitchinterval() < before
        assert sys.getswitchinterval() < before
        raise ValueError
    assert sys.getswitchinterval() == before
