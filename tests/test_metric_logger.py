"""MetricLogger: directions, history, files that survive kills and resumes, TensorBoard's format."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import ConcretizationError, DTypeError, ShapeError
from nn_fn import metrics as M
from nn_fn.training import Best, MetricLogger, direction_of, tensorboard

ALL = ("jsonl", "csv", "tensorboard")
FILES = ("metrics.jsonl", "metrics.csv", "events.out.tfevents.metrics")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --------------------------------------------------------------------------------------------------------- directions


@pytest.mark.parametrize(
    ("direction", "names"),
    [
        ("max", "accuracy val_acc acc1 top5-acc test/AUC roc_auc f1 F1Score val_f1 precision recall r2 R2 explained_variance "
                "explainedVariance ndcg_at_5 mrr balanced_accuracy valAccuracy bleu4 mIoU/iou"),
        ("min", "loss val_loss valLoss train/loss error max_error mse rmse mae mape nll perplexity log_loss wer HTTPError loss2"),
        (None, "lr learning_rate iter2 accumulate time score neg_loss negative_log_accuracy accuracy_loss loss_recall norm glossary 5"),
    ],
)  # fmt: skip
def test_directions_follow_from_words_of_names(direction: str | None, names: str):
    assert {name: direction_of(name) for name in names.split()} == dict.fromkeys(names.split(), direction)


def test_every_metric_of_the_library_has_the_direction_of_its_name():
    two = [M.accuracy(), M.precision(), M.recall(), M.f1(), M.specificity(), M.roc_auc(), M.average_precision(), M.mse(),
           M.rmse(), M.mae(), M.mape(), M.mean_squared_log_error(), M.max_error(), M.r2(), M.explained_variance(), M.log_loss(),
           M.perplexity(), M.mrr(), M.ndcg(3), M.matthews_corrcoef(), M.cohen_kappa(), M.balanced_accuracy(3),
           M.top_k_accuracy(), M.binned_roc_auc()]  # fmt: skip
    for metric in two:
        assert direction_of(metric.name) == metric.better, metric


def test_directions_can_be_told_by_name_by_metric_and_by_collection():
    logger = MetricLogger(better={"score": "max", "odd": M.mse(), "accuracy": "min", "loss": None})
    assert [logger.direction(n) for n in ("score", "odd", "accuracy", "loss", "lr")] == [
        "max",
        "min",
        "min",
        None,
        None,
    ]
    nested = M.collection(a=M.f1(), b=M.collection(c=M.mse()), d=M.running_mean())
    logger = MetricLogger(better=nested)
    assert [logger.direction(n) for n in ("a", "b/c", "d")] == ["max", "min", None]
    assert MetricLogger(better=M.f1()).direction("f1") == "max"
    with pytest.raises(ValueError, match="'max', 'min' or None, got 'up'"):
        MetricLogger(better={"a": "up"})
    with pytest.raises(TypeError, match="dict"):
        MetricLogger(better="max")


# ------------------------------------------------------------------------------------------------------------- memory


def test_best_is_the_maximum_of_accuracies_and_the_minimum_of_losses():
    logger = MetricLogger()
    for step, (loss, accuracy) in enumerate([(3.0, 0.2), (1.0, 0.9), (2.0, 0.9), (math.nan, math.nan)]):
        logger.log(step, loss=loss, accuracy=accuracy)
        logger.end_epoch()
    assert logger.best("loss") == Best(1.0, 1, 1)
    assert logger.best("accuracy") == Best(0.9, 1, 1)
    assert math.isnan(logger.last("loss")) and logger.epoch == 4
    assert logger.history("loss")[:3] == [(0, 3.0), (1, 1.0), (2, 2.0)]
    assert (
        logger.mean("loss", epoch=2) == 2.0 and math.isnan(logger.mean("loss")) and math.isnan(logger.mean("loss", 9))
    )
    summary = logger.summary()
    assert summary["accuracy"].best == Best(0.9, 1, 1) and summary["accuracy"].number == 4
    assert logger.names == ["loss", "accuracy"]


def test_best_must_be_told_where_the_name_says_nothing():
    logger = MetricLogger()
    logger.log(0, score=1.0, loss=math.nan)
    with pytest.raises(ValueError, match=r"better=\{'score': 'max'\}"):
        logger.best("score")
    assert logger.summary()["score"].best is None
    with pytest.raises(ValueError, match="all values of 'loss' are nan"):
        logger.best("loss")
    with pytest.raises(KeyError, match=r"nothing was logged as 'los'.*'score', 'loss'"):
        logger.best("los")


def test_the_line_marks_the_best():
    logger = MetricLogger(better={"score": "max"})
    assert logger.format_line() == "nothing logged"
    logger.log(1, loss=0.5, lr=0.1)
    logger.log(1, score=3)
    assert logger.format_line() == "step 1 | epoch 0 | loss 0.5 * | lr 0.1 | score 3 *"
    logger.end_epoch()
    logger.log(2, loss=0.75, score=4)
    assert logger.format_line() == "step 2 | epoch 1 | loss 0.75 | score 4 *"
    logger.log(3, loss=0.5)
    assert logger.format_line() == "step 3 | epoch 1 | loss 0.5"  # as good as before is not better


def test_numbers_of_all_kinds_and_nested_dicts():
    logger = MetricLogger()
    logger.log_dict(
        jnp.asarray(3),
        {"a": np.float32(0.5), "b": jnp.asarray(2), "c": {"min": True, "max": 1e300}, "d": jnp.bfloat16(1.5)},
    )
    assert logger.rows == [{"step": 3, "epoch": 0, "a": 0.5, "b": 2, "c/min": 1, "c/max": 1e300, "d": 1.5}]
    assert [type(v) for v in logger.rows[0].values()] == [int, int, float, int, int, float, float]
    logger.log_dict(4, {})
    assert len(logger.rows) == 1
    logger.log_dict(5, {"huge": 1e308})
    logger.log_dict(5, {"huge": 1.7e308})
    assert logger.mean("huge") == pytest.approx(1.35e308)


@pytest.mark.parametrize(
    ("step", "values", "error", "message"),
    [
        (0, {"a": np.ones(2)}, ShapeError, r"a must be one number, got float64\[2\]"),
        (0, {"a": "1"}, TypeError, "must be a number"),
        (0, {"a": None}, TypeError, "must be a number"),
        (0, {"a": 1j}, DTypeError, "real number"),
        (0, {"step": 1}, ValueError, "every row"),
        (0, {"": 1}, ValueError, "printable"),
        (0, {"a\nb": 1}, ValueError, "printable"),
        (0.5, {"a": 1}, TypeError, "step must be an integer"),
        (-1, {"a": 1}, ValueError, "from 0"),
    ],
)
def test_what_is_not_a_number_or_a_step_raises_and_leaves_no_trace(step, values, error, message, tmp_path):
    logger = MetricLogger(tmp_path)
    with pytest.raises(error, match=message):
        logger.log_dict(step, values)
    assert logger.rows == [] and contents(tmp_path) == {}


def test_traced_values_and_steps_that_go_back_raise():
    logger = MetricLogger()
    with pytest.raises(ConcretizationError):
        asgfn.jit(lambda x: logger.log(0, x=x))(1.0)
    logger.log(5, x=1)
    with pytest.raises(ValueError, match=r"step 4 comes after step 5.*rewind\(4\)"):
        logger.log(4, x=1)


# -------------------------------------------------------------------------------------------------------------- files


def run(logger: MetricLogger, steps: range) -> None:
    """A run whose names change on the way, with values that JSON and CSV have no numbers for."""
    for step in steps:
        logger.log(step, loss=1 / (step + 1), lr=np.float32(0.1))
        if step % 3 == 2:
            logger.log(step, accuracy=step / 10, big=math.inf if step == 5 else math.nan)
        if step == 7:
            logger.log_dict(step, {'odd, "name"; ü': -math.inf})
        if step % 4 == 3:
            logger.end_epoch()


def test_files_hold_what_was_logged(tmp_path):
    logger = MetricLogger(tmp_path, formats=ALL)
    run(logger, range(9))
    assert sorted(contents(tmp_path)) == sorted(FILES)
    lines = [
        json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / FILES[0]).read_text("utf8").splitlines()
    ]
    assert [line["step"] for line in lines] == [row["step"] for row in logger.rows]
    assert lines[3]["accuracy"] == 0.2 and lines[3]["big"] == "NaN" and lines[7]["big"] == "Infinity"
    assert lines[0]["lr"] == float(np.float32(0.1))
    table = list(csv.DictReader(io.StringIO((tmp_path / FILES[1]).read_text("utf8"))))
    assert list(table[0]) == ["step", "epoch", "loss", "lr", "accuracy", "big", 'odd, "name"; ü']
    assert table[0]["accuracy"] == "" and float(table[3]["accuracy"]) == 0.2 and table[10]['odd, "name"; ü'] == "-inf"
    assert [int(row["epoch"]) for row in table] == [row["epoch"] for row in logger.rows]


def test_a_new_process_reads_the_same_history_from_either_file(tmp_path):
    logger = MetricLogger(tmp_path, formats=ALL)
    run(logger, range(9))
    before = contents(tmp_path)
    again = MetricLogger(tmp_path, formats=ALL)
    assert repr(again.rows) == repr(logger.rows)  # nan != nan, but their texts are equal
    assert contents(tmp_path) == before
    for lost in FILES:
        (tmp_path / lost).unlink()
        assert repr(MetricLogger(tmp_path, formats=ALL).rows) == repr(logger.rows)
        assert contents(tmp_path).keys() == before.keys()


def straight(folder: Path, steps: int) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    run(MetricLogger(folder, formats=ALL), range(steps))
    return contents(folder)


def test_files_cut_anywhere_continue_to_the_same_bytes(tmp_path):
    whole = straight(tmp_path / "whole", 9)
    sizes = {name: len(data) for name, data in whole.items()}
    r = np.random.RandomState(0)
    for trial in range(60):
        folder = tmp_path / str(trial)
        folder.mkdir()
        for name, data in whole.items():
            (folder / name).write_bytes(data[: r.randint(0, sizes[name] + 1)])
        if trial % 3 == 0:
            (folder / FILES[0]).unlink()
        logger = MetricLogger(folder, formats=ALL)
        kept = len(logger.rows)
        assert repr(logger.rows) == repr(MetricLogger(tmp_path / "whole", formats=ALL).rows[:kept])
        step = logger.rows[-1]["step"] if logger.rows else 0
        logger.rewind(step - 1) if step else logger.load_state_dict({"version": 1, "epoch": 0, "rows": []})
        logger.epoch = step // 4
        run(logger, range(step, 9))
        found = contents(folder)
        assert found[FILES[1]] == whole[FILES[1]] and found[FILES[2]] == whole[FILES[2]]
        if trial % 3:
            assert found[FILES[0]] == whole[FILES[0]]


def test_a_resumed_run_has_the_files_and_history_of_one_that_was_not_interrupted(tmp_path):
    expected = straight(tmp_path / "whole", 12)
    for saved_at in (0, 1, 5, 8, 11):
        folder = tmp_path / f"from {saved_at}"
        logger = MetricLogger(folder, formats=ALL)
        run(logger, range(saved_at))
        state = json.loads(json.dumps(logger.state_dict()))  # plain data
        run(logger, range(saved_at, min(saved_at + 3, 12)))  # lost in the kill
        resumed = MetricLogger(folder, formats=ALL)
        resumed.load_state_dict(state)
        assert resumed.epoch == saved_at // 4
        run(resumed, range(saved_at, 12))
        assert contents(folder) == expected
        memory = MetricLogger()
        memory.load_state_dict(state)
        run(memory, range(saved_at, 12))
        assert repr(memory.rows) == repr(resumed.rows) and memory.best("loss") == resumed.best("loss")
        assert repr(memory.summary()) == repr(resumed.summary())


def test_rewind_drops_rows_from_files_too_and_best_with_them(tmp_path):
    logger = MetricLogger(tmp_path, formats=ALL)
    for step in range(6):
        logger.log(step, loss=10.0 - step)
        logger.end_epoch()
    logger.rewind(3)
    assert logger.best("loss") == Best(7.0, 3, 3) and logger.epoch == 3
    assert MetricLogger(tmp_path, formats=ALL).rows == logger.rows and len(logger.rows) == 4
    logger.rewind(3, epoch=4)
    assert logger.epoch == 4
    logger.rewind(0)
    logger.load_state_dict(MetricLogger().state_dict())
    assert logger.rows == [] and logger.names == [] and MetricLogger(tmp_path).rows == []


def test_a_state_is_a_copy_and_wrong_states_raise():
    logger = MetricLogger()
    logger.log(0, a=1)
    state = logger.state_dict()
    logger.log(1, a=2)
    state["rows"][0]["a"] = 7
    assert logger.rows[0]["a"] == 1
    for wrong in (
        {},
        {"version": 1, "epoch": 0},
        {"version": 2, "epoch": 0, "rows": []},
        {"version": 1, "epoch": None, "rows": []},
    ):
        with pytest.raises(ValueError, match="MetricLogger"):
            logger.load_state_dict(wrong)


@pytest.mark.parametrize(
    "tail", [b'{"step": 3, "ep', b"\x00\x00\x00\x00\n", b'{"step": 3}\n', b'\xff"\n', b'["step"]\n']
)
def test_a_last_line_that_is_not_whole_is_dropped(tmp_path, tail):
    logger = MetricLogger(tmp_path, formats=("jsonl",))
    logger.log(1, a=1)
    logger.log(2, a=2)
    whole = contents(tmp_path)
    path = tmp_path / FILES[0]
    path.write_bytes(path.read_bytes() + tail)
    assert MetricLogger(tmp_path, formats=("jsonl",)).rows == logger.rows
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("tail", [b"3,0,0.", b"3\n", b"\x00\x00\n", b"3,0,x\n", b'3,"0'])
def test_a_last_line_of_csv_that_is_not_whole_is_dropped(tmp_path, tail):
    logger = MetricLogger(tmp_path, formats=("csv",))
    logger.log(1, a=1)
    logger.log(2, a=0.25)
    whole = contents(tmp_path)
    path = tmp_path / FILES[1]
    path.write_bytes(path.read_bytes() + tail)
    assert MetricLogger(tmp_path, formats=("csv",)).rows == logger.rows
    assert contents(tmp_path) == whole


def test_damage_elsewhere_raises_and_changes_nothing(tmp_path):
    logger = MetricLogger(tmp_path)
    for step in range(3):
        logger.log(step, a=step)
    for name in FILES[:2]:
        path = tmp_path / name
        good = path.read_bytes()
        lines = good.splitlines(keepends=True)
        lines[1] = b"garbage\n"
        path.write_bytes(b"".join(lines))
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=rf"{name}, line 2, is damaged"):
            MetricLogger(tmp_path)
        assert contents(tmp_path) == before
        path.write_bytes(good)
    (tmp_path / FILES[1]).write_text("name,age\nx,3\n")
    with pytest.raises(ValueError, match="not a MetricLogger's file"):
        MetricLogger(tmp_path)


def test_a_killed_process_leaves_whole_rows(tmp_path):
    program = (
        "import sys\nfrom nn_fn.training import MetricLogger\n"
        "logger = MetricLogger(sys.argv[1], formats=('jsonl', 'csv', 'tensorboard'))\n"
        "step = logger.rows[-1]['step'] + 1 if logger.rows else 0\n"
        "while True:\n    logger.log(step, loss=1 / (step + 1), **{f'name{step // 50}': step})\n    step += 1\n"
    )
    for _ in range(2):
        size = sum(map(len, contents(tmp_path).values()))
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
        deadline = time.monotonic() + 60
        while sum(map(len, contents(tmp_path).values())) < size + 20_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    logger = MetricLogger(tmp_path, formats=ALL)
    assert len(logger.rows) > 100
    assert [row["step"] for row in logger.rows] == list(range(len(logger.rows)))
    for step, row in enumerate(logger.rows):
        assert row["loss"] == 1 / (step + 1) and row[f"name{step // 50}"] == step
    events = read_events((tmp_path / FILES[2]).read_bytes())
    assert len(events) == len(logger.rows) + 1
    assert sorted(path for path in contents(tmp_path) if not path.endswith(".tmp")) == sorted(FILES)


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    from nn_fn.training import log_files

    logger = MetricLogger(tmp_path)
    logger.log(0, a=1)
    before = contents(tmp_path)

    class Full:
        """A file on a disk with room for three bytes."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            return self.file.write(data[:3])

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(log_files, "open", lambda *a, **k: Full(open(*a, **k)), raising=False)
    with pytest.raises(OSError, match="3 of"):
        logger.log(1, a=2)
    assert contents(tmp_path) == before


def test_wall_times_are_there_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1700000000.25)
    logger = MetricLogger(tmp_path, formats=ALL, wall_time=True)
    logger.log(1, a=2)
    assert (tmp_path / FILES[1]).read_text() == "step,epoch,time,a\n1,0,1700000000.25,2\n"
    assert read_events((tmp_path / FILES[2]).read_bytes())[1]["wall_time"] == 1700000000.25
    assert MetricLogger(tmp_path, formats=ALL).rows == logger.rows
    assert logger.names == ["a"]


def test_formats_are_checked(tmp_path):
    for formats in ("csv", ("tensorboard",), ("xml", "csv"), ()):
        with pytest.raises(ValueError, match="formats must be some of"):
            MetricLogger(tmp_path, formats=formats)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.floats() | st.integers(-(2**63), 2**63 - 1), max_size=4),
        max_size=8,
    )
)
def test_any_rows_come_back_from_both_files(tmp_path_factory, rows):
    for formats in (("jsonl",), ("csv",)):
        folder = tmp_path_factory.mktemp("rows")
        logger = MetricLogger(folder, formats=formats)
        for step, row in enumerate(rows):
            logger.log_dict(step, row)
        again = MetricLogger(folder, formats=formats)
        assert [sorted(row.items(), key=str) for row in again.rows].__repr__() == [
            sorted(row.items(), key=str) for row in logger.rows
        ].__repr__()


# -------------------------------------------------------------------------------------------------------- TensorBoard


def crc32c_by_division(data: bytes) -> int:
    """The remainder of a polynomial division, bit by bit: another way than the module's table."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            crc ^= (byte >> bit) & 1
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def unmask(masked: int) -> int:
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def read_message(data: bytes) -> list[tuple[int, object]]:
    """(field number, value) of a message of protocol buffers."""
    fields, at = [], 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        field, kind = divmod(varint(), 8)
        if kind == 0:
            value: object = varint()
        elif kind == 1:
            (value,) = struct.unpack_from("<d", data, at)
            at += 8
        elif kind == 2:
            length = varint()
            value = data[at : at + length]
            at += length
        else:
            assert kind == 5
            (value,) = struct.unpack_from("<f", data, at)
            at += 4
        fields.append((field, value))
    assert at == len(data)
    return fields


def read_events(data: bytes) -> list[dict]:
    events, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        assert unmask(struct.unpack_from("<I", data, at + 8)[0]) == crc32c_by_division(data[at : at + 8])
        body = data[at + 12 : at + 12 + length]
        assert unmask(struct.unpack_from("<I", data, at + 12 + length)[0]) == crc32c_by_division(body)
        at += 16 + length
        event: dict = {"values": {}}
        for field, value in read_message(body):
            if field == 5:
                for _, one in read_message(value):
                    parts = dict(read_message(one))
                    event["values"][parts[1].decode()] = parts[2]
            else:
                event[{1: "wall_time", 2: "step", 3: "version"}[field]] = value
        events.append(event)
    return events


def test_crc32c_of_known_data():
    # RFC 3720, B.4, and the check value of the usual catalogues
    assert tensorboard.crc32c(b"123456789") == 0xE3069283
    assert tensorboard.crc32c(bytes(32)) == 0x8A9136AA
    assert tensorboard.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert tensorboard.crc32c(bytes(range(32))) == 0x46DD794E
    assert tensorboard.crc32c(b"") == 0


def test_event_files_read_back_by_an_independent_parser(tmp_path):
    logger = MetricLogger(tmp_path, formats=ALL)
    run(logger, range(9))
    logger.log(2**40, loss=1e300, small=1e-300)
    first, *events = read_events((tmp_path / FILES[2]).read_bytes())
    assert first == {"values": {}, "wall_time": 0.0, "version": b"brain.Event:2"}
    assert len(events) == len(logger.rows)
    for event, row in zip(events, logger.rows):
        assert event["step"] == row["step"] and event["wall_time"] == 0.0
        with np.errstate(over="ignore"):
            expected = {k: float(np.float32(v)) for k, v in row.items() if k not in ("step", "epoch")}
        assert repr(event["values"]) == repr(expected)
