"""Worker processes of DataLoader: the same batches, errors, deaths, and nothing left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from nn_fn.data import ArrayDataset, DataLoader, WorkerDiedError, WorkerError, workers
from nn_fn.data.shared import Slot, SlotView, create_block, pack, read_block, remove_block, write_block

SHARED_MEMORY = Path("/dev/shm")


class Awkward:
    """Items whose batches are hard to transport: many dtypes and strides, strings, sizes that differ a lot."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict:
        return {
            "x": np.full((3, 4), index, np.float32),
            "wide": np.arange(index * index, dtype=np.float64),
            "bf16": np.full(2, index, ml_dtypes.bfloat16),
            "name": f"item {index}",
        }


def awkward_collate(items: list[dict]) -> dict:
    x = np.stack([i["x"] for i in items])
    return {
        "x": x,
        "reversed": x[:, ::-1, ::2],
        "fortran": np.asfortranarray(x[:, :, 0]),
        "wide": np.concatenate([i["wide"] for i in items]),
        "bf16": np.stack([i["bf16"] for i in items]),
        "names": [i["name"] for i in items],
        "empty": np.zeros((0, 3), np.int16),
        "dates": np.array(["2020-01-01"] * len(items), "M8[D]"),
        "big endian": np.arange(len(items), dtype=">i4"),
        "scalar": np.float64(len(items)),
    }


def noisy(batch: dict, rng: np.random.Generator) -> dict:
    return {**batch, "noise": rng.normal(size=3)}


class CannotBePickledError(Exception):
    def __init__(self, code: int, text: str):
        super().__init__(f"{code}: {text}")


def fails_at(x):
    if x == 5:
        raise KeyError("item five is broken")
    if x == 7:
        raise CannotBePickledError(7, "odd")
    if x == 9:
        sys.exit(3)
    if x == 11:
        return lambda: None
    return x


def dies_at_five(x):
    if x == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def stack_numbers(items):
    return items if any(map(callable, items)) else np.array(items)


def sleeps(x):
    time.sleep(600)


class LoadsBadly:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        return index

    def __setstate__(self, state) -> None:
        raise RuntimeError("this data set has no home here")

    def __getstate__(self):
        return {"a": 1}


def same(a, b) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for k in a:
            same(a[k], b[k])
    else:
        np.testing.assert_array_equal(a, b)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape


def all_same(a, b) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        same(x, y)


def blocks_of(name: str) -> list[str]:
    return [p.name for p in SHARED_MEMORY.glob(f"{name}*")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_nothing_left(pool) -> None:
    assert blocks_of(pool.name) == []
    assert not [p for p in multiprocessing.active_children() if p.pid in pool.pids]
    assert not any(map(alive, pool.pids))


def awkward_loader(workers: int, **options) -> DataLoader:
    return DataLoader(
        Awkward(),
        2,
        shuffle=True,
        seed=4,
        collate=awkward_collate,
        batch_transform=noisy,
        num_workers=workers,
        **options,
    )


def test_workers_give_the_same_batches_in_every_epoch_and_after_breaks_and_resumes():
    reference = awkward_loader(0)
    epochs = [list(reference) for _ in range(4)]
    loader = awkward_loader(2, prefetch=3)
    all_same(list(loader), epochs[0])
    pool = loader._pool
    assert len(pool.pids) == 2 and all(map(alive, pool.pids))
    assert loader.stats.batches == 12 and loader.stats.startup_time > 0

    for number, batch in enumerate(loader):
        same(batch, epochs[1][number])
        batch["x"][:] = -1  # the batch is the loop's own
        if number == 3:
            state = pickle.loads(pickle.dumps(loader.state_dict()))
            break
    all_same(list(loader), epochs[2])
    loader.load_state_dict(state)
    all_same(list(loader), epochs[1][4:])
    in_process = awkward_loader(0)
    in_process.load_state_dict(state)
    all_same(list(in_process), epochs[1][4:])
    assert loader._pool is pool  # one pool has done it all
    if SHARED_MEMORY.is_dir():
        assert blocks_of(pool.name)

    # a loop left early, whose loader is then collected
    iterator = iter(loader)
    next(iterator)
    del iterator, loader
    gc.collect()
    assert_nothing_left(pool)


def test_errors_in_workers_are_raised_here_with_index_and_traceback():
    with DataLoader(ArrayDataset(np.arange(20)), 2, transform=fails_at, collate=stack_numbers, num_workers=1) as loader:
        got = []
        with pytest.raises(KeyError, match="item five is broken") as caught:
            for batch in loader:
                got.append(batch.tolist())
        assert got == [[0, 1], [2, 3]]
        notes = "\n".join(caught.value.__notes__)
        assert "DataLoader: in the item at index 5" in notes and "making batch 2 of epoch 0" in notes
        assert f"in worker 0 (process {loader._pool.pids[0]})" in notes
        assert re.search(r"Traceback .*in fails_at\n", notes, re.DOTALL)
        pool = loader._pool

        def resume_after(batch: int) -> DataLoader:
            loader.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": batch})
            return loader

        with pytest.raises(WorkerError, match=r"CannotBePickledError: 7: odd\n.*at index 7"):
            list(resume_after(3))
        with pytest.raises(WorkerError, match="SystemExit: 3"):
            list(resume_after(4))
        with pytest.raises(Exception, match="lambda"):  # a batch that cannot be pickled
            list(resume_after(5))
        assert loader._pool is pool  # and the worker has survived all of it
        assert next(iter(resume_after(6))).tolist() == [12, 13]
    assert_nothing_left(pool)


def test_a_killed_worker_is_reported_at_once_and_replaced_in_the_next_loop():
    data = ArrayDataset(np.arange(200))  # more than a worker can have made before it is killed
    loader = DataLoader(data, 2, transform=dies_at_five, num_workers=1)
    got = []
    with pytest.raises(WorkerDiedError, match=r"worker 0 \(process \d+\) ended unexpectedly \(signal SIGKILL\)"):
        for batch in loader:
            got.append(batch.tolist())
    assert got == [[0, 1], [2, 3]]
    dead = loader._pool
    assert_nothing_left(dead)
    # killed from outside, while the loop waits for nothing
    loader.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": 3})
    iterator = iter(loader)
    assert next(iterator).tolist() == [6, 7]
    pool = loader._pool
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(WorkerDiedError, match="signal SIGKILL"):
        for _ in range(10):
            next(iterator)
    assert time.monotonic() - started < 20  # it would wait for ever
    assert_nothing_left(pool)


def test_a_worker_that_takes_too_long_is_an_error_if_a_timeout_is_set(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.1)
    loader = DataLoader(ArrayDataset(np.arange(4)), 2, transform=sleeps, num_workers=1, timeout=0.2)
    with pytest.raises(WorkerError, match=r"worker 0 .* made no batch within timeout=0.2 seconds"):
        list(loader)
    assert_nothing_left(loader._pool)


def test_what_cannot_be_sent_to_workers_is_named():
    data = ArrayDataset(np.arange(4))
    for options, culprit in (
        ({"transform": lambda x: x}, "transform cannot be sent"),
        ({"collate": lambda x: x, "batch_transform": lambda x: x}, "collate and batch_transform cannot be sent"),
    ):
        with pytest.raises(TypeError, match=culprit + r".*top level of a module.*num_workers=0"):
            list(DataLoader(data, 2, num_workers=1, **options))
    with pytest.raises(WorkerError, match=r"could not load the data set(.|\n)*no home here"):
        list(DataLoader(LoadsBadly(), 2, num_workers=1))


def test_arguments_for_processes_are_checked():
    with pytest.raises(ValueError, match="context"):
        list(DataLoader(ArrayDataset(np.arange(4)), 2, num_workers=1, start_method="teleport"))


# ---- whole programs

HEADER = """
import os, signal, sys, time
import numpy as np
from nn_fn.data import workers
from nn_fn.data import ArrayDataset, DataLoader

def slow(x):
    time.sleep(0.05)
    return x

def loader(**options):
    return DataLoader(ArrayDataset(np.zeros((400, 1000)), np.arange(400)), 4, num_workers=1, transform=slow, **options)

def report(made):
    print(made._pool.name, *made._pool.pids, flush=True)
"""

PROGRAMS = {
    "left early in three ways": """
        if __name__ == "__main__":
            made = loader(persistent_workers=False)
            for batch in made:
                report(made)
                break
            assert made._pool is None
            again = loader()
            try:
                for batch in again:
                    report(again)
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            iterator = iter(again)
            next(iterator)
            print("exits in the middle of an epoch")
    """,
    "interrupted": """
        if __name__ == "__main__":
            made = loader()
            try:
                for number, batch in enumerate(made):
                    if number == 0:
                        report(made)
            except KeyboardInterrupt:
                print("interrupted")
    """,
    "killed": """
        if __name__ == "__main__":
            made = loader()
            for number, batch in enumerate(made):
                if number == 0:
                    report(made)
    """,
    "no guard": """
        for batch in loader():
            pass
    """,
}


class Program:
    """A running program whose output goes to files, so that nobody waits for a worker that holds a pipe open."""

    def __init__(self, folder: Path, name: str):
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        file = folder / f"{name}.py"
        file.write_text(HEADER + textwrap.dedent(PROGRAMS[name]))
        root = str(Path(__file__).parent.parent)
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(file)],
                stdout=out,
                stderr=err,
                cwd=root,
                env={**os.environ, "PYTHONPATH": root},
                start_new_session=True,
            )

    def first_line(self) -> str:
        wait_until(lambda: "\n" in self.out.read_text() or self.process.poll() is not None)
        return self.out.read_text().splitlines()[0]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited for a minute"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """All programs, started at once because starting takes most of their time."""
    folder = tmp_path_factory.mktemp("programs")
    started = {name: Program(folder, name) for name in PROGRAMS}
    yield started
    for program in started.values():
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="looks for shared memory where Linux has it")
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "no guard"])
def test_programs_leave_no_processes_no_shared_memory_and_no_warnings(programs, name):
    program = programs[name]
    program.first_line()
    if name == "interrupted":
        os.killpg(program.process.pid, signal.SIGINT)  # as a terminal does
    if name == "killed":
        program.process.kill()
    program.process.wait(60)
    *pools, last = program.out.read_text().splitlines()
    if name == "killed":
        pools = [last]  # and nobody is left to clean up quietly, so there may be warnings
    else:
        assert last in ("interrupted", "exits in the middle of an epoch")
        assert program.err.read_text() == ""
        assert program.process.returncode == 0
    assert len(pools) == (2 if name == "left early in three ways" else 1)
    for line in pools:
        block, *pids = line.split()
        wait_until(lambda: not any(alive(int(pid)) for pid in pids) and not blocks_of(block))


def test_a_missing_guard_is_explained(programs):
    program = programs["no guard"]
    assert program.process.wait(60) == 1
    assert "ended unexpectedly (exit code 1) before it was ready" in program.err.read_text()
    assert 'if __name__ == "__main__":' in program.err.read_text()


def test_a_program_that_workers_cannot_import_is_refused_at_once():
    program = HEADER + "\nlist(loader())\n"
    root = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 1
    assert "<stdin> is no file. Save the program to a file" in done.stderr


# ---- shared memory


def test_objects_survive_a_block_and_own_their_memory():
    value = awkward_collate([Awkward()[i] for i in range(3)])
    packed = pack(value)
    # every array is kept out of the pickle, but the empty one
    assert sum(b.nbytes for b in packed.buffers) == sum(v.nbytes for v in value.values() if isinstance(v, np.ndarray))
    block = create_block(f"asgfn_test_{os.getpid()}", 1 << 16)
    write_block(block, packed)
    again = read_block(block, packed.sizes)
    remove_block(block)
    same(again, value)
    assert all(v.flags.writeable for v in again.values() if isinstance(v, np.ndarray) and v.size)


def test_slots_grow_and_old_blocks_go():
    name = f"asgfn_slot_{os.getpid()}"
    slot, view = Slot(name), SlotView(name)
    for size in (10, 5, 5000, 5100, 100_000):
        packed = pack(np.arange(size))
        slot.write(packed)
        np.testing.assert_array_equal(read_block(view.follow(slot.generation), packed.sizes), np.arange(size))
    assert slot.generation == 3  # 5100 fitted into the room that 5000 left
    if SHARED_MEMORY.is_dir():
        assert blocks_of(name) == [f"{name}_3"]
    # what the other side made without telling goes too
    slot.write(pack(np.arange(1_000_000)))
    view.remove()
    slot.block.close()
    assert blocks_of(name) == []


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="about Linux")
def test_too_little_shared_memory_is_an_error_and_not_a_crash():
    with pytest.raises(OSError, match=r"needs \d+ bytes of shared memory and /dev/shm has \d+ left.*--shm-size"):
        create_block("asgfn_too_large", 1 << 60)
