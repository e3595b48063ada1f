"""Trajectories of optimisers: parameters after some of `STEPS` steps, by Optax and by PyTorch, in float64.

A case builds an optimiser from a namespace `o` that has Optax's names: our package or Optax itself. Gradients are those of
a quadratic function that changes with time; NumPy computes them for everyone.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.references import normal

STEPS = 25
KEPT = (1, 2, 3, 8, 15, 25)
SHAPES = {"bias": (4,), "conv": (2, 3, 2, 2), "scalar": (), "tall": (7, 2), "wide": (3, 5)}
START = {k: normal(f"optimisers: start {k}", *shape) for k, shape in SHAPES.items()}
TARGET = {k: normal(f"optimisers: target {k}", *shape, scale=2.0) for k, shape in SHAPES.items()}
CURVATURE = {k: np.exp(normal(f"optimisers: curvature {k}", *shape)) for k, shape in SHAPES.items()}
BAD_STEPS = (4, 5, 11)


def gradients(params: dict[str, Any], t: int, case: Trajectory) -> dict[str, np.ndarray]:
    """At step t = 0, 1, ...; different in every coordinate."""
    grads = {}
    for k, p in params.items():
        noise = normal(f"optimisers: noise {k} {t}", *SHAPES[k], scale=0.3)
        g = CURVATURE[k] * (np.asarray(p, np.float64) - TARGET[k]) * (1 + 0.3 * np.sin(t)) + noise
        grads[k] = np.asarray(g * case.scale)
    if case.bad and t in BAD_STEPS:
        grads["wide"] = grads["wide"] * np.where(np.arange(5) == 2, [np.nan, np.inf][t % 2], 1.0)
    return grads


def value(t: int) -> float:
    """What falls, stays, falls a little, and stays again."""
    return float([1.0, 0.7, 0.4, 0.4, 0.5, 0.45, 0.4, 0.3, 0.31, 0.3, 0.29999, 0.3, 0.3][min(t, 12)])


@dataclass(frozen=True)
class Trajectory:
    """One optimiser.

    Attributes:
        make: from a namespace with Optax's names to the optimiser.
        torch: from ``(torch, parameters)`` to PyTorch's optimiser; then that is the reference, or with `both` one of two.
        both: whether Optax is a reference too.
        theirs: for Optax, where `make` does not do.
        scale: of the gradients.
        bad: whether some gradients have a NaN or an infinity.
        value: whether update gets ``value=``.
        scheduler: from ``(torch, optimiser)`` to PyTorch's learning rate scheduler.
        tol, float32_tol: relative; float32 is not compared where it is None.
    """

    make: Callable[[Any], Any]
    torch: Callable[[Any, list], Any] | None = None
    both: bool = True
    theirs: Callable[[Any], Any] | None = None
    scale: float = 1.0
    bad: bool = False
    value: bool = False
    scheduler: Callable[[Any, Any], Any] | None = None
    tol: float = 1e-10
    float32_tol: float | None = 2e-4


def matrices(params: dict[str, Any]) -> dict[str, bool]:
    """A mask: no decay for vectors and scalars."""
    return {k: np.ndim(p) > 1 for k, p in params.items()}


LABELS = {"bias": "small", "conv": "large", "scalar": "small", "tall": "frozen", "wide": "large"}
NAMED = {"bias": True, "conv": False, "scalar": False, "tall": True, "wide": True}
ramp = lambda count: 0.2 / (1.0 + 0.1 * count)
decay_rate = lambda count: 0.01 * (1.0 + count)


def groups(o: Any) -> Any:
    parts = {
        "small": o.sgd(0.05, momentum=0.9),
        "large": o.adamw(ramp, weight_decay=0.1, mask=matrices),
        "frozen": o.set_to_zero(),
    }
    return o.multi_transform(parts, LABELS)


def exact_adafactor(o: Any, **kwargs: Any) -> Any:
    """Optax computes the decay in float32 whatever the parameters are: here with its parts, in float64."""
    import jax.numpy as jnp

    rate = lambda count, exponent: 1 - jnp.asarray(count + 1, float) ** -exponent
    least = kwargs.get("min_dim_size_to_factor", 128)
    parts = [
        o.scale_by_factored_rms(
            kwargs.get("factored", True),
            kwargs.get("decay_rate", 0.8),
            min_dim_size_to_factor=least,
            decay_rate_fn=rate,
        ),
        o.clip_by_block_rms(1.0),
        o.scale_by_learning_rate(kwargs["learning_rate"], flip_sign=False),
        o.scale_by_param_block_rms(),
    ]
    if "momentum" in kwargs:
        parts.append(o.ema(kwargs["momentum"], debias=False, accumulator_dtype=jnp.float64))
    if "weight_decay_rate" in kwargs:
        parts.append(o.add_decayed_weights(kwargs["weight_decay_rate"], kwargs.get("weight_decay_mask")))
    return o.chain(*parts, o.scale(-1))


def _adafactor(**kwargs: Any) -> dict[str, Any]:
    ours = {**kwargs, "dtype_momentum": np.float64} if "momentum" in kwargs else kwargs
    return {
        "make": lambda o: o.adafactor(**ours),
        "theirs": lambda o: exact_adafactor(o, **kwargs),
    }


PLATEAU = {"factor": 0.5, "patience": 2, "cooldown": 1}

CASES: dict[str, Trajectory] = {
    # ------------------------------------------------------------------------------------------- gradient descent
    "sgd": Trajectory(lambda o: o.sgd(0.05), lambda t, p: t.optim.SGD(p, 0.05)),
    "sgd momentum": Trajectory(lambda o: o.sgd(0.02, momentum=0.9), lambda t, p: t.optim.SGD(p, 0.02, momentum=0.9)),
    "sgd nesterov": Trajectory(
        lambda o: o.sgd(0.02, 0.9, True), lambda t, p: t.optim.SGD(p, 0.02, momentum=0.9, nesterov=True)
    ),
    "sgd dampening": Trajectory(
        lambda o: o.sgd(0.05, momentum=0.8, dampening=0.4),
        lambda t, p: t.optim.SGD(p, 0.05, momentum=0.8, dampening=0.4),
        both=False,
    ),
    "sgd weight decay": Trajectory(
        lambda o: o.sgd(0.02, momentum=0.9, nesterov=True, weight_decay=0.3),
        lambda t, p: t.optim.SGD(p, 0.02, momentum=0.9, nesterov=True, weight_decay=0.3),
        both=False,
    ),
    "sgd schedule": Trajectory(
        lambda o: o.sgd(ramp, momentum=0.5),
        lambda t, p: t.optim.SGD(p, 1.0, momentum=0.5),
        scheduler=lambda t, s: t.optim.lr_scheduler.LambdaLR(s, ramp),
    ),
    "noise": Trajectory(lambda o: o.noisy_sgd(0.05, eta=0.3, gamma=0.5, key=7), tol=1e-9),
    # ----------------------------------------------------------------------------------------------------- adam
    "adam": Trajectory(lambda o: o.adam(0.05), lambda t, p: t.optim.Adam(p, 0.05)),
    "adam settings": Trajectory(
        lambda o: o.adam(0.05, b1=0.5, b2=0.9, eps=1e-2),
        lambda t, p: t.optim.Adam(p, 0.05, betas=(0.5, 0.9), eps=1e-2),
    ),
    "adam eps_root": Trajectory(lambda o: o.adam(0.05, eps=1e-3, eps_root=1e-2)),
    "adam without momentum": Trajectory(lambda o: o.adam(0.05, b1=0.0, b2=0.0, eps=0.1)),
    "adam coupled decay": Trajectory(
        lambda o: o.chain(o.add_decayed_weights(0.3), o.adam(0.05)),
        lambda t, p: t.optim.Adam(p, 0.05, weight_decay=0.3),
    ),
    "adam tiny gradients": Trajectory(lambda o: o.adam(0.05), scale=1e-7),
    "adam huge gradients": Trajectory(lambda o: o.adam(0.05), scale=1e12),
    "nadam": Trajectory(lambda o: o.nadam(0.05, b1=0.8)),
    "nadamw": Trajectory(lambda o: o.nadamw(0.05, weight_decay=0.2, mask=matrices)),
    "adamw": Trajectory(lambda o: o.adamw(0.05)),
    "adamw decay": Trajectory(
        lambda o: o.adamw(0.05, weight_decay=0.3), lambda t, p: t.optim.AdamW(p, 0.05, weight_decay=0.3)
    ),
    "adamw mask": Trajectory(lambda o: o.adamw(0.05, weight_decay=0.3, mask=matrices)),
    "adamw mask tree": Trajectory(lambda o: o.adamw(0.05, weight_decay=0.3, mask=NAMED)),
    "adamw schedules": Trajectory(lambda o: o.adamw(ramp, weight_decay=decay_rate)),
    "amsgrad": Trajectory(lambda o: o.amsgrad(0.05, b2=0.6)),
    "amsgrad uncorrected": Trajectory(
        lambda o: o.amsgrad(0.05, b2=0.6, bias_correction_mu=False, bias_correction_nu=False, eps_root=1e-3)
    ),
    "adamax": Trajectory(lambda o: o.adamax(0.05, b2=0.9), lambda t, p: t.optim.Adamax(p, 0.05, betas=(0.9, 0.9))),
    "adamaxw": Trajectory(lambda o: o.adamaxw(0.05, weight_decay=0.1, mask=matrices)),
    "lion": Trajectory(lambda o: o.lion(0.02), float32_tol=None),
    "lion mask": Trajectory(lambda o: o.lion(0.02, 0.8, 0.95, weight_decay=0.3, mask=matrices), float32_tol=None),
    # -------------------------------------------------------------------------------------------- roots of squares
    "rmsprop": Trajectory(lambda o: o.rmsprop(0.02)),
    "rmsprop momentum": Trajectory(lambda o: o.rmsprop(ramp, 0.95, momentum=0.8, initial_scale=0.5)),
    "rmsprop nesterov": Trajectory(lambda o: o.rmsprop(0.02, momentum=0.8, nesterov=True, bias_correction=True)),
    "rmsprop centred": Trajectory(lambda o: o.rmsprop(0.01, centered=True, eps=1e-3)),
    "rmsprop centred corrected": Trajectory(
        lambda o: o.rmsprop(0.01, centered=True, eps=1e-3, bias_correction=True, momentum=0.3)
    ),
    "rmsprop torch": Trajectory(
        lambda o: o.rmsprop(0.02, 0.99, eps_in_sqrt=False), lambda t, p: t.optim.RMSprop(p, 0.02)
    ),
    "rmsprop torch centred": Trajectory(
        lambda o: o.chain(
            o.add_decayed_weights(0.1),
            o.rmsprop(0.01, 0.9, 1e-3, eps_in_sqrt=False, centered=True, momentum=0.7),
        ),
        lambda t, p: t.optim.RMSprop(p, 0.01, 0.9, 1e-3, weight_decay=0.1, momentum=0.7, centered=True),
    ),
    "adagrad": Trajectory(lambda o: o.adagrad(0.3)),
    "adagrad settings": Trajectory(lambda o: o.adagrad(ramp, initial_accumulator_value=0.0, eps=1e-3)),
    "adagrad torch": Trajectory(
        lambda o: o.adagrad(lambda c: 0.3 / (1 + 0.05 * c), 0.0, 1e-10, eps_in_sqrt=False),
        lambda t, p: t.optim.Adagrad(p, 0.3, lr_decay=0.05),
        both=False,
    ),
    "adadelta": Trajectory(
        lambda o: o.adadelta(1.0, weight_decay=0.1), lambda t, p: t.optim.Adadelta(p, 1.0, weight_decay=0.1)
    ),
    "adadelta settings": Trajectory(lambda o: o.adadelta(2.0, 0.7, 1e-3, 0.1, matrices)),
    # ------------------------------------------------------------------------------------ by shape and by norm
    "adafactor": Trajectory(**_adafactor(learning_rate=0.3)),
    "adafactor factored": Trajectory(**_adafactor(learning_rate=0.3, min_dim_size_to_factor=2)),
    "adafactor rest": Trajectory(
        **_adafactor(
            learning_rate=ramp,
            min_dim_size_to_factor=3,
            decay_rate=0.6,
            momentum=0.8,
            weight_decay_rate=0.01,
            weight_decay_mask=matrices,
        )
    ),
    "adafactor whole": Trajectory(
        lambda o: o.adafactor(0.1, factored=False, multiply_by_parameter_scale=False, clipping_threshold=None),
        tol=1e-6,
    ),
    "adafactor as it is": Trajectory(
        lambda o: o.adafactor(0.3, min_dim_size_to_factor=2, clipping_threshold=0.5), tol=1e-6
    ),
    "lamb": Trajectory(lambda o: o.lamb(0.05)),
    "lamb decay": Trajectory(lambda o: o.lamb(ramp, weight_decay=0.1, mask=matrices, eps_root=1e-4)),
    "lars": Trajectory(lambda o: o.lars(2.0)),
    "lars masks": Trajectory(
        lambda o: o.lars(
            5.0, 0.1, matrices, trust_coefficient=0.01, eps=1e-2, trust_ratio_mask=NAMED, momentum=0.5, nesterov=True
        )
    ),
    "param block norm": Trajectory(lambda o: o.chain(o.scale_by_param_block_norm(0.5), o.scale(-0.02))),
    "muon": Trajectory(lambda o: o.muon(0.05), float32_tol=5e-4),
    "muon decay": Trajectory(
        lambda o: o.muon(
            ramp, weight_decay=0.1, adam_weight_decay=0.2, adam_learning_rate=0.01, nesterov=False, consistent_rms=0.2
        ),
        float32_tol=1e-3,
    ),
    "muon adaptive": Trajectory(lambda o: o.muon(0.005, adaptive=True, ns_steps=3, beta=0.8), float32_tol=5e-3),
    "muon coefficients": Trajectory(
        lambda o: o.muon(0.05, [(4.0, -6.8, 2.9), (3.9, -6.3, 2.6), (2.8, -3.1, 1.2)], ns_steps=3), float32_tol=5e-4
    ),
    # -------------------------------------------------------------------------------------------------- clipping
    "clip": Trajectory(lambda o: o.chain(o.clip(0.5), o.adam(0.05))),
    "clip_by_global_norm": Trajectory(lambda o: o.chain(o.clip_by_global_norm(3.0), o.sgd(0.05, 0.5)), scale=3.0),
    "clip_by_block_rms": Trajectory(lambda o: o.chain(o.clip_by_block_rms(0.7), o.sgd(0.05))),
    "adaptive_grad_clip": Trajectory(lambda o: o.chain(o.adaptive_grad_clip(0.3), o.sgd(0.05))),
    "adaptive_grad_clip axis": Trajectory(lambda o: o.chain(o.adaptive_grad_clip(0.5, 0.1, axis=()), o.sgd(0.05))),
    # ------------------------------------------------------------------------------------------------- composition
    "ema": Trajectory(lambda o: o.chain(o.ema(0.9), o.scale(-0.05))),
    "ema biased": Trajectory(lambda o: o.chain(o.ema(0.9, debias=False), o.scale_by_learning_rate(0.2))),
    "trace": Trajectory(lambda o: o.chain(o.trace(0.9, nesterov=True), o.scale_by_schedule(lambda c: -ramp(c) / 5))),
    "masked": Trajectory(lambda o: o.chain(o.masked(o.trace(0.7), NAMED), o.scale(-0.03))),
    "groups": Trajectory(groups),
    "accumulation": Trajectory(
        lambda o: o.MultiSteps(o.adam(ramp), 4, accumulator_dtype=np.float64).gradient_transformation()
    ),
    "accumulated sum": Trajectory(
        lambda o: o.MultiSteps(
            o.adamw(0.05, weight_decay=0.1), lambda n: 2 + n % 3, use_grad_mean=False, accumulator_dtype=np.float64
        ).gradient_transformation()
    ),
    "accumulation skips": Trajectory(
        lambda o: o.MultiSteps(
            o.sgd(0.05, 0.9), 3, should_skip_update_fn=o.skip_not_finite, accumulator_dtype=np.float64
        ).gradient_transformation(),
        bad=True,
    ),
    "accumulation skips large": Trajectory(
        lambda o: o.MultiSteps(
            o.sgd(0.05, 0.9),
            2,
            should_skip_update_fn=functools.partial(o.skip_large_updates, max_squared_norm=3000.0),
            accumulator_dtype=np.float64,
        ).gradient_transformation(),
        scale=2.0,
    ),
    "apply_if_finite": Trajectory(lambda o: o.apply_if_finite(o.adam(ramp), 3), bad=True),
    "plateau": Trajectory(lambda o: o.chain(o.sgd(0.02), o.reduce_on_plateau(**PLATEAU)), value=True),
    "plateau mean": Trajectory(
        lambda o: o.chain(o.adam(0.05), o.reduce_on_plateau(0.3, 1, 0.0, 0.05, accumulation_size=3, min_scale=0.05)),
        value=True,
    ),
    "plateau torch": Trajectory(
        lambda o: o.chain(o.sgd(0.02), o.reduce_on_plateau(**{**PLATEAU, "patience": 3})),
        lambda t, p: t.optim.SGD(p, 0.02),
        scheduler=lambda t, s: t.optim.lr_scheduler.ReduceLROnPlateau(s, factor=0.5, patience=2, cooldown=1),
        value=True,
    ),
    "injected": Trajectory(
        lambda o: o.inject_hyperparams(o.adamw, static_args="mask")(
            learning_rate=ramp, b1=0.8, weight_decay=0.1, mask=matrices
        )
    ),
}


def optax_trajectory(case: Trajectory) -> np.ndarray:
    import jax
    import optax

    names: dict[str, Any] = {}
    for module in (optax.transforms, optax.contrib, optax):
        names.update({k: getattr(module, k) for k in dir(module)})
    optimiser = (case.theirs or case.make)(types.SimpleNamespace(**names))
    params = jax.tree.map(jax.numpy.asarray, START)
    state = optimiser.init(params)

    @jax.jit
    def step(grads: Any, state: Any, params: Any, extra: Any) -> Any:
        updates, state = optimiser.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    kept = []
    for t in range(STEPS):
        extra = {"value": value(t)} if case.value else {}
        params, state = step(gradients(params, t, case), state, params, extra)
        if t + 1 in KEPT:
            kept.append(flat(params))
    return np.stack(kept)


def torch_trajectory(case: Trajectory) -> np.ndarray:
    import torch

    params = {k: torch.tensor(v, requires_grad=True) for k, v in START.items()}
    optimiser = case.torch(torch, list(params.values()))  # type: ignore[misc]
    scheduler = case.scheduler(torch, optimiser) if case.scheduler is not None else None
    kept = []
    for t in range(STEPS):
        if case.value:
            scheduler.step(value(t))  # type: ignore[union-attr]
        grads = gradients({k: p.detach().numpy() for k, p in params.items()}, t, case)
        for k, p in params.items():
            p.grad = torch.tensor(grads[k])
        optimiser.step()
        if scheduler is not None and not case.value:
            scheduler.step()
        if t + 1 in KEPT:
            kept.append(flat({k: p.detach().numpy() for k, p in params.items()}))
    return np.stack(kept)


def flat(params: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(params[k], np.float64)) for k in sorted(params)])


def record() -> dict[str, np.ndarray]:
    import jax

    jax.config.update("jax_enable_x64", True)
    arrays = {}
    for name, case in CASES.items():
        if case.torch is not None:
            arrays[f"{name}: torch"] = torch_trajectory(case)
        if case.torch is None or case.both:
            arrays[f"{name}: optax"] = optax_trajectory(case)
    return arrays
