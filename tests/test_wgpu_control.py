"""How the wgpu backend runs loops and branches; their results are tested in `test_compiled_control.py`."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from backends.programs.steps import Branch, Download, Loop, While
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.test_compiled_control import doubled, heavy, power
from tests.wgpu_checks import array, check, is_native, steps

pytestmark = pytest.mark.usefixtures("gpu")
rng = np.random.default_rng(3)


def test_scan_of_many_steps_has_numbered_rows() -> None:
    xs = array(rng, 9000, 2) * 0.1  # more rows than one of the tables of row numbers has
    compiled = check(lambda xs: lax.scan(lambda c, x: (jnp.tanh(c + x), c[0]), jnp.zeros(2), xs), xs)
    assert is_native(compiled)
    assert next(s for s in steps(compiled) if isinstance(s, Loop)).numbered


def test_while_is_guarded_on_the_device_unless_it_calls_python() -> None:
    compiled = check(power, 1 + 0.01 * array(rng, 3), jnp.int32(7), rtol=1e-4)
    assert any(isinstance(s, While) and s.guard is not None for s in steps(compiled))
    compiled = check(lambda x: lax.while_loop(lambda c: c.sum() < 100, doubled, x), jnp.ones(3))
    assert any(isinstance(s, While) and s.guard is None for s in steps(compiled))


@pytest.mark.parametrize("p", [True, False])
def test_branch_is_chosen_on_the_device(p: bool) -> None:
    compiled = check(heavy, jnp.asarray(p), array(rng, 6))
    assert not any(isinstance(s, (Branch, Download)) for s in steps(compiled))
    assert len(asgfn.jit(heavy, backend="wgpu").lower(jnp.asarray(p), array(rng, 6)).compile().kernels) > 1
