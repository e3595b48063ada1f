"""The command line that the training examples share."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from nn_fn import CheckpointManager, MetricLogger


def parser(description: str, out: str, epochs: int, batch_size: int) -> argparse.ArgumentParser:
    """A parser with the options of a training run."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--epochs", type=int, default=epochs)
    made.add_argument("--batch-size", type=int, default=batch_size)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--backend", help="where to compute: a name of asgfn.available_backends()")
    made.add_argument("--out", type=Path, default=Path(out), help="folder for checkpoints, logs and plots")
    made.add_argument("--resume", action="store_true", help="go on from the last checkpoint in that folder")
    return made


def run_folder(options: argparse.Namespace, **manager: object) -> tuple[MetricLogger, CheckpointManager]:
    """The logger and the checkpoints of a run, in its folder; without --resume what an earlier run left there goes."""
    if not options.resume:
        for name in ("log", "checkpoints"):
            shutil.rmtree(options.out / name, ignore_errors=True)
    return MetricLogger(options.out / "log"), CheckpointManager(options.out / "checkpoints", **manager)
