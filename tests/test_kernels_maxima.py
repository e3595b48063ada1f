"""x - max(x) is recognised, whose exponential needs less; and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.graph.types import ArrayType
from asgfn.transforms.simplify import simplify
from backends.kernels import scalar
from backends.kernels.maxima import is_below_its_maximum
from tests.test_kernels_types import TYPES, Evaluation, every_magnitude

BELOW: dict[str, Callable] = {
    "softmax": lambda x: nn.softmax(x, axis=-1),
    "first axis": lambda x: nn.softmax(x, axis=0),
    "two axes": lambda x: nn.softmax(x, axis=(0, 2)),
    "by hand": lambda x: jnp.exp(x - x.max(axis=1, keepdims=True)),
    "of all": lambda x: jnp.exp(x - x.max()),
    "of a computed one": lambda x: jnp.exp(jnp.sin(x) - lax.stop_gradient(jnp.sin(x).max(-1))[..., None]),
    "broadcast": lambda x: jnp.exp(x - jnp.broadcast_to(x.max(-1)[:, :, None], x.shape)),
}
OTHERS: dict[str, Callable] = {
    "along the wrong axis": lambda x: jnp.exp(x - x.max(axis=-1)),
    "turned": lambda x: jnp.exp(x - x.max(axis=2).transpose(1, 0)[:, :, None]),
    "of another one": lambda x: jnp.exp(x - (x + 1).max(axis=-1, keepdims=True)),
    "of its negative": lambda x: jnp.exp(-x - x.max(axis=-1, keepdims=True)),
    "the other way": lambda x: jnp.exp(x.max(axis=-1, keepdims=True) - x),
    "minimum": lambda x: jnp.exp(x - x.min(axis=-1, keepdims=True)),
    "reversed": lambda x: jnp.exp(x - x.max(axis=-1, keepdims=True)[::-1]),
    "nothing subtracted": jnp.exp,
}


def found(f: Callable) -> list[bool]:
    asg = simplify(asgfn.trace(f)(np.zeros((4, 4, 4), np.float32)))
    return [is_below_its_maximum(asg, node.inputs[0]) for node in asg.nodes if node.primitive.name == "exp"]


@pytest.mark.parametrize("name", BELOW)
def test_what_is_below(name: str) -> None:
    assert found(BELOW[name]) == [True]


@pytest.mark.parametrize("name", OTHERS)
def test_what_may_be_above(name: str) -> None:
    assert found(OTHERS[name]) == [False]
    x = np.random.default_rng(0).standard_normal((4, 4, 4)).astype(np.float32) * 200
    with np.errstate(over="ignore"):
        exact = np.asarray(asgfn.jit(OTHERS[name], backend="numpy")(x))
    np.testing.assert_allclose(np.asarray(asgfn.jit(OTHERS[name], backend="cpu")(x)), exact, rtol=1e-5, atol=1e-37)


def test_the_exponential_is_the_same() -> None:
    x = every_magnitude()
    x = x[~(x > 0)]
    types = [ArrayType(x.shape, np.dtype(np.float32))]
    results, operations = [], []
    for name in ("exp", "exp_below"):
        e = Evaluation()
        made = scalar.apply(e.builder, TYPES, name, [e.input(x, "f32")], types, types, {})
        results += e.results([made])
        operations.append(e.operations)
    np.testing.assert_array_equal(*results)
    assert operations[1] < operations[0]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_special_rows(dtype: str) -> None:
    x = np.array([[-np.inf, 0, 1], [np.nan, 0, 1], [-np.inf] * 3, [np.inf, 0, 1], [-3e4, 0, 3e4], [1, 1, 1]], dtype)
    softmax = lambda x: nn.softmax(x, axis=-1)
    with asgfn.config.override(enable_x64=True), np.errstate(all="ignore"):
        exact = np.asarray(asgfn.jit(softmax, backend="numpy")(x))
        got = np.asarray(asgfn.jit(softmax, backend="cpu")(x))
    assert got.dtype == exact.dtype == np.dtype(dtype)
    np.testing.assert_allclose(got, exact, rtol=2e-3 if dtype == "float16" else 1e-6)
