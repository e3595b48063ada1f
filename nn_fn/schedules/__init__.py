"""Schedules: functions of the step count, as learning rates and other hyperparameters of optimisers.

    optimiser = adam(warmup_cosine_decay_schedule(0.0, 1e-3, warmup_steps=100, decay_steps=1000))

A schedule takes a count (a number or a scalar array, traced or not) and gives a scalar in the default float dtype. Before
their beginning schedules have their first value, past their end the last one.

    curves      the shapes: constant, polynomial, exponential, cosine
    piecewise   schedules made of pieces; joined, and slowed down to epochs
    composed    warm-up and then decay, one cycle, restarts
    pytorch     the schedulers of PyTorch, under their names

The names in `pytorch` are PyTorch's in lower case, all others Optax's. What Optax takes as "no schedule at all" (0 or fewer
steps) is an error here.
"""

from __future__ import annotations

from nn_fn.schedules.composed import cosine_onecycle_schedule as cosine_onecycle_schedule
from nn_fn.schedules.composed import linear_onecycle_schedule as linear_onecycle_schedule
from nn_fn.schedules.composed import linear_warmup as linear_warmup
from nn_fn.schedules.composed import sgdr_schedule as sgdr_schedule
from nn_fn.schedules.composed import warmup_constant_schedule as warmup_constant_schedule
from nn_fn.schedules.composed import warmup_cosine as warmup_cosine
from nn_fn.schedules.composed import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from nn_fn.schedules.composed import warmup_exponential_decay_schedule as warmup_exponential_decay_schedule
from nn_fn.schedules.curves import Schedule as Schedule
from nn_fn.schedules.curves import constant_schedule as constant_schedule
from nn_fn.schedules.curves import cosine_decay_schedule as cosine_decay_schedule
from nn_fn.schedules.curves import exponential_decay as exponential_decay
from nn_fn.schedules.curves import linear_schedule as linear_schedule
from nn_fn.schedules.curves import polynomial_schedule as polynomial_schedule
from nn_fn.schedules.piecewise import join_schedules as join_schedules
from nn_fn.schedules.piecewise import per_epoch as per_epoch
from nn_fn.schedules.piecewise import piecewise_constant_schedule as piecewise_constant_schedule
from nn_fn.schedules.piecewise import piecewise_interpolate_schedule as piecewise_interpolate_schedule
from nn_fn.schedules.pytorch import constant_lr as constant_lr
from nn_fn.schedules.pytorch import cosine_annealing_lr as cosine_annealing_lr
from nn_fn.schedules.pytorch import cosine_annealing_warm_restarts as cosine_annealing_warm_restarts
from nn_fn.schedules.pytorch import exponential_lr as exponential_lr
from nn_fn.schedules.pytorch import linear_lr as linear_lr
from nn_fn.schedules.pytorch import multi_step_lr as multi_step_lr
from nn_fn.schedules.pytorch import one_cycle_lr as one_cycle_lr
from nn_fn.schedules.pytorch import polynomial_lr as polynomial_lr
from nn_fn.schedules.pytorch import step_lr as step_lr
