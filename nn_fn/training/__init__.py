"""Training: pure steps, evaluation, a loop, and what a loop needs."""

from nn_fn.training.early_stopping import EarlyStopping as EarlyStopping
from nn_fn.training.early_stopping import EarlyStoppingState as EarlyStoppingState
from nn_fn.training.evaluation import evaluator as evaluator
from nn_fn.training.fit import FitResult as FitResult
from nn_fn.training.fit import fit as fit
from nn_fn.training.fit import plot_losses as plot_losses
from nn_fn.training.metric_logger import Best as Best
from nn_fn.training.metric_logger import MetricLogger as MetricLogger
from nn_fn.training.metric_logger import Summary as Summary
from nn_fn.training.metric_logger import direction_of as direction_of
from nn_fn.training.steps import LossFunction as LossFunction
from nn_fn.training.steps import TrainState as TrainState
from nn_fn.training.steps import init_train_state as init_train_state
from nn_fn.training.steps import supervised as supervised
from nn_fn.training.steps import train_step as train_step
