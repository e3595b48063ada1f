"""Transformations of some of the parameters: masks, and groups that are each optimised in their own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from asgfn import tree
from asgfn.tree_util import broadcast_prefix, keystr
from nn_fn.optimisers.base import GradientTransformation, with_extra_args
from nn_fn.optimisers.leafwise import check_like

MaskOrFn = Any
"""A pytree of booleans, like the parameters or a prefix of them, or a function from parameters to one."""


class MaskedState(NamedTuple):
    """The state of the inner transformation, which saw the chosen parameters only."""

    inner_state: Any


class MaskedNode(NamedTuple):
    """What stands where a leaf is left out: a pytree without leaves."""


def masked(inner: GradientTransformation, mask: MaskOrFn) -> GradientTransformation:
    """Applies a transformation where a mask is true; elsewhere updates pass unchanged and take no memory in the state.

    Arguments:
        inner: the transformation.
        mask: a pytree of Python booleans like the parameters, or a prefix of it (one boolean for a whole subtree), or a
            function from the parameters to one. Masks are static: they may depend on paths, shapes and dtypes.

    Raises (on init and update):
        StructureError: the mask is not a prefix of the parameters.
        TypeError: an entry is not a boolean; the message names the place.
    """
    inner = with_extra_args(inner)

    def mask_of(params: Any) -> list:
        return _resolve("masked: mask", mask, params, _check_boolean)

    def init(params: Any) -> MaskedState:
        return MaskedState(inner.init(_keep(mask_of(params), params)))

    def update(updates: Any, state: MaskedState, params: Any = None, **extra: Any) -> tuple[Any, MaskedState]:
        chosen = mask_of(_parameters("masked", updates, params))
        updates, inner_state = _update_some(inner, chosen, updates, state.inner_state, params, extra)
        return updates, MaskedState(inner_state)

    return GradientTransformation(init, update)


class PartitionState(NamedTuple):
    """The state of each group's transformation, by label."""

    inner_states: dict


def multi_transform(transforms: Mapping[Any, GradientTransformation], param_labels: Any) -> GradientTransformation:
    """Parameter groups: each parameter is updated by the transformation that its label names.

    Arguments:
        transforms: transformations by label.
        param_labels: a pytree of labels like the parameters, or a prefix of it (one label for a whole subtree), or a
            function from the parameters to one.

    Each transformation holds state for its own parameters only. To freeze a group, give it `set_to_zero()`.

    Raises (on init and update):
        StructureError: the labels are not a prefix of the parameters.
        ValueError: a label names no transformation; the message names the place.
    """
    parts = {label: with_extra_args(t) for label, t in transforms.items()}

    def check(place: str, label: Any) -> None:
        if label not in parts:
            raise ValueError(
                f"multi_transform: the label at {place} is {label!r}, but there are transformations for "
                f"{', '.join(map(repr, parts)) or 'no label'} only"
            )

    def labels_of(params: Any) -> list:
        return _resolve("multi_transform: param_labels", param_labels, params, check)

    def init(params: Any) -> PartitionState:
        labels = labels_of(params)
        return PartitionState({k: t.init(_keep([l == k for l in labels], params)) for k, t in parts.items()})

    def update(updates: Any, state: PartitionState, params: Any = None, **extra: Any) -> tuple[Any, PartitionState]:
        labels = labels_of(_parameters("multi_transform", updates, params))
        inner_states = {}
        for k, part in parts.items():
            chosen = [l == k for l in labels]
            updates, inner_states[k] = _update_some(part, chosen, updates, state.inner_states[k], params, extra)
        return updates, PartitionState(inner_states)

    return GradientTransformation(init, update)


partition = multi_transform


def _parameters(name: str, updates: Any, params: Any) -> Any:
    """What masks and labels are made from: the parameters, or where these are not given the updates."""
    if params is None:
        return updates
    check_like(name, updates, params)
    return params


def _update_some(
    inner: GradientTransformation, chosen: list[bool], updates: Any, state: Any, params: Any, extra: dict
) -> tuple[Any, Any]:
    kept = None if params is None else _keep(chosen, params)
    new, state = inner.update(_keep(chosen, updates), state, kept, **extra)
    leaves, treedef = tree.flatten(updates)
    changed = iter(tree.leaves(new))
    return treedef.unflatten([next(changed) if c else old for c, old in zip(chosen, leaves, strict=True)]), state


def _keep(chosen: list[bool], values: Any) -> Any:
    leaves, treedef = tree.flatten(values)
    return treedef.unflatten([v if c else MaskedNode() for c, v in zip(chosen, leaves, strict=True)])


def _resolve(name: str, given: Any, params: Any, check: Callable[[str, Any], None]) -> list:
    """One static value for each leaf of the parameters, from a pytree of values, a prefix of one, or a function."""
    values = given(params) if callable(given) else given
    for path, value in tree.leaves_with_path(values):
        check(keystr(tuple(path)) or "the root", value)
    return broadcast_prefix(values, params, name=name)


def _check_boolean(place: str, value: Any) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"masked: the mask at {place} must be True or False, got {value!r} (a {type(value).__name__}). Masks are "
            "static; to choose by values use `asgfn.numpy.where` on the updates."
        )
