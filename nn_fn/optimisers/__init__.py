"""Optimisers in Optax's form: pairs of pure functions ``init(params)`` and ``update(grads, state, params)``.

    optimiser = chain(clip_by_global_norm(1.0), adam(1e-3))
    state = optimiser.init(params)
    updates, state = optimiser.update(grads, state, params)
    params = apply_updates(params, updates)

A learning rate is a number or a schedule: a function of how many updates were made before, see `nn_fn.schedules`. States
are named tuples of arrays: they go through `jit`, `scan` and checkpoints.

    base             what a transformation is; chain, apply_updates
    leafwise         what all do alike: trees, counters, accumulators
    scaling          by numbers, schedules, norms; weight decay and noise
    moments squares muon   the parts that give optimisers their names
    clipping         norms and clipping
    masking          parts of the parameters, and groups
    wrappers         accumulation, skipping, averages of parameters
    hyperparameters  learning rates in the state
    plateau          a scale that falls when a value stops improving
    recipes          the optimisers by name
"""

from __future__ import annotations

from nn_fn.optimisers.base import EmptyState as EmptyState
from nn_fn.optimisers.base import GradientTransformation as GradientTransformation
from nn_fn.optimisers.base import ScalarOrSchedule as ScalarOrSchedule
from nn_fn.optimisers.base import Schedule as Schedule
from nn_fn.optimisers.base import apply_updates as apply_updates
from nn_fn.optimisers.base import chain as chain
from nn_fn.optimisers.base import identity as identity
from nn_fn.optimisers.base import set_to_zero as set_to_zero
from nn_fn.optimisers.base import stateless as stateless
from nn_fn.optimisers.clipping import adaptive_grad_clip as adaptive_grad_clip
from nn_fn.optimisers.clipping import clip as clip
from nn_fn.optimisers.clipping import clip_by_block_rms as clip_by_block_rms
from nn_fn.optimisers.clipping import clip_by_global_norm as clip_by_global_norm
from nn_fn.optimisers.clipping import clip_by_leaf_norm as clip_by_leaf_norm
from nn_fn.optimisers.clipping import clip_grad_norm as clip_grad_norm
from nn_fn.optimisers.clipping import clip_grad_value as clip_grad_value
from nn_fn.optimisers.clipping import global_norm as global_norm
from nn_fn.optimisers.hyperparameters import InjectHyperparamsState as InjectHyperparamsState
from nn_fn.optimisers.hyperparameters import get_hyperparams as get_hyperparams
from nn_fn.optimisers.hyperparameters import inject_hyperparams as inject_hyperparams
from nn_fn.optimisers.hyperparameters import set_hyperparams as set_hyperparams
from nn_fn.optimisers.masking import MaskedNode as MaskedNode
from nn_fn.optimisers.masking import MaskedState as MaskedState
from nn_fn.optimisers.masking import MaskOrFn as MaskOrFn
from nn_fn.optimisers.masking import PartitionState as PartitionState
from nn_fn.optimisers.masking import masked as masked
from nn_fn.optimisers.masking import multi_transform as multi_transform
from nn_fn.optimisers.masking import partition as partition
from nn_fn.optimisers.moments import AdamState as AdamState
from nn_fn.optimisers.moments import AmsgradState as AmsgradState
from nn_fn.optimisers.moments import DampedTraceState as DampedTraceState
from nn_fn.optimisers.moments import EmaState as EmaState
from nn_fn.optimisers.moments import LionState as LionState
from nn_fn.optimisers.moments import TraceState as TraceState
from nn_fn.optimisers.moments import ema as ema
from nn_fn.optimisers.moments import scale_by_adam as scale_by_adam
from nn_fn.optimisers.moments import scale_by_adamax as scale_by_adamax
from nn_fn.optimisers.moments import scale_by_amsgrad as scale_by_amsgrad
from nn_fn.optimisers.moments import scale_by_lion as scale_by_lion
from nn_fn.optimisers.moments import trace as trace
from nn_fn.optimisers.muon import MuonState as MuonState
from nn_fn.optimisers.muon import muon as muon
from nn_fn.optimisers.muon import orthogonalize as orthogonalize
from nn_fn.optimisers.muon import scale_by_muon as scale_by_muon
from nn_fn.optimisers.muon import scale_by_shape as scale_by_shape
from nn_fn.optimisers.plateau import ReduceOnPlateauState as ReduceOnPlateauState
from nn_fn.optimisers.plateau import reduce_on_plateau as reduce_on_plateau
from nn_fn.optimisers.recipes import adadelta as adadelta
from nn_fn.optimisers.recipes import adafactor as adafactor
from nn_fn.optimisers.recipes import adagrad as adagrad
from nn_fn.optimisers.recipes import adam as adam
from nn_fn.optimisers.recipes import adamax as adamax
from nn_fn.optimisers.recipes import adamaxw as adamaxw
from nn_fn.optimisers.recipes import adamw as adamw
from nn_fn.optimisers.recipes import amsgrad as amsgrad
from nn_fn.optimisers.recipes import lamb as lamb
from nn_fn.optimisers.recipes import lars as lars
from nn_fn.optimisers.recipes import lion as lion
from nn_fn.optimisers.recipes import nadam as nadam
from nn_fn.optimisers.recipes import nadamw as nadamw
from nn_fn.optimisers.recipes import noisy_sgd as noisy_sgd
from nn_fn.optimisers.recipes import rmsprop as rmsprop
from nn_fn.optimisers.recipes import sgd as sgd
from nn_fn.optimisers.scaling import AddNoiseState as AddNoiseState
from nn_fn.optimisers.scaling import CountState as CountState
from nn_fn.optimisers.scaling import add_decayed_weights as add_decayed_weights
from nn_fn.optimisers.scaling import add_noise as add_noise
from nn_fn.optimisers.scaling import scale as scale
from nn_fn.optimisers.scaling import scale_by_learning_rate as scale_by_learning_rate
from nn_fn.optimisers.scaling import scale_by_param_block_norm as scale_by_param_block_norm
from nn_fn.optimisers.scaling import scale_by_param_block_rms as scale_by_param_block_rms
from nn_fn.optimisers.scaling import scale_by_schedule as scale_by_schedule
from nn_fn.optimisers.scaling import scale_by_trust_ratio as scale_by_trust_ratio
from nn_fn.optimisers.squares import AdadeltaState as AdadeltaState
from nn_fn.optimisers.squares import FactoredState as FactoredState
from nn_fn.optimisers.squares import RmsState as RmsState
from nn_fn.optimisers.squares import RssState as RssState
from nn_fn.optimisers.squares import StddevState as StddevState
from nn_fn.optimisers.squares import scale_by_adadelta as scale_by_adadelta
from nn_fn.optimisers.squares import scale_by_factored_rms as scale_by_factored_rms
from nn_fn.optimisers.squares import scale_by_rms as scale_by_rms
from nn_fn.optimisers.squares import scale_by_rss as scale_by_rss
from nn_fn.optimisers.squares import scale_by_stddev as scale_by_stddev
from nn_fn.optimisers.wrappers import ApplyIfFiniteState as ApplyIfFiniteState
from nn_fn.optimisers.wrappers import MultiSteps as MultiSteps
from nn_fn.optimisers.wrappers import MultiStepsState as MultiStepsState
from nn_fn.optimisers.wrappers import ParamsEmaState as ParamsEmaState
from nn_fn.optimisers.wrappers import all_finite as all_finite
from nn_fn.optimisers.wrappers import apply_if_finite as apply_if_finite
from nn_fn.optimisers.wrappers import ema_params as ema_params
from nn_fn.optimisers.wrappers import params_ema as params_ema
from nn_fn.optimisers.wrappers import skip_large_updates as skip_large_updates
from nn_fn.optimisers.wrappers import skip_not_finite as skip_not_finite
