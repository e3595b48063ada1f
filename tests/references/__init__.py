"""Values recorded from other libraries (PyTorch, Optax, scikit-learn), which the tests compare ours with.

The tests need none of those libraries: what they gave lies next to this file, one ``.npz`` a family of cases, and

    python -m tests.references [FAMILY ...]      # in an environment with the extra `parity`

asks them again. A family is a module here with a list `CASES`; each case says its inputs, and what to compute from them
with either library. Inputs come from NumPy's `RandomState`, whose streams never change, so they are not stored.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent


def numbers(name: str) -> np.random.RandomState:
    """A stream of random numbers that belongs to a name."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def normal(name: str, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Normal numbers, float64, that belong to a name."""
    return numbers(name).standard_normal(shape) * scale


@dataclass(frozen=True)
class Case:
    """One computation, done by us and by a reference.

    Attributes:
        name: unique in its family.
        inputs: arrays by argument name. Gradients are compared for all float64 ones but those in `constant`.
        ours: ``(F, **inputs) -> array or pytree of arrays``, with our library (for families of functions F is
            `nn_fn.functional`).
        theirs: the same with the reference (F is `torch.nn.functional`); `ours` where the same call does for both.
        constant: inputs that are not differentiated.
        gradients: whether gradients are compared at all.
        tol: the tolerance in float64, relative to the largest magnitude of the expected array and to each element.
        float32_tol: the tolerance in float32, likewise; None to leave that comparison out.
    """

    name: str
    inputs: Mapping[str, np.ndarray]
    ours: Callable[..., Any]
    theirs: Callable[..., Any] | None = None
    constant: Sequence[str] = ()
    gradients: bool = True
    tol: float = 1e-9
    float32_tol: float | None = 2e-5

    def differentiated(self) -> list[str]:
        if not self.gradients:
            return []
        return [k for k, v in self.inputs.items() if v.dtype == np.float64 and k not in self.constant]

    def cotangent(self, number: int, shape: tuple[int, ...]) -> np.ndarray:
        """What output `number` is weighted with before gradients are taken."""
        return normal(f"{self.name}: cotangent {number}", *shape)


@functools.cache
def load(family: str) -> dict[str, np.ndarray]:
    """The recorded arrays of a family, by ``case: out 0`` and ``case: gradient of x``."""
    with np.load(FOLDER / f"{family}.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def save(family: str, arrays: Mapping[str, np.ndarray]) -> None:
    np.savez_compressed(FOLDER / f"{family}.npz", **arrays)


def record_torch(cases: Sequence[Case], F: Any = None) -> dict[str, np.ndarray]:
    """What PyTorch gives for the cases, in float64, with gradients by its autograd."""
    import torch

    F = torch.nn.functional if F is None else F
    recorded: dict[str, np.ndarray] = {}
    for case in cases:
        if f"{case.name}: out 0" in recorded:
            raise ValueError(f"two cases have the name {case.name!r}")
        tensors = {k: torch.tensor(v) for k, v in case.inputs.items()}
        wanted = case.differentiated()
        for k in wanted:
            tensors[k].requires_grad_(True)
        out = (case.theirs or case.ours)(F, **tensors)
        outs = [o for o in (out if isinstance(out, (tuple, list)) else [out]) if o is not None]
        total = torch.zeros((), dtype=torch.float64)
        for i, o in enumerate(outs):
            recorded[f"{case.name}: out {i}"] = o.detach().numpy()
            if o.is_floating_point() and o.requires_grad:
                total = total + (o * torch.tensor(case.cotangent(i, tuple(o.shape)))).sum()
        if wanted:
            grads = torch.autograd.grad(total, [tensors[k] for k in wanted], allow_unused=True)
            for k, g in zip(wanted, grads, strict=True):
                recorded[f"{case.name}: gradient of {k}"] = np.zeros(case.inputs[k].shape) if g is None else g.numpy()
    return recorded


def assert_case(family: str, case: Case, F: Any) -> None:
    """Ours equals what was recorded: values and gradients, in float64 and in float32."""
    import asgfn

    with asgfn.enable_x64(True):
        _compare(family, case, F, np.float64, case.tol)
    if case.float32_tol is not None:
        _compare(family, case, F, np.float32, case.float32_tol)


def _compare(family: str, case: Case, F: Any, dtype: Any, tol: float) -> None:
    import asgfn
    import asgfn.numpy as jnp

    recorded = load(family)
    inputs = {k: jnp.asarray(v.astype(dtype) if v.dtype == np.float64 else v) for k, v in case.inputs.items()}
    wanted = {k: inputs[k] for k in case.differentiated()}

    def run(wanted: dict) -> list:
        out = case.ours(F, **{**inputs, **wanted})
        return [o for o in (out if isinstance(out, (tuple, list)) else [out]) if o is not None]

    def weighted(wanted: dict) -> tuple[Any, list]:
        outs = run(wanted)
        total = jnp.zeros((), dtype)
        for i, o in enumerate(outs):
            if jnp.issubdtype(o.dtype, jnp.floating):
                total = total + jnp.sum(o * case.cotangent(i, o.shape).astype(dtype))
        return total, outs

    if wanted:
        (_, outs), grads = asgfn.value_and_grad(weighted, has_aux=True)(wanted)
    else:
        outs, grads = run(wanted), {}
    for i, o in enumerate(outs):
        _assert_close(f"{case.name}: out {i}", o, recorded[f"{case.name}: out {i}"], tol)
    assert f"{case.name}: out {len(outs)}" not in recorded, f"{case.name}: the reference has more outputs"
    for k, g in grads.items():
        _assert_close(f"{case.name}: gradient of {k}", g, recorded[f"{case.name}: gradient of {k}"], tol)


def _assert_close(what: str, found: Any, expected: np.ndarray, tol: float) -> None:
    found = np.asarray(found)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected, err_msg=what)
        return
    finite = expected[np.isfinite(expected)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    np.testing.assert_allclose(
        found.astype(np.float64), expected, rtol=tol, atol=tol * max(largest, 1e-30), err_msg=what
    )
