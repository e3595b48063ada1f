"""`fit`: a training loop over a pure step. Everything that it does is there as a part, for loops of your own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import asgfn
from asgfn import tree
from nn_fn.checkpoints import CheckpointManager
from nn_fn.data import DataLoader
from nn_fn.training.early_stopping import EarlyStopping
from nn_fn.training.metric_logger import MetricLogger
from nn_fn.training.steps import TrainState

Step = Callable[[TrainState, Any], tuple[TrainState, Mapping[str, Any]]]
Evaluate = Callable[[Any, Any], Mapping[str, Any]]


class FitResult(NamedTuple):
    """What came of a run.

    Attributes:
        state: the last state; with early stopping, its parameters and model state are the best ones.
        logger: everything that was logged.
        stopped_early: whether early stopping ended the run.
        resumed_from: the step of the checkpoint from which the run went on, or None.
    """

    state: TrainState
    logger: MetricLogger
    stopped_early: bool
    resumed_from: int | None


def fit(
    step: Step,
    state: TrainState,
    loader: DataLoader,
    *,
    epochs: int,
    evaluate: Evaluate | None = None,
    logger: MetricLogger | None = None,
    log_every: int = 50,
    checkpoints: CheckpointManager | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    early_stopping: EarlyStopping | None = None,
    plot: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> FitResult:
    """Trains for some epochs.

    Killed at any moment and called again with the same arguments, it goes on from its last checkpoint and gives the
    same numbers, bit by bit, as a run that was never killed: a checkpoint holds the whole state, the place in the data,
    and what was logged.

    Arguments:
        step: see `train_step`.
        state: the state to start from (a copy is made).
        loader: the training batches. It runs from the epoch and batch where it is to the end of epoch `epochs`.
        evaluate: see `evaluator`; called after each epoch, its results are logged as "val_NAME".
        logger: where values go; by default one that only remembers them.
        log_every: the mean of so many steps' values is a row ("loss", ...). Values are read from the device only then.
        checkpoints: where the state is saved, at the end of each epoch and after every `checkpoint_every` steps, with
            the last evaluation as the checkpoint's metrics.
        resume: go on from the newest sound checkpoint, if there is one.
        early_stopping: ends the run when its metric (a name such as "val_loss") no longer gets better.
        plot: a file (PNG, SVG or PDF) for a picture of the losses, drawn after each epoch.
        progress: show a progress bar; None: if standard error is a terminal.

    Raises:
        ValueError: early stopping watches something that `evaluate` does not give.
    """
    run = _Run(step, tree.map(_copied, state), loader, logger or MetricLogger(), checkpoints, early_stopping)
    resumed_from = run.resume() if resume else None
    while loader.epoch < epochs and not run.should_stop:
        with _progress_bar(loader, epochs, progress) as bar:
            for batch in loader:
                run.advance(batch)
                bar.update()
                if run.count % log_every == 0:
                    bar.set_postfix(run.flush())
                if checkpoint_every and run.count % checkpoint_every == 0 and loader.batch < len(loader):
                    run.save()
        run.flush()
        run.end_epoch(evaluate)
        run.save()
        if plot is not None:
            plot_losses(run.logger, plot)
    return FitResult(run.best_state(), run.logger, run.should_stop, resumed_from)


class _Run:
    """A run: what changes while it goes on."""

    def __init__(
        self,
        step: Step,
        state: TrainState,
        loader: DataLoader,
        logger: MetricLogger,
        checkpoints: CheckpointManager | None,
        early_stopping: EarlyStopping | None,
    ):
        self.step, self.state, self.loader, self.logger = step, state, loader, logger
        self.checkpoints, self.early_stopping = checkpoints, early_stopping
        self.count = int(state.step)
        self.pending: list[Mapping[str, Any]] = []  # values of steps that are not logged yet
        self.scores: dict[str, float] = {}  # of the last evaluation
        self.stopping: Any = None  # the state of early stopping
        if early_stopping is not None:
            self.stopping = early_stopping.init((state.params, state.model_state))

    @property
    def should_stop(self) -> bool:
        return self.early_stopping is not None and bool(self.early_stopping.should_stop(self.stopping))

    def advance(self, batch: Any) -> None:
        """Makes a step."""
        self.state, values = self.step(self.state, batch)
        self.pending.append(values)
        self.count += 1

    def flush(self) -> dict[str, float]:
        """Logs the mean values of the steps since the last time."""
        if not self.pending:
            return {}
        means = {name: float(np.mean([float(v[name]) for v in self.pending])) for name in self.pending[0]}
        self.pending = []
        self.logger.log_dict(self.count, means)
        return means

    def end_epoch(self, evaluate: Evaluate | None) -> None:
        """Evaluates, and tells the logger and early stopping."""
        if evaluate is not None:
            found = evaluate(self.state.params, self.state.model_state)
            self.scores = {f"val_{name}": float(value) for name, value in found.items()}
            self.logger.log_dict(self.count, self.scores)
        if self.early_stopping is not None:
            name = self.early_stopping.name
            if name not in self.scores:
                known = ", ".join(self.scores) or "nothing: pass evaluate="
                raise ValueError(f"fit: early stopping watches {name!r}, but the evaluation gives {known}")
            best = self.state.params, self.state.model_state
            self.stopping = self.early_stopping.update(self.stopping, self.scores[name], best, step=self.count)
        self.logger.end_epoch()

    def save(self) -> None:
        """Saves everything that `resume` needs."""
        if self.checkpoints is None:
            return
        self.flush()
        notes = {"loader": self.loader.state_dict(), "logger": self.logger.state_dict(), "scores": self.scores}
        content = {"train": self.state, "early_stopping": self.stopping}
        self.checkpoints.save(self.count, content, metrics=self.scores, metadata=notes, overwrite=True)

    def resume(self) -> int | None:
        """Goes to the newest sound checkpoint. Returns its step, or None if there is no checkpoint."""
        if self.checkpoints is None or self.checkpoints.latest_step is None:
            return None
        found = self.checkpoints.restore(like={"train": self.state, "early_stopping": self.stopping})
        self.state, self.stopping = found.tree["train"], found.tree["early_stopping"]
        self.count, self.scores = found.step, dict(found.metadata["scores"])
        self.loader.load_state_dict(found.metadata["loader"])
        self.logger.load_state_dict(found.metadata["logger"])
        return found.step

    def best_state(self) -> TrainState:
        """The state, with the best parameters if they were looked for."""
        if self.stopping is None or int(self.stopping.best_step) < 0:
            return self.state
        params, model_state = self.stopping.best_params
        return self.state._replace(params=params, model_state=model_state)


def plot_losses(logger: MetricLogger, path: str | os.PathLike) -> None:
    """Draws what a logger has under "loss" and names that end in "_loss" (nothing if there is no such thing)."""
    names = [name for name in logger.names if name == "loss" or name.endswith("_loss")]
    curves = {name: tuple(map(np.asarray, zip(*logger.history(name), strict=True))) for name in names}
    if curves:
        asgfn.plot.losses(curves, path=path, title="Training")


def _copied(leaf: Any) -> Any:
    """A copy of an array: the first step may be given the original's memory."""
    return asgfn.numpy.copy(leaf) if isinstance(leaf, (asgfn.Array, np.ndarray)) else leaf


def _progress_bar(loader: DataLoader, epochs: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=len(loader),
        initial=loader.batch,
        desc=f"epoch {loader.epoch + 1}/{epochs}",
        disable=None if progress is None else not progress,
        leave=False,
    )
