"""The optimisers by name: chains of the parts."""

from __future__ import annotations

import functools
from typing import Any

import asgfn.numpy as jnp
from nn_fn.optimisers.base import GradientTransformation, ScalarOrSchedule, chain
from nn_fn.optimisers.clipping import clip_by_block_rms
from nn_fn.optimisers.leafwise import check_number
from nn_fn.optimisers.masking import MaskOrFn, masked
from nn_fn.optimisers.moments import (
    ema,
    scale_by_adam,
    scale_by_adamax,
    scale_by_amsgrad,
    scale_by_lion,
    trace,
)
from nn_fn.optimisers.scaling import (
    add_decayed_weights,
    add_noise,
    scale,
    scale_by_learning_rate,
    scale_by_param_block_rms,
    scale_by_trust_ratio,
)
from nn_fn.optimisers.squares import (
    scale_by_adadelta,
    scale_by_factored_rms,
    scale_by_rms,
    scale_by_rss,
    scale_by_stddev,
)


def _decay(weight_decay: ScalarOrSchedule, mask: MaskOrFn | None) -> list[GradientTransformation]:
    """The part that decays weights; none where there is nothing to do."""
    if isinstance(weight_decay, (int, float)) and weight_decay == 0:
        return []
    return [add_decayed_weights(weight_decay, mask)]


def _rate(name: str, learning_rate: ScalarOrSchedule | None) -> GradientTransformation:
    check_number(name, "learning_rate", learning_rate)
    return scale_by_learning_rate(learning_rate)


def sgd(
    learning_rate: ScalarOrSchedule,
    momentum: float | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
    *,
    dampening: float = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Stochastic gradient descent: p <- p - learning_rate * v, v <- momentum * v + (1 - dampening) * g.

    Arguments:
        learning_rate: a number or a schedule.
        momentum: None for none.
        nesterov, accumulator_dtype, dampening: see `trace`; they need momentum.
        weight_decay: added to the gradient as weight_decay * p, before momentum, as in PyTorch.
        mask: which parameters decay, see `masked`.

    Raises:
        ValueError: a number is out of range, or nesterov goes with dampening or without momentum.
    """
    if momentum is None and (nesterov or (isinstance(dampening, (int, float)) and dampening != 0)):
        raise ValueError("sgd: nesterov and dampening need momentum")
    parts = [] if momentum is None else [trace(momentum, nesterov, accumulator_dtype, dampening=dampening)]
    return chain(*_decay(weight_decay, mask), *parts, _rate("sgd", learning_rate))


def noisy_sgd(
    learning_rate: ScalarOrSchedule, eta: float = 0.01, gamma: float = 0.55, *, key: Any
) -> GradientTransformation:
    """Gradient descent with normal noise on the gradients, see `add_noise`."""
    return chain(add_noise(eta, gamma, key), _rate("noisy_sgd", learning_rate))


def adam(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam (D. Kingma, J. Ba, 2015); with `nesterov` NAdam (T. Dozat, 2016). Arguments as for `scale_by_adam`.

    PyTorch's ``Adam(weight_decay=w)`` is ``chain(add_decayed_weights(w), adam(rate))``; its NAdam differs by a schedule of
    the momentum.
    """
    part = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return chain(part, _rate("adam", learning_rate))


nadam = functools.partial(adam, nesterov=True)


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam with decoupled weight decay (I. Loshchilov, F. Hutter, 2019): p <- p - learning_rate * (step + weight_decay * p).

    Arguments as for `scale_by_adam` and `add_decayed_weights`. The default decay is Optax's; PyTorch's is 1e-2.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        _rate("adamw", learning_rate),
    )


nadamw = functools.partial(adamw, nesterov=True)


def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformation:
    """Adam with the largest second moment so far (S. Reddi and others, 2018), see `scale_by_amsgrad`."""
    part = scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu)
    return chain(part, _rate("amsgrad", learning_rate))


def adamax(
    learning_rate: ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> GradientTransformation:
    """Adam in the maximum norm (D. Kingma, J. Ba, 2015), see `scale_by_adamax`."""
    return chain(scale_by_adamax(b1, b2, eps), _rate("adamax", learning_rate))


def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Adamax with decoupled weight decay."""
    decay = add_decayed_weights(weight_decay, mask)
    return chain(scale_by_adamax(b1, b2, eps), decay, _rate("adamaxw", learning_rate))


def lion(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.99,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Signs of a momentum, with decoupled weight decay (X. Chen and others, 2023), see `scale_by_lion`.

    Its steps are larger than Adam's: the authors advise a learning rate 3 to 10 times smaller.
    """
    decay = add_decayed_weights(weight_decay, mask)
    return chain(scale_by_lion(b1, b2, mu_dtype), decay, _rate("lion", learning_rate))


def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: float | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> GradientTransformation:
    """RMSProp (T. Hinton, 2012), see `scale_by_rms`; with `centered` see `scale_by_stddev`.

    The defaults are Optax's: g / sqrt(v + eps). PyTorch's g / (sqrt(v) + eps) is ``eps_in_sqrt=False``, its default decay
    ("alpha") 0.99. Momentum comes after the learning rate here, before it in PyTorch: they differ when the rate changes.
    """
    part = scale_by_stddev if centered else scale_by_rms
    scaled = part(decay, eps, initial_scale, eps_in_sqrt, bias_correction)
    parts = [] if momentum is None else [trace(momentum, nesterov)]
    return chain(scaled, _rate("rmsprop", learning_rate), *parts)


def adagrad(
    learning_rate: ScalarOrSchedule,
    initial_accumulator_value: float = 0.1,
    eps: float = 1e-7,
    *,
    eps_in_sqrt: bool = True,
) -> GradientTransformation:
    """Adagrad (J. Duchi and others, 2011), see `scale_by_rss`.

    The defaults are Optax's. PyTorch's are ``initial_accumulator_value=0, eps=1e-10, eps_in_sqrt=False``, and its
    ``lr_decay=d`` is the schedule ``lambda count: rate / (1 + count * d)``.
    """
    part = scale_by_rss(initial_accumulator_value, eps, eps_in_sqrt=eps_in_sqrt)
    return chain(part, _rate("adagrad", learning_rate))


def adadelta(
    learning_rate: ScalarOrSchedule | None = None,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Adadelta (M. Zeiler, 2012), see `scale_by_adadelta`. The weight decay is coupled: it is part of the gradient.

    As in Optax a learning rate of None leaves out the sign too; to descend with the paper's update give 1.0.
    """
    decay = _decay(weight_decay, weight_decay_mask)
    return chain(*decay, scale_by_adadelta(rho, eps), _rate("adadelta", learning_rate))


def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: float = 0.8,
    decay_offset: int = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: float | None = 1.0,
    momentum: float | None = None,
    dtype_momentum: Any = jnp.float32,
    weight_decay_rate: ScalarOrSchedule | None = None,
    eps: float = 1e-30,
    factored: bool = True,
    weight_decay_mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Adafactor (N. Shazeer, M. Stern, 2018): second moments of matrices as one number a row and one a column.

    Arguments:
        learning_rate: None for none: the step is then the parameter's scale, or 1.
        min_dim_size_to_factor, decay_rate, decay_offset, eps, factored: see `scale_by_factored_rms`.
        multiply_by_parameter_scale: multiplies each update by its parameter's root mean square, see
            `scale_by_param_block_rms`.
        clipping_threshold: see `clip_by_block_rms`; None for none.
        momentum: decay of a mean of updates, None for none, kept in `dtype_momentum`.
        weight_decay_rate: decay at each step, not multiplied by the learning rate.
        weight_decay_mask: which parameters decay, see `masked`.
    """
    parts = [scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)]
    if clipping_threshold is not None:
        parts.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        check_number("adafactor", "learning_rate", learning_rate)
        parts.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        parts.append(scale_by_param_block_rms())
    if momentum is not None:
        parts.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        parts.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*parts, scale(-1))


def lamb(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """LAMB: AdamW's step scaled to each parameter's norm (Y. You and others, 2020), see `scale_by_trust_ratio`."""
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        _rate("lamb", learning_rate),
    )


def lars(
    learning_rate: ScalarOrSchedule,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: MaskOrFn = True,
    trust_coefficient: float = 0.001,
    eps: float = 0.0,
    trust_ratio_mask: MaskOrFn = True,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> GradientTransformation:
    """LARS: momentum with steps scaled to each parameter's norm (Y. You and others, 2017), see `scale_by_trust_ratio`."""
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked(scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps), trust_ratio_mask),
        _rate("lars", learning_rate),
        trace(momentum, nesterov),
    )
