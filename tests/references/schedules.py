"""Schedules at many counts, by Optax and by PyTorch, in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

COUNTS = (*range(45), 59, 60, 61, 99, 100, 101, 149, 150, 151, 399, 400, 1000, 100_000)


@dataclass(frozen=True)
class Curve:
    """One schedule.

    Attributes:
        ours: from `nn_fn.schedules` to the schedule; Optax's too, unless `torch` is given.
        torch: from ``(torch.optim.lr_scheduler, optimiser)`` to a scheduler; the optimiser's rate is `rate`.
        rate: see `torch`.
        counts: at how many counts from 0 PyTorch is asked; past the end it differs on purpose or raises.
    """

    ours: Callable[[Any], Any]
    torch: Callable[[Any, Any], Any] | None = None
    rate: float = 0.1
    counts: int = 45


CYCLES = [
    {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 30, "end_value": 0.1},
    {"init_value": 0.1, "peak_value": 0.7, "warmup_steps": 0, "decay_steps": 31},
    {"init_value": 0.2, "peak_value": 0.5, "warmup_steps": 10, "decay_steps": 90, "exponent": 2.0},
]

CASES: dict[str, Curve] = {
    "constant": Curve(lambda s: s.constant_schedule(0.3)),
    "linear": Curve(lambda s: s.linear_schedule(0.1, 1.0, 40)),
    "linear begin": Curve(lambda s: s.linear_schedule(1.0, -0.5, 20, 7)),
    "polynomial": Curve(lambda s: s.polynomial_schedule(1.0, 0.1, 2.5, 60, 10)),
    "polynomial root": Curve(lambda s: s.polynomial_schedule(0.0, 2.0, 0.5, 17)),
    "exponential": Curve(lambda s: s.exponential_decay(0.5, 10, 0.7)),
    "exponential staircase": Curve(lambda s: s.exponential_decay(0.5, 10, 0.7, 5, True, 0.02)),
    "exponential growth": Curve(lambda s: s.exponential_decay(0.01, 9, 1.5, 3, end_value=0.5)),
    "cosine": Curve(lambda s: s.cosine_decay_schedule(0.4, 100)),
    "cosine options": Curve(lambda s: s.cosine_decay_schedule(0.4, 37, 0.1, 1.7)),
    "warmup constant": Curve(lambda s: s.warmup_constant_schedule(0.01, 0.3, 20)),
    "warmup cosine": Curve(lambda s: s.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)),
    "warmup cosine options": Curve(lambda s: s.warmup_cosine_decay_schedule(0.1, 0.9, 7, 40, 0.05, 0.8)),
    "warmup exponential": Curve(lambda s: s.warmup_exponential_decay_schedule(0.0, 1.0, 10, 20, 0.5)),
    "warmup exponential options": Curve(
        lambda s: s.warmup_exponential_decay_schedule(0.0, 1.0, 10, 20, 0.5, 4, True, 0.01)
    ),
    "piecewise constant": Curve(lambda s: s.piecewise_constant_schedule(1.0, {60: 0.1, 20: 0.5, 100: 3.0})),
    "piecewise nothing": Curve(lambda s: s.piecewise_constant_schedule(0.7)),
    "piecewise linear": Curve(lambda s: s.piecewise_interpolate_schedule("linear", 1.0, {20: 0.5, 60: 3.0, 61: 0.1})),
    "piecewise cosine": Curve(lambda s: s.piecewise_interpolate_schedule("cosine", 0.2, {10: 2.0, 100: 0.0})),
    "one cycle linear": Curve(lambda s: s.linear_onecycle_schedule(100, 0.5)),
    "one cycle linear options": Curve(lambda s: s.linear_onecycle_schedule(43, 0.5, 0.2, 0.9, 10.0, 100.0)),
    "one cycle cosine": Curve(lambda s: s.cosine_onecycle_schedule(100, 0.5)),
    "one cycle cosine options": Curve(lambda s: s.cosine_onecycle_schedule(41, 0.5, 0.5, 4.0, 50.0)),
    "sgdr": Curve(lambda s: s.sgdr_schedule(CYCLES)),
    "join": Curve(
        lambda s: s.join_schedules(
            [s.linear_schedule(0.0, 1.0, 10), s.constant_schedule(0.5), s.exponential_decay(1.0, 5, 0.8)], [15, 30]
        )
    ),
    "step_lr": Curve(lambda s: s.step_lr(0.1, 7, 0.5), lambda t, o: t.StepLR(o, 7, 0.5)),
    "step_lr defaults": Curve(lambda s: s.step_lr(0.1, 11), lambda t, o: t.StepLR(o, 11)),
    "multi_step_lr": Curve(
        lambda s: s.multi_step_lr(0.1, [30, 5, 12, 12]), lambda t, o: t.MultiStepLR(o, [30, 5, 12, 12])
    ),
    "exponential_lr": Curve(lambda s: s.exponential_lr(0.1, 0.9), lambda t, o: t.ExponentialLR(o, 0.9)),
    "constant_lr": Curve(lambda s: s.constant_lr(0.1, 0.25, 9), lambda t, o: t.ConstantLR(o, 0.25, 9)),
    "linear_lr": Curve(lambda s: s.linear_lr(0.1, 0.2, 0.8, 20), lambda t, o: t.LinearLR(o, 0.2, 0.8, 20)),
    "linear_lr defaults": Curve(lambda s: s.linear_lr(0.1), lambda t, o: t.LinearLR(o)),
    "linear_warmup": Curve(
        lambda s: s.linear_warmup(0.1, 20, 0.025), lambda t, o: t.LinearLR(o, start_factor=0.25, total_iters=20)
    ),
    "polynomial_lr": Curve(lambda s: s.polynomial_lr(0.1, 30, 1.7), lambda t, o: t.PolynomialLR(o, 30, 1.7)),
    "cosine_annealing_lr": Curve(
        lambda s: s.cosine_annealing_lr(0.1, 40, 0.01), lambda t, o: t.CosineAnnealingLR(o, 40, 0.01), counts=41
    ),
    "warm_restarts": Curve(
        lambda s: s.cosine_annealing_warm_restarts(0.1, 7, eta_min=0.01),
        lambda t, o: t.CosineAnnealingWarmRestarts(o, 7, eta_min=0.01),
    ),
    "warm_restarts doubled": Curve(
        lambda s: s.cosine_annealing_warm_restarts(0.1, 3, 2), lambda t, o: t.CosineAnnealingWarmRestarts(o, 3, 2)
    ),
    "warm_restarts tripled": Curve(
        lambda s: s.cosine_annealing_warm_restarts(0.1, 1, 3, 0.02),
        lambda t, o: t.CosineAnnealingWarmRestarts(o, 1, 3, 0.02),
    ),
    "one_cycle_lr": Curve(lambda s: s.one_cycle_lr(0.5, 45), lambda t, o: t.OneCycleLR(o, 0.5, 45)),
    "one_cycle_lr linear": Curve(
        lambda s: s.one_cycle_lr(0.5, 31, 0.45, "linear", 10.0, 100.0),
        lambda t, o: t.OneCycleLR(
            o, 0.5, 31, pct_start=0.45, anneal_strategy="linear", div_factor=10.0, final_div_factor=100.0
        ),
        counts=31,
    ),
    "one_cycle_lr three phases": Curve(
        lambda s: s.one_cycle_lr(0.5, 44, 0.37, three_phase=True),
        lambda t, o: t.OneCycleLR(o, 0.5, 44, pct_start=0.37, three_phase=True),
        counts=44,
    ),
    "one_cycle_lr from the peak": Curve(
        lambda s: s.one_cycle_lr(0.5, 20, 0.0), lambda t, o: t.OneCycleLR(o, 0.5, 20, pct_start=0.0), counts=20
    ),
}


def record() -> dict[str, np.ndarray]:
    import jax
    import optax
    import torch

    jax.config.update("jax_enable_x64", True)
    arrays = {}
    for name, case in CASES.items():
        if case.torch is None:
            schedule = case.ours(optax)  # which divides int32 counts in float32
            arrays[name] = np.array([float(schedule(jax.numpy.float64(c))) for c in COUNTS])
            continue
        optimiser = torch.optim.SGD([torch.zeros(1)], case.rate, momentum=0.9)
        scheduler = case.torch(torch.optim.lr_scheduler, optimiser)
        found = []
        for _ in range(case.counts):
            found.append(scheduler.get_last_lr()[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optimiser.step()
                if len(found) < case.counts:
                    scheduler.step()
        arrays[name] = np.array(found, np.float64)
    return arrays
