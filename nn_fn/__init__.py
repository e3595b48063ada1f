"""What people build with asgfn: layers, losses, optimisers, schedules, metrics, data, checkpoints, a training loop.

Everything is a pure function over pytrees, or an immutable record of such functions. Layers and what a training script
needs most are names of this package; the rest is in its modules:

    functional, initializers, layers, optimisers, schedules, precision, metrics, data, checkpoints, training
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nn_fn import checkpoints as checkpoints
    from nn_fn import data as data
    from nn_fn import functional as functional
    from nn_fn import initializers as initializers
    from nn_fn import metrics as metrics
    from nn_fn import optimisers as optimisers
    from nn_fn import precision as precision
    from nn_fn import schedules as schedules
    from nn_fn import training as training
    from nn_fn.checkpoints import CheckpointManager as CheckpointManager
    from nn_fn.checkpoints import load_checkpoint as load_checkpoint
    from nn_fn.checkpoints import save_checkpoint as save_checkpoint
    from nn_fn.layers import *  # noqa: F403
    from nn_fn.optimisers import GradientTransformation as GradientTransformation
    from nn_fn.optimisers import adam as adam
    from nn_fn.optimisers import adamw as adamw
    from nn_fn.optimisers import apply_updates as apply_updates
    from nn_fn.optimisers import chain as chain
    from nn_fn.optimisers import sgd as sgd
    from nn_fn.training import EarlyStopping as EarlyStopping
    from nn_fn.training import MetricLogger as MetricLogger
    from nn_fn.training import TrainState as TrainState
    from nn_fn.training import evaluator as evaluator
    from nn_fn.training import fit as fit
    from nn_fn.training import init_train_state as init_train_state
    from nn_fn.training import supervised as supervised
    from nn_fn.training import train_step as train_step

# Names are loaded when first used: a data loader's worker process imports `nn_fn.data` and nothing else.
_MODULES = (
    "checkpoints", "data", "functional", "initializers", "layers", "metrics", "optimisers", "precision", "schedules",
    "training",
)  # fmt: skip
_NAMES = {
    "nn_fn.checkpoints": ("CheckpointManager", "load_checkpoint", "save_checkpoint"),
    "nn_fn.optimisers": ("GradientTransformation", "adam", "adamw", "apply_updates", "chain", "sgd"),
    "nn_fn.training": (
        "EarlyStopping", "MetricLogger", "TrainState", "evaluator", "fit", "init_train_state", "supervised",
        "train_step",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if not name.startswith("_"):
        layers = importlib.import_module(f"{__name__}.layers")
        if name in layers.__all__:
            return getattr(layers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_HOME, *importlib.import_module(f"{__name__}.layers").__all__})
