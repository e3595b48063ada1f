"""Compiled programs on disk: what comes back is what was compiled, and nothing that is wrong ever does."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import background, lax
from asgfn.config import config
from asgfn.graph.serial import fingerprint
from asgfn.records import replace
from backends.programs import cache, compiler, disk
from backends.programs.cache import key_of
from backends.programs.disk import read_entry, write_entry
from backends.programs.finished import Finished
from backends.programs.steps import Dispatch, Host, Storage, inner_lists, walk
from backends.programs.stored import NotAProgram, NotStorable, from_stored, to_stored
from backends.wgpu import compiling, library
from backends.wgpu.built import Built
from backends.wgpu.compiling import compile_graph
from backends.wgpu.device import Kernel
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.wgpu_checks import values

RNG = np.random.default_rng(0)


def _floats(*shape: int) -> Any:
    return jnp.asarray(RNG.standard_normal(shape).astype(np.float32))


def compiled(*args: Any) -> Finished:
    """The program of a graph, once it is kept."""
    found = compiling.compiled(*args)
    background.finish()
    return found


# ---------------------------------------------------------------------------------------------- programs
def layers(params: Any, x: Any) -> Any:
    for w, b in params:
        x = jnp.tanh(x @ w + b)
    return x


def training_step(params: Any, m: Any, x: Any) -> Any:
    loss, g = asgfn.value_and_grad(lambda p: jnp.mean(layers(p, x) ** 2))(params)
    m = asgfn.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    return asgfn.tree.map(lambda p, m: p - 0.1 * m, params, m), m, loss


def scanned(start: Any, xs: Any) -> Any:
    return lax.scan(lambda c, x: (c * 0.5 + x, jnp.sin(c) + x[::-1]), start, xs)


def branched(n: Any, x: Any) -> Any:
    big = lambda x: jnp.sort(x, axis=-1) @ jnp.ones((x.shape[-1], 300))
    return lax.cond(n > 2, big, lambda x: (x @ jnp.ones((x.shape[-1], 300))) * 2, x)


def repeated(x: Any) -> Any:
    return lax.while_loop(lambda s: jnp.sum(s[0]) < 1e4, lambda s: (s[0] * 1.5 + 1, s[1] + 1), (x, 0))


def on_the_host(x: Any) -> Any:
    return jnp.linalg.inv(x @ x.T + jnp.eye(x.shape[0])) * 2, x.ravel()[:0]


TABLE = RNG.standard_normal((64, 48)).astype(np.float32)


def with_constants(i: Any, x: Any) -> Any:
    return jnp.asarray(TABLE)[i] + x, jnp.asarray(TABLE > 0)[i]


def mixed(x: Any, k: Any) -> Any:
    half = x.astype(jnp.float16) if x.shape[0] % 2 else x
    return half.sum(), jnp.cumsum(x, axis=0), x.at[k].add(1.0), lax.top_k(x, 2), x


W = [(_floats(8, 8), _floats(8)) for _ in range(3)]
PROGRAMS: dict[str, tuple] = {
    "training step": (training_step, (W, [(jnp.zeros((8, 8)), jnp.zeros(8)) for _ in W], _floats(5, 8)), (0, 1)),
    "scan": (scanned, (_floats(6), _floats(5, 6)), ()),
    "cond": (branched, (jnp.int32(3), _floats(7, 60)), ()),
    "while": (repeated, (_floats(9),), ()),
    "host": (on_the_host, (_floats(4, 4),), ()),
    "constants": (with_constants, (jnp.asarray([3, 0, 63]), _floats(3, 48)), ()),
    "mixed": (mixed, (_floats(7, 5), jnp.asarray([1, 1, 4])), ()),
    "empty": (lambda x: (x + 1, x.sum(0)), (jnp.zeros((0, 3)),), ()),
}


def lowered(name: str) -> Any:
    f, args, donated = PROGRAMS[name]
    low = asgfn.jit(f, donate_argnums=donated, backend="wgpu").lower(*args)
    return low.asg, tuple(low._donated)


def described(finished: Finished) -> Any:
    """All there is to a program, as plain values; memories by the order in which they are met."""
    numbers: dict[int, int] = {}

    def plain(x: Any) -> Any:
        if isinstance(x, Storage):
            root = x.root
            return "memory", numbers.setdefault(id(root), len(numbers)), root.kind, root.number, root.nbytes
        if isinstance(x, Dispatch):
            kernel = x.kernel and (x.kernel.workgroup, x.kernel.flops, x.kernel.bytes, x.kernel.features)
            facts = (
                x.text,
                x.grid,
                x.sizes,
                x.written,
                x.rows,
                x.offsets,
                x.merged,
                x.guard_entry,
                x.guard is not None,
            )
            return "dispatch", *map(plain, x.storages), facts, kernel, x.name, x.kind, x.scope, str(x.place), x.is_copy
        if isinstance(x, np.ndarray):
            return x.dtype.name, x.shape, x.tobytes()
        if isinstance(x, dict):
            return [(plain(k), plain(v)) for k, v in x.items()]
        if isinstance(x, (list, tuple)):
            return [plain(v) for v in x]
        if inner_lists(x):
            return type(x).__name__, [plain(part) for part in inner_lists(x)], str(getattr(x, "rows", ""))
        if isinstance(x, Host):
            return "host", x.name, x.why, x.inputs, x.outputs, str(x.place)
        if hasattr(x, "slot"):
            return type(x).__name__, plain(x.storage), x.slot, x.aval
        return x

    return [plain(part) for part in finished._replace(kernels=[])]


def run(gpu: Any, finished: Finished, name: str) -> list[np.ndarray]:
    """Results of a program on copies of its arguments."""
    built = Built(gpu.device, finished)
    leaves = asgfn.tree.leaves(PROGRAMS[name][1])
    outs = built([np.array(x) for x in leaves])
    return [
        o if isinstance(o, np.ndarray) else gpu.to_host(o, t) for o, t in zip(outs, finished.out_types, strict=True)
    ]


@pytest.fixture(name="kept")
def kept_fixture(tmp_path: Any, monkeypatch: Any) -> Any:
    """A folder for programs, and counts that start at 0."""
    monkeypatch.setenv(disk.VARIABLE, str(tmp_path))
    monkeypatch.setattr(cache, "counts", {"hits": 0, "misses": 0, "stored": 0})
    return tmp_path / "programs"


# ---------------------------------------------------------------------------------------------- round trips
@pytest.mark.parametrize("name", PROGRAMS)
def test_hits_are_what_was_compiled(gpu: Any, kept: Any, name: str) -> None:
    asg, donated = lowered(name)
    first = compiled(asg, gpu.device.target, donated, False)
    second = compiled(asg, gpu.device.target, donated, False)
    assert cache.counts == {"hits": 1, "misses": 1, "stored": 1}
    assert described(second) == described(first)
    assert {d.text for d in second.kernels} == {d.text for d in walk(second.steps) if isinstance(d, Dispatch)}
    wanted = values(asgfn.jit(PROGRAMS[name][0], backend="numpy")(*PROGRAMS[name][1]))
    for finished in (first, second):
        for got, want in zip(run(gpu, finished, name), wanted, strict=True):
            np.testing.assert_allclose(got.astype(want.dtype), want, rtol=2e-3 if name == "mixed" else 2e-5, atol=1e-5)


def test_a_new_process_starts_from_the_disk(gpu: Any, tmp_path: Any) -> None:
    code = """
import json, sys, asgfn, asgfn.numpy as jnp
from tests.software_gpu import choose_software_adapter
choose_software_adapter()
f = asgfn.jit(lambda x: jnp.tanh(x @ x.T).sum(axis=1), backend="wgpu")
got = [float(v) for v in f(jnp.arange(12.0).reshape(3, 4) / 10)]
from backends.programs.cache import counts
from wgpu.backends.wgpu_native import _ffi
print(json.dumps([got, counts["hits"], hasattr(_ffi.ffi, "_parser")]))
"""
    environment = {**os.environ, disk.VARIABLE: str(tmp_path)}
    found = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    (first, hits, parsed), (second, hits_then, parsed_then) = found
    assert (hits, hits_then) == (0, 1)
    assert first == second
    # the second process has not parsed the library's header
    assert (parsed, parsed_then) == (True, False)


def test_tables_of_the_library_are_checked() -> None:
    import msgpack

    good = {"_version": 1, "_types": b"", "_globals": (), "_struct_unions": (), "_enums": (), "_typenames": ()}
    assert library._decoded(msgpack.packb(good)) == good
    broken = [None, b"", b"\xc1", msgpack.packb([1]), msgpack.packb({**good, "_types": "text"})]
    broken += [msgpack.packb({**good, "more": 1}), msgpack.packb({k: v for k, v in good.items() if k != "_enums"})]
    assert all(library._decoded(data) is None for data in broken)


def test_what_calls_python_is_not_kept(gpu: Any, kept: Any) -> None:
    def f(x: Any) -> Any:
        return asgfn.pure_callback(lambda x: np.asarray(x) + 1, asgfn.ShapeDtypeStruct((3,), np.float32), x) * 2

    call = asgfn.jit(f, backend="wgpu")
    np.testing.assert_allclose(call(jnp.arange(3.0)), [2, 4, 6])
    assert not kept.exists() and cache.counts["stored"] == 0


def test_checked_programs_are_not_kept(gpu: Any, kept: Any) -> None:
    asg, donated = lowered("while")
    compiled(asg, gpu.device.target, donated, True)
    assert not kept.exists()


def test_large_constants_stay_in_the_graph(gpu: Any, kept: Any) -> None:
    table = RNG.standard_normal((512, 512)).astype(np.float32)  # random numbers cannot be compressed
    call = asgfn.jit(lambda x: (jnp.asarray(table) @ x, jnp.asarray(table > 0.5).sum()), backend="wgpu")
    low = call.lower(_floats(512))
    first = compiled(low.asg, gpu.device.target, (), False)
    (path,) = kept.iterdir()
    assert path.stat().st_size < 100_000
    second = compiled(low.asg, gpu.device.target, (), False)
    assert cache.counts["hits"] == 1
    assert described(second) == described(first)


def test_large_arrays_of_its_own_are_not_kept(gpu: Any, monkeypatch: Any) -> None:
    asg, donated = lowered("constants")
    finished = compile_graph(asg, gpu.device.target, donated, False)
    types = gpu.device.target.types
    other = finished._replace(constants={**finished.constants, 99: RNG.standard_normal(5000)})
    assert len(to_stored(other, asg, types, [])) > 35_000 + len(to_stored(finished, asg, types, []))
    monkeypatch.setattr("backends.programs.stored.MOST_ARRAYS", 30_000)
    to_stored(finished, asg, types, [])
    with pytest.raises(NotStorable):
        to_stored(other, asg, types, [])


# ---------------------------------------------------------------------------------------------- names
def test_what_makes_a_program_another(gpu: Any, monkeypatch: Any) -> None:
    target = gpu.device.target

    def name(f: Any, *args: Any, target: Any = target, donated: Any = (), tuned: bool = False) -> str:
        return key_of(fingerprint(asgfn.trace(f)(*args))[0], target, donated, "", tuned)

    def f(x: Any) -> Any:
        return x * 2.0 + 1.0

    x = _floats(3, 4)
    usual = name(f, x)
    assert name(f, x + 1) == usual

    def again(y: Any) -> Any:
        # in other lines, with other names of arguments
        return y * 2.0 + 1.0

    again.__name__ = "f"
    assert name(again, x) == usual
    others = {
        "shape": name(f, _floats(4, 3)),
        "dtype": name(f, jnp.zeros((3, 4), jnp.int32)),
        "constant": name(lambda x: x * 2.0 + 1.5, x),
        "donated": name(f, x, donated=(True,)),
        "target": name(f, x, target=replace(target, workgroup_threads=128)),
        "types": name(f, x, target=replace(target, types=replace(target.types, half=not target.types.half))),
        "measured": name(f, x, target=replace(target, measured={"dot": {1: 0.5}})),
        "tuned": name(f, x, tuned=True),
    }
    monkeypatch.setattr(cache, "version", lambda: b"another")
    others["version"] = name(f, x)
    assert len({usual, *others.values()}) == 1 + len(others)


def test_another_compiler_compiles_again(gpu: Any, kept: Any, monkeypatch: Any) -> None:
    asg, donated = lowered("scan")
    compiled(asg, gpu.device.target, donated, False)
    monkeypatch.setattr(cache, "version", lambda: b"another")
    compiled(asg, gpu.device.target, donated, False)
    assert cache.counts == {"hits": 0, "misses": 2, "stored": 2}


def test_the_version_is_that_of_the_source(tmp_path: Any) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "inner" / "b.py").write_text("y = 1\n")
    found = [cache.source_hash(cache.files_of([tmp_path]))]
    (tmp_path / "inner" / "b.py").write_text("y = 2\n")
    found.append(cache.source_hash(cache.files_of([tmp_path])))
    (tmp_path / "inner" / "b.py").rename(tmp_path / "inner" / "c.py")
    found.append(cache.source_hash(cache.files_of([tmp_path])))
    (tmp_path / "notes.txt").write_text("no code")
    assert cache.source_hash(cache.files_of([tmp_path])) == found[-1]
    assert len(set(found)) == 3
    assert len(cache.version()) == 16


def test_places_are_those_of_the_graph_at_hand(gpu: Any, kept: Any) -> None:
    def here(x: Any) -> Any:
        return jnp.sin(x) @ x

    def there(x: Any) -> Any:
        return jnp.sin(x) @ x

    there.__name__ = "here"
    x = _floats(40, 40)
    for f in (here, there):
        graph = asgfn.jit(f, backend="wgpu").lower(x).asg
        finished = compiled(graph, gpu.device.target, (), False)
        first = f.__code__.co_firstlineno
        lines = {d.place.line for d in finished.kernels if d.place is not None}
        assert lines and lines <= {first, first + 1}
    assert cache.counts["hits"] == 1


# ---------------------------------------------------------------------------------------------- damage
def test_damaged_entries_are_ignored_and_replaced(gpu: Any, kept: Any) -> None:
    asg, donated = lowered("scan")
    first = compiled(asg, gpu.device.target, donated, False)
    (path,) = kept.iterdir()
    good = path.read_bytes()
    rng = random.Random(1)
    damages = [b"", good[:10], good[:-1], good + b"\0", b"\0" * len(good), os.urandom(200)]
    for _ in range(20):
        broken = bytearray(good)
        broken[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        damages.append(bytes(broken))
    for damage in damages:
        path.write_bytes(damage)
        assert read_entry(path) is None
    path.write_bytes(damages[-1])
    assert described(compiled(asg, gpu.device.target, donated, False)) == described(first)
    assert cache.counts["hits"] == 0
    compiled(asg, gpu.device.target, donated, False)
    assert cache.counts["hits"] == 1


def test_forged_programs_are_refused(gpu: Any) -> None:
    import zlib

    import msgpack

    asg, donated = lowered("cond")
    _, places = fingerprint(asg)
    data = to_stored(compile_graph(asg, gpu.device.target, donated, False), asg, gpu.device.target.types, places)
    rng = random.Random(2)
    body = zlib.decompress(data)
    refused = 0
    for k in range(150):
        if k % 2:
            broken = bytearray(body)
            for _ in range(3):
                broken[rng.randrange(len(body))] = rng.randrange(256)
            forged = bytes(broken)
        else:
            whole = msgpack.unpackb(body, raw=False)
            part: Any = whole
            while isinstance(part, list) and part:
                inner = [x for x in part if isinstance(x, list) and x]
                if not inner or rng.random() < 0.2:
                    part[rng.randrange(len(part))] = rng.choice([None, -1, "x", [], ["o", 10**6], ["n", 99]])
                    break
                part = rng.choice(inner)
            forged = msgpack.packb(whole, use_bin_type=True)
        try:
            from_stored(zlib.compress(forged), asg, places)
        except NotAProgram:
            refused += 1
    assert refused > 30
    for junk in (b"", b"x", zlib.compress(b""), zlib.compress(msgpack.packb([1, 2])), data[:-3]):
        with pytest.raises(NotAProgram):
            from_stored(junk, asg, places)
    other, _ = lowered("host")
    with pytest.raises(NotAProgram):
        from_stored(data, other, [])


def test_many_writers_and_readers(tmp_path: Any) -> None:
    path = tmp_path / "folder" / "entry"
    contents = [bytes([k]) * (1000 * k + 7) for k in range(1, 9)]
    problems: list[Any] = []
    stop = threading.Event()

    def write(data: bytes) -> None:
        for _ in range(25):
            write_entry(path, data)

    def read() -> None:
        while not stop.is_set():
            if path.exists():
                data = read_entry(path)
                if data not in contents:
                    problems.append(data)

    writers = [threading.Thread(target=write, args=(c,)) for c in contents]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert not problems
    assert read_entry(path) in contents
    assert [p.name for p in path.parent.iterdir()] == ["entry"]  # nothing temporary is left


# ---------------------------------------------------------------------------------------------- the folder
def test_the_folder_keeps_to_its_size(tmp_path: Any) -> None:
    with config.override(compilation_cache_max_size=10_000):
        for k in range(12):
            path = tmp_path / f"entry{k}"
            write_entry(path, bytes(1500))
            os.utime(path, (1000 + k, 1000 + k))
            assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 10_000
        assert {p.name for p in tmp_path.iterdir()} == {f"entry{k}" for k in range(6, 12)}
        assert read_entry(tmp_path / "entry6") is not None  # now it was used last
        write_entry(tmp_path / "entry12", bytes(1500))
        assert {"entry6", "entry12"} <= {p.name for p in tmp_path.iterdir()}
        assert not (tmp_path / "entry7").exists()


@pytest.mark.parametrize("how", ["environment", "setting"])
def test_it_can_be_turned_off(gpu: Any, tmp_path: Any, monkeypatch: Any, how: str) -> None:
    monkeypatch.setenv(disk.VARIABLE, "off" if how == "environment" else str(tmp_path))
    with config.override(enable_compilation_cache=how == "environment"):
        assert disk.folder() is None
        asg, donated = lowered("empty")
        compiled(asg, gpu.device.target, donated, False)
    assert list(tmp_path.iterdir()) == []


def test_where_it_is(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv(disk.VARIABLE, raising=False)
    assert "asgfn" in str(disk.folder())
    with config.override(compilation_cache_dir=str(tmp_path)):
        assert disk.folder() == tmp_path
        monkeypatch.setenv(disk.VARIABLE, str(tmp_path / "other"))
        assert disk.folder() == tmp_path / "other"


def test_a_folder_that_cannot_be_written_only_warns(gpu: Any, tmp_path: Any, monkeypatch: Any, caplog: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(disk.VARIABLE, str(tmp_path / "file" / "folder"))
    disk._report.cache_clear()
    asg, donated = lowered("empty")
    with caplog.at_level("WARNING", "asgfn"):
        for _ in range(2):
            compiled(asg, gpu.device.target, donated, False)
    assert sum(disk.VARIABLE in r.getMessage() for r in caplog.records) == 1


# ---------------------------------------------------------------------------------------------- compiling
@pytest.mark.parametrize("number", [2, 6])
def test_equal_layers_are_lowered_once(gpu: Any, monkeypatch: Any, number: int) -> None:
    count = 0
    lower = compiler.lower

    def counting(*args: Any) -> Any:
        nonlocal count
        count += 1
        return lower(*args)

    monkeypatch.setattr(compiler, "lower", counting)
    monkeypatch.setattr(compiler, "_plans", {})
    params = [(_floats(16, 16), _floats(16)) for _ in range(number)]
    graph = asgfn.jit(layers, backend="wgpu").lower(params, _floats(4, 16)).asg
    expected: list[Kernel] = []
    finished = compile_graph(graph, gpu.device.target, (), False, expected.append)
    assert len(finished.kernels) == number
    assert count == len({d.text for d in finished.kernels}) == len(expected) == 1


def test_kernels_are_begun_as_they_will_be(gpu: Any) -> None:
    """A training step whose arguments are donated: results take their place, which makes other kernels."""
    asg, donated = lowered("training step")
    expected: list[Kernel] = []
    finished = compile_graph(asg, gpu.device.target, donated, False, expected.append)
    wanted = {Kernel(d.text, tuple(d.written[k] for k in d.bound()), bool(d.rows)) for d in finished.kernels}
    assert any(d.merged for d in finished.kernels)
    assert set(expected) == wanted
