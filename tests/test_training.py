"""Steps, evaluation and `fit`: numbers, resuming after a kill, early stopping, mixed precision, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import random, tree
from nn_fn import CheckpointManager, EarlyStopping, MetricLogger, metrics
from nn_fn import functional as F
from nn_fn.data import ArrayDataset, DataLoader
from nn_fn.precision import DynamicLossScale, policy

ROOT = Path(__file__).resolve().parent.parent
DRAWS = np.random.RandomState(0)
X = DRAWS.standard_normal((96, 5)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int32)


def network() -> nn_fn.Layer:
    """With everything that has state: batch statistics, random keys."""
    return nn_fn.sequential(
        nn_fn.linear(5, 16), nn_fn.batch_norm(16), nn_fn.activation("tanh"), nn_fn.dropout(0.1), nn_fn.linear(16, 2)
    )


MODEL = network()
OPTIMISER = nn_fn.adam(1e-2)
STEP = nn_fn.train_step(nn_fn.supervised(MODEL, F.cross_entropy), OPTIMISER)
SCORES = metrics.collection(loss=metrics.log_loss(from_logits=True), accuracy=metrics.accuracy())
EVALUATE = nn_fn.evaluator(MODEL, SCORES, DataLoader(ArrayDataset(X, Y), 40))


def batches(**options) -> DataLoader:
    return DataLoader(ArrayDataset(X, Y), 16, shuffle=True, seed=3, **options)


def start(**options) -> nn_fn.TrainState:
    return nn_fn.init_train_state(MODEL, OPTIMISER, random.key(1), **options)


def assert_same_state(a, b):
    for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True):
        x, y = (random.key_data(v) if isinstance(v, random.PRNGKeyArray) else v for v in (x, y))
        np.testing.assert_array_equal(x, y)


# -------------------------------------------------------------------------------------------------------------- steps


def test_a_step_is_loss_gradient_and_update():
    model, optimiser = nn_fn.linear(5, 2), nn_fn.sgd(0.1)
    step = nn_fn.train_step(
        nn_fn.supervised(model, F.cross_entropy, {"double": lambda p, t: 2.0}), optimiser, jit=False
    )
    state = nn_fn.init_train_state(model, optimiser, random.key(0))
    new, values = step(state, (X, Y))
    loss, grads = asgfn.value_and_grad(lambda p: F.cross_entropy(model(p, X), Y))(state.params)
    expected = tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
    tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), new.params, expected)
    np.testing.assert_allclose(values["loss"], loss, rtol=1e-6)
    assert values["double"] == 2.0 and int(new.step) == 1 and int(state.step) == 0


def test_each_step_has_its_own_randomness():
    model = nn_fn.sequential(nn_fn.dropout(0.5), nn_fn.linear(5, 1))
    seen = []

    def loss_fn(params, model_state, batch, key):
        y, model_state = model(params, model_state, batch, key=key, train=True)
        return jnp.mean(y), (model_state, {"sum": jnp.sum(y)})

    optimiser = nn_fn.sgd(0.0)
    step = nn_fn.train_step(loss_fn, optimiser)
    state = nn_fn.init_train_state(model, optimiser, random.key(0))
    for _ in range(3):
        state, values = step(state, X)
        seen.append(float(values["sum"]))
    assert len(set(seen)) == 3


def test_the_optimiser_gets_the_loss():
    got = []
    spy = nn_fn.GradientTransformation(
        lambda params: (),
        lambda g, s, params=None, *, value=None: (got.append(value) or tree.map(jnp.zeros_like, g), s),
    )
    step = nn_fn.train_step(nn_fn.supervised(MODEL, F.cross_entropy), spy, jit=False)
    _, values = step(nn_fn.init_train_state(MODEL, spy, random.key(0)), (X, Y))
    np.testing.assert_array_equal(got[0], values["loss"])


def test_mixed_precision_computes_in_float16_and_skips_what_overflows():
    seen = []

    def loss(prediction, target):
        seen.append(prediction.dtype)
        return F.cross_entropy(prediction, target)

    step = nn_fn.train_step(
        nn_fn.supervised(MODEL, loss), OPTIMISER, policy=policy("params=float32,compute=float16,output=float32")
    )
    state = start(loss_scale=DynamicLossScale(2.0**10))
    before = tree.map(np.array, state.params)
    state, values = step(state, (X, Y))
    assert seen[0] == jnp.float16 and values["loss"].dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in tree.leaves((state.params, state.opt_state[0].mu)))
    assert any((a != b).any() for a, b in zip(tree.leaves(before), tree.leaves(tree.map(np.array, state.params))))
    before = tree.map(np.array, (state.params, state.model_state, state.opt_state))
    overflowing = X.copy()
    overflowing[0, 0] = 1e30  # infinite in float16
    state, _ = step(state, (overflowing, Y))
    assert float(state.loss_scale.loss_scale) == 2.0**9 and int(state.step) == 2
    assert_same_state(before, (state.params, state.model_state, state.opt_state))


# --------------------------------------------------------------------------------------------------------- evaluation


def test_evaluation_over_batches_is_that_of_all_data():
    state = start()
    found = EVALUATE(state.params, state.model_state)
    prediction, _ = MODEL(state.params, state.model_state, X)
    np.testing.assert_allclose(found["loss"], F.cross_entropy(prediction, Y), rtol=1e-6)
    assert float(found["accuracy"]) == np.mean(np.argmax(prediction, axis=1) == Y)


# ---------------------------------------------------------------------------------------------------------------- fit


def test_fit_trains_logs_and_leaves_the_given_state_alone(tmp_path):
    state = start()
    before = tree.map(np.array, state.params)
    result = nn_fn.fit(
        STEP, state, batches(), epochs=30, evaluate=EVALUATE, log_every=4, plot=tmp_path / "loss.png", progress=False
    )
    assert result.resumed_from is None and not result.stopped_early
    assert int(result.state.step) == 180 and result.logger.epoch == 30
    assert result.logger.last("val_accuracy") > 0.8
    # rows of "loss": the mean of 4 steps, then of the 2 that are left of an epoch of 6
    assert [step for step, _ in result.logger.history("loss")][:4] == [4, 6, 8, 12]
    assert [step for step, _ in result.logger.history("val_loss")][:2] == [6, 12]
    assert_same_state(state.params, before)
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_fit_is_the_loop_that_one_would_write():
    result = nn_fn.fit(STEP, start(), batches(), epochs=2, progress=False)
    state, loader = tree.map(lambda a: a, start()), batches()
    for _ in range(2):
        for batch in loader:
            state, _ = STEP(state, batch)
    assert_same_state(result.state, state)


@pytest.mark.parametrize("killed_at", [1, 6, 9, 13])
def test_a_run_that_is_stopped_anywhere_goes_on_with_the_same_numbers(tmp_path, killed_at):
    def run(folder: Path, step):
        return nn_fn.fit(
            step,
            start(),
            batches(),
            epochs=3,
            evaluate=EVALUATE,
            logger=MetricLogger(folder / "log"),
            log_every=3,
            checkpoints=CheckpointManager(folder / "checkpoints"),
            checkpoint_every=4,
            early_stopping=EarlyStopping("val_loss", patience=5),
            progress=False,
        )

    whole = run(tmp_path / "whole", STEP)
    count = 0

    def dying(state, batch):
        nonlocal count
        count += 1
        if count == killed_at:
            raise KeyboardInterrupt
        return STEP(state, batch)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", dying)
    resumed = run(tmp_path / "parts", STEP)
    assert resumed.resumed_from == (None if killed_at <= 4 else max(s for s in (4, 6, 8, 12) if s < killed_at))
    assert_same_state(whole.state, resumed.state)
    assert whole.logger.rows == resumed.logger.rows
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (tmp_path / "whole/log" / name).read_bytes() == (tmp_path / "parts/log" / name).read_bytes()
    again = run(tmp_path / "parts", STEP)  # nothing is left to do
    assert again.resumed_from == 18
    assert_same_state(whole.state, again.state)


def test_a_damaged_checkpoint_costs_no_more_than_its_steps(tmp_path):
    def run():
        manager = CheckpointManager(tmp_path / "checkpoints")
        return nn_fn.fit(STEP, start(), batches(), epochs=3, checkpoints=manager, progress=False)

    whole = run()
    newest = tmp_path / "checkpoints/step_00000018.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match="step_00000018"):
        again = run()
    assert again.resumed_from == 12
    assert_same_state(whole.state, again.state)


def test_killing_an_example_and_resuming_gives_the_same_bytes(tmp_path):
    """A real process and a real SIGKILL, at a moment that nobody chose."""
    command = [
        sys.executable, "-m", "examples.char_gpt", "--epochs", "3", "--steps-per-epoch", "40", "--context", "16",
        "--features", "16", "--heads", "2", "--blocks", "1", "--batch-size", "8", "--length", "20", "--resume",
    ]  # fmt: skip
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and saw a rat. " * 100)
    environment = {**os.environ, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}

    def run(name: str, kill: bool) -> None:
        arguments = [*command, "--text", str(text), "--out", str(tmp_path / name)]
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        if not kill:
            assert process.wait(timeout=120) == 0
            return
        checkpoints = tmp_path / name / "checkpoints"
        while process.poll() is None and not list(checkpoints.glob("step_*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) != 0

    run("whole", kill=False)
    run("parts", kill=True)
    run("parts", kill=False)
    last = "checkpoints/step_00000120.safetensors"
    for name in ("log/metrics.jsonl", last):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_early_stopping_ends_the_run_and_gives_the_best_parameters():
    scores = iter([0.5, 0.3, 0.4, 0.6, 0.1])
    seen = []

    def evaluate(params, model_state):
        seen.append(tree.map(np.array, (params, model_state)))
        return {"loss": next(scores)}

    result = nn_fn.fit(
        STEP, start(), batches(), epochs=10, evaluate=evaluate, early_stopping=EarlyStopping("val_loss", patience=2),
        progress=False,
    )  # fmt: skip
    assert result.stopped_early and len(seen) == 4
    assert_same_state((result.state.params, result.state.model_state), seen[1])


def test_early_stopping_of_something_that_is_not_evaluated():
    stopper = EarlyStopping("val_error", mode="min")
    with pytest.raises(ValueError, match="watches 'val_error', but the evaluation gives val_loss, val_accuracy"):
        nn_fn.fit(STEP, start(), batches(), epochs=1, evaluate=EVALUATE, early_stopping=stopper, progress=False)
    with pytest.raises(ValueError, match="gives nothing: pass evaluate="):
        nn_fn.fit(STEP, start(), batches(), epochs=1, early_stopping=stopper, progress=False)


def test_the_best_checkpoint_is_that_of_the_best_score(tmp_path):
    scores = iter([0.5, 0.1, 0.4, 0.6])
    manager = CheckpointManager(tmp_path, max_to_keep=1, best_metric="val_loss")
    nn_fn.fit(
        STEP, start(), batches(), epochs=4, evaluate=lambda p, s: {"loss": next(scores)}, checkpoints=manager,
        progress=False,
    )  # fmt: skip
    assert manager.steps() == [12, 24] and manager.best_step == 12


def test_the_progress_bar_shows(capsys):
    nn_fn.fit(STEP, start(), batches(), epochs=1, log_every=2, progress=True)
    assert "epoch 1/1" in capsys.readouterr().err
