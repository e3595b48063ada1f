"""`CheckpointManager`: rotation, the best, restarts, several processes, and writers that are killed."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asgfn.numpy as jnp
from nn_fn.checkpoints import (
    CheckpointError,
    CheckpointManager,
    CheckpointMismatchError,
    DamagedCheckpointError,
    DamagedCheckpointWarning,
    SafetensorsReader,
    load_checkpoint,
    save_checkpoint,
)
from nn_fn.checkpoints import files as checkpoint_files

fork = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None
needs_fork = pytest.mark.skipif(fork is None, reason="needs processes that fork, and file locks")


@pytest.fixture(autouse=True)
def no_unexpected_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DamagedCheckpointWarning)
        yield


def tree(step: int, size: int = 4) -> dict[str, Any]:
    """What a run has after some steps; every part tells which."""
    return {"w": np.full(size, step, np.float32), "more": [np.arange(size, dtype=np.int32) + step], "step": step}


def assert_is(restored: Any, step: int) -> None:
    assert restored.step == step == restored.tree["step"]
    assert (np.asarray(restored.tree["w"]) == step).all()
    more = np.asarray(restored.tree["more"][0])
    assert (more == np.arange(len(more)) + step).all()


def damage(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------------- saving, restoring
def test_save_and_restore(tmp_path):
    manager = CheckpointManager(tmp_path / "a" / "run")
    assert manager.steps() == [] and manager.latest_step is None and manager.best_step is None
    path = manager.save(12, tree(12), metrics={"loss": 0.5, "n": jnp.asarray(3)}, metadata={"note": "x"})
    assert path.name == "step_00000012.safetensors" and names(tmp_path / "a" / "run") == [path.name]
    for restored in (manager.restore(), manager.restore(12), manager.restore(like=tree(0)), manager.restore(mmap=True)):
        assert_is(restored, 12)
        step, _, metrics, metadata = restored
        assert (step, metrics, metadata) == (12, {"loss": 0.5, "n": 3.0}, {"note": "x"})
    assert manager.path(12) == path and manager.path(13).name == "step_00000013.safetensors"
    assert load_checkpoint(path)[1] == {"step": 12, "metrics": {"loss": 0.5, "n": 3.0}, "metadata": {"note": "x"}}


def test_steps_are_sorted_as_numbers(tmp_path):
    for name in ("step_9", "step_10", "step_000000000008", "step_1234567890", "step_2000"):
        step = int(name[5:])
        save_checkpoint(tmp_path / f"{name}.safetensors", tree(step))
    for other in (
        "step_.safetensors",
        "step_-1.safetensors",
        "step_1.safetensors.bak",
        "xstep_1.safetensors",
        "step_٣.safetensors",
    ):
        (tmp_path / other).write_bytes(b"")
    (tmp_path / "step_7.safetensors").mkdir()
    manager = CheckpointManager(tmp_path, max_to_keep=None)
    assert manager.steps() == [8, 9, 10, 2000, 1234567890] and manager.latest_step == 1234567890
    assert_is(manager.restore(), 1234567890)
    assert_is(manager.restore(8), 8)
    manager.save(11, tree(11))
    assert manager.steps() == [8, 9, 10, 11, 2000, 1234567890]
    manager.delete(8)
    assert manager.steps() == [9, 10, 11, 2000, 1234567890]


def test_an_existing_step_is_replaced_only_on_request(tmp_path):
    manager = CheckpointManager(tmp_path)
    manager.save(3, tree(3))
    with pytest.raises(FileExistsError, match=r"step 3 .*pass overwrite=True"):
        manager.save(3, tree(4))
    assert_is(manager.restore(), 3)
    manager.save(3, {"other": 1}, overwrite=True)
    assert manager.restore().tree == {"other": 1}
    # a file of another name for the same step
    save_checkpoint(tmp_path / "step_7.safetensors", tree(7))
    with pytest.raises(FileExistsError):
        manager.save(7, tree(7))
    manager.save(7, {"other": 7}, overwrite=True)
    assert names(tmp_path) == ["step_00000003.safetensors", "step_00000007.safetensors"]


def test_a_damaged_checkpoint_is_replaced_when_the_run_gets_there_again(tmp_path):
    manager = CheckpointManager(tmp_path)
    manager.save(1, tree(1))
    damage(manager.save(2, tree(2)))
    with pytest.warns(DamagedCheckpointWarning, match=r"step_00000002.safetensors is damaged.*trying another"):
        assert_is(manager.restore(), 1)
    with pytest.warns(DamagedCheckpointWarning, match="it is replaced"):
        manager.save(2, tree(2))
    assert_is(manager.restore(), 2)


def test_bad_arguments(tmp_path):
    for options, message in (
        ({"max_to_keep": 0}, "max_to_keep"), ({"keep_best": -1}, "keep_best"), ({"mode": "low"}, "'min' or 'max'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            CheckpointManager(tmp_path, **options)
    manager = CheckpointManager(tmp_path)
    for step, error in ((-1, ValueError), (1.5, TypeError), ("last", TypeError)):
        with pytest.raises(error, match="step is"):
            manager.save(step, {})
        with pytest.raises(error, match="step is"):
            manager.restore(step)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint in"):
        manager.restore()
    with pytest.raises(ValueError, match="best_metric"):
        manager.restore("best")
    with pytest.raises(FileNotFoundError, match="metric 'loss'"):
        CheckpointManager(tmp_path, best_metric="loss").restore("best")
    manager.save(jnp.asarray(2), tree(2))
    for call in (manager.restore, manager.delete):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 3 in .*; there are: 2"):
            call(3)
    with pytest.raises(TypeError):
        manager.save(4, {"f": object()})
    assert manager.steps() == [2] and len(names(tmp_path)) == 1


# ----------------------------------------------------------------------------------------------------------- rotation
def test_rotation_keeps_the_newest(tmp_path):
    manager = CheckpointManager(tmp_path, max_to_keep=2)
    for step in (8, 9, 10, 11, 100):
        manager.save(step, tree(step))
    assert manager.steps() == [11, 100]
    forever = CheckpointManager(tmp_path / "all", max_to_keep=None)
    for step in range(6):
        forever.save(step, tree(step))
    assert forever.steps() == [0, 1, 2, 3, 4, 5]


def test_rotation_counts_what_is_on_disk(tmp_path):
    for step in range(1, 7):  # a new manager each time, as after a restart
        CheckpointManager(tmp_path, max_to_keep=3).save(step, tree(step))
        assert CheckpointManager(tmp_path).steps() == list(range(max(1, step - 2), step + 1))
    managers = [CheckpointManager(tmp_path, max_to_keep=1) for _ in range(3)]
    for step in range(7, 13):
        managers[step % 3].save(step, tree(step))
        assert managers[0].steps() == [step]


def test_a_step_that_was_just_saved_stays_even_if_it_is_an_old_one(tmp_path):
    manager = CheckpointManager(tmp_path, max_to_keep=2)
    for step in (10, 20, 5):
        manager.save(step, tree(step))
    assert manager.steps() == [5, 10, 20]
    manager.save(6, tree(6))
    assert manager.steps() == [6, 10, 20]
    manager.save(30, tree(30))
    assert manager.steps() == [20, 30]


def test_damaged_files_do_not_push_out_sound_ones(tmp_path):
    manager = CheckpointManager(tmp_path, max_to_keep=2)
    manager.save(1, tree(1))
    for step in (2, 3, 4):
        (tmp_path / f"step_{step}.safetensors").write_bytes(b"half a file")
    manager.save(5, tree(5))
    assert manager.steps() == [1, 2, 3, 4, 5]
    manager.save(6, tree(6))
    assert manager.steps() == [5, 6]


@pytest.mark.parametrize(("mode", "best"), [("min", 4), ("max", 2)])
def test_the_best_is_never_rotated_away(tmp_path, mode, best):
    values = {1: 0.5, 2: 0.9, 3: 0.4, 4: 0.1, 5: 0.9, 6: 0.1, 7: math.nan, 8: 0.3}
    for step, value in values.items():
        manager = CheckpointManager(tmp_path, 2, keep_best=1, best_metric="score", mode=mode)
        manager.save(step, tree(step), metrics={"score": value})
    assert manager.best_step == best and manager.steps() == [best, 7, 8]
    assert_is(manager.restore("best"), best)
    assert manager.metrics()[8] == {"score": 0.3} and math.isnan(manager.metrics()[7]["score"])


def test_several_best_ones(tmp_path):
    manager = CheckpointManager(tmp_path, 1, keep_best=3, best_metric="loss")
    for step, loss in enumerate([5, 1, math.inf, 2, 0, 9, -math.inf, 8, 7]):
        manager.save(step, tree(step), metrics={"loss": loss})
    manager.save(9, tree(9))  # without the metric
    assert manager.steps() == [1, 4, 6, 9] and manager.best_step == 6 and manager.latest_step == 9
    manager = CheckpointManager(tmp_path, 1, keep_best=0, best_metric="loss")
    manager.save(10, tree(10))
    assert manager.steps() == [10] and manager.best_step is None


def test_metrics_are_read_without_reading_arrays(tmp_path, monkeypatch):
    manager = CheckpointManager(tmp_path, best_metric="loss")

    def fail(*args: Any) -> Any:
        raise AssertionError("an array was read")

    monkeypatch.setattr(SafetensorsReader, "array", fail)
    for step in range(5):
        manager.save(step, tree(step), metrics={"loss": step})
    assert manager.best_step == 0 and manager.steps() == [0, 2, 3, 4] and manager.metrics()[3] == {"loss": 3.0}


# ----------------------------------------------------------------------------------------------------------- fallback
def test_fallback_to_the_newest_sound_one(tmp_path):
    manager = CheckpointManager(tmp_path, best_metric="loss")
    paths = {step: manager.save(step, tree(step), metrics={"loss": -step}) for step in (1, 2, 3)}
    damage(paths[3])  # an array
    damage(paths[2], 100)  # the header
    for which in (None, "best"):
        with pytest.warns(DamagedCheckpointWarning) as caught:
            assert_is(manager.restore(which, tree(0)), 1)
        assert {path for path in paths.values() for w in caught if f"{path} is damaged" in str(w.message)} == {
            paths[2], paths[3],
        }  # fmt: skip
    with pytest.raises(DamagedCheckpointError, match="the checksums of"):
        manager.restore(3)
    assert manager.best_step == 3  # by its header
    damage(paths[1])
    for which in (None, "best"):
        with pytest.warns(DamagedCheckpointWarning), pytest.raises(DamagedCheckpointError, match="every checkpoint in"):
            manager.restore(which)


def test_a_checkpoint_that_does_not_fit_is_no_reason_to_go_back(tmp_path):
    manager = CheckpointManager(tmp_path)
    manager.save(1, {"w": jnp.ones(2)})
    manager.save(2, {"w": jnp.ones(3)})
    with pytest.raises(CheckpointMismatchError, match=r"w: float32\[3\] in the file, float32\[2\] expected"):
        manager.restore(like={"w": jnp.ones(2)})


def test_a_file_under_the_name_of_another_step_is_damage(tmp_path):
    manager = CheckpointManager(tmp_path)
    manager.save(1, tree(1))
    manager.save(2, tree(2)).rename(tmp_path / "step_00000003.safetensors")
    with pytest.raises(CheckpointError, match="its name says step 3, its content step 2"):
        manager.restore(3)
    with pytest.warns(DamagedCheckpointWarning):
        assert_is(manager.restore(), 1)


def test_files_of_save_checkpoint_can_be_restored(tmp_path):
    save_checkpoint(tmp_path / "step_4.safetensors", tree(4), {"mine": 1})
    restored = CheckpointManager(tmp_path).restore()
    assert_is(restored, 4)
    assert restored.metadata == {"mine": 1} and restored.metrics == {}


# ---------------------------------------------------------------------------------------------------- killed, at once
def in_processes(*functions: Callable[[], None]) -> list[int]:
    """Runs functions in processes of their own, at once. Returns exit codes."""
    assert fork is not None
    processes = [fork.Process(target=function, daemon=True) for function in functions]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def leave_litter(folder: Path, step: int) -> None:
    """What a writer leaves behind that was killed while it wrote."""

    def write() -> None:
        def chunks() -> Any:
            yield b"half a"
            os._exit(0)

        checkpoint_files.write_atomically(folder / f"step_{step:08d}.safetensors", chunks())

    assert in_processes(write) == [0]


@needs_fork
def test_litter_of_killed_writers_is_removed_by_the_next_manager(tmp_path, monkeypatch):
    CheckpointManager(tmp_path).save(1, tree(1))
    for step in (1, 2, 3):
        leave_litter(tmp_path, step)
    mine = tmp_path / ".mine.tmp"
    other = tmp_path / f".another.safetensors.{'0' * 16}.tmp"
    for path in (mine, other):
        path.write_bytes(b"x")
    assert len(names(tmp_path)) == 6
    CheckpointManager(tmp_path)  # this process is older than the litter
    assert len(names(tmp_path)) == 6
    monkeypatch.setattr(checkpoint_files, "_process_started", time.time() + 1)
    assert_is(CheckpointManager(tmp_path).restore(), 1)
    assert names(tmp_path) == [other.name, mine.name, "step_00000001.safetensors"]


def test_the_file_of_a_writer_that_lives_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_files, "_process_started", time.time() + 1000)

    def chunks() -> Any:
        yield b"half"
        CheckpointManager(tmp_path)  # another manager starts meanwhile
        assert len(names(tmp_path)) == 1
        yield b" and half"

    path = tmp_path / "step_00000001.safetensors"
    checkpoint_files.write_atomically(path, chunks()).close()
    assert path.read_bytes() == b"half and half" and names(tmp_path) == [path.name]


@needs_fork
def test_killed_at_any_moment(tmp_path):
    """Runs are killed at random moments; each goes on from where the last one's newest checkpoint is."""
    rng = np.random.default_rng(0)
    size = 30_000

    def run() -> None:
        manager = CheckpointManager(tmp_path, 2, best_metric="loss")
        step = 0
        if manager.latest_step is not None:
            restored = manager.restore(like=tree(0, size))
            step = restored.step
            assert_is(restored, step)
        while True:
            step += 1
            manager.save(step, tree(step, size), metrics={"loss": abs(step - 3)})

    assert fork is not None
    last = 0
    for _ in range(25):
        process = fork.Process(target=run, daemon=True)
        process.start()
        deadline = time.monotonic() + 30
        while not (tmp_path / f"step_{last + 1:08d}.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -9  # killed, and not failed before
        manager = CheckpointManager(tmp_path, 2, best_metric="loss")
        restored = manager.restore(like=tree(0, size))
        assert_is(restored, restored.step)
        assert restored.step > last and restored.metrics == {"loss": abs(restored.step - 3)}
        last = restored.step
        assert_is(manager.restore("best"), min(manager.steps(), key=lambda step: abs(step - 3)))

    def tidy_up() -> None:
        CheckpointManager(tmp_path, 2, best_metric="loss").save(last + 1, tree(last + 1), metrics={"loss": last - 2})

    assert in_processes(tidy_up) == [0]
    assert names(tmp_path) == [f"step_{step:08d}.safetensors" for step in (3, last, last + 1)]


@needs_fork
def test_two_runs_in_one_folder_keep_their_newest(tmp_path):
    assert fork is not None
    start, end = fork.Barrier(2), fork.Barrier(2)

    def run(first: int) -> Callable[[], None]:
        def save_all() -> None:
            manager = CheckpointManager(tmp_path, max_to_keep=1)
            start.wait(30)
            for step in range(first, first + 25):
                manager.save(step, tree(step))
                for _ in range(2):  # while the other one saves
                    assert_is(manager.restore(step, tree(0)), step)
            end.wait(30)
            assert_is(manager.restore(step), step)
            end.wait(30)  # the other one's newest is safe only as long as it lives

        return save_all

    assert in_processes(run(1), run(1000)) == [0, 0]
    assert CheckpointManager(tmp_path).steps() == [25, 1024]
    CheckpointManager(tmp_path, max_to_keep=1).save(2000, tree(2000))
    assert CheckpointManager(tmp_path).steps() == [2000]


@needs_fork
def test_one_of_many_saves_a_step(tmp_path):
    assert fork is not None
    start = fork.Barrier(4)

    def save(value: int) -> Callable[[], None]:
        def run() -> None:
            manager = CheckpointManager(tmp_path)
            start.wait(30)
            try:
                manager.save(5, tree(5), metadata={"by": value})
            except FileExistsError:
                os._exit(7)

        return run

    codes = in_processes(*map(save, range(4)))
    assert sorted(codes) == [0, 7, 7, 7]
    restored = CheckpointManager(tmp_path).restore()
    assert_is(restored, 5)
    assert restored.metadata == {"by": codes.index(0)} and len(names(tmp_path)) == 1


@needs_fork
def test_reading_while_another_process_rotates(tmp_path):
    assert fork is not None
    stop = fork.Event()
    CheckpointManager(tmp_path, 1).save(0, tree(0))

    def write() -> None:
        manager, step = CheckpointManager(tmp_path, 1), 0
        while not stop.is_set():
            step += 1
            manager.save(step, tree(step))

    process = fork.Process(target=write, daemon=True)
    process.start()
    last, manager = 0, CheckpointManager(tmp_path, 1)
    deadline = time.monotonic() + 30
    for _ in range(300):
        restored = manager.restore(like=tree(0))
        assert_is(restored, restored.step)
        assert restored.step >= last
        last = restored.step
    while last < 5 and time.monotonic() < deadline:
        last = manager.restore().step
    stop.set()
    process.join(30)
    assert process.exitcode == 0 and last >= 5


def test_a_manager_that_is_gone_holds_no_file(tmp_path):
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("needs /proc")
    gc.collect()
    before = open_files()
    for run in range(5):
        manager = CheckpointManager(tmp_path / str(run))
        for step in range(3):
            manager.save(step, tree(step))
        assert open_files() == before + 1
    del manager
    assert open_files() == before


def test_without_file_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_files, "fcntl", None)
    manager = CheckpointManager(tmp_path, 2)
    for step in range(4):
        manager.save(step, tree(step))
    assert_is(manager.restore(), 3)
    assert manager.steps() == [2, 3]
    with pytest.raises(FileExistsError):
        manager.save(3, tree(3))


def test_without_hard_links(tmp_path, monkeypatch):
    def fail(*args: Any) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    manager = CheckpointManager(tmp_path, 2)
    for step in range(3):
        manager.save(step, tree(step))
    assert manager.steps() == [1, 2] and len(names(tmp_path)) == 2
    with pytest.raises(FileExistsError, match="there is a file at"):
        checkpoint_files.write_atomically(manager.path(2), [b"x"], overwrite=False)
    assert_is(manager.restore(), 2)
    assert len(names(tmp_path)) == 2
