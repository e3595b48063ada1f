"""Independent regions in one kernel, against the NumPy backend."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import nn
from asgfn.transforms.fuse import fuse_graph
from backends.kernels.lowering import lower
from backends.kernels.target import Target
from tests.kernel_checks import needs_device
from tests.kernel_runner import run_graph

needs_device()
WIDE = Target(buffers=32)
rng = np.random.default_rng(0)


def values(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def check(f, *args, target=WIDE, rtol=1e-5):
    """f on the device is f by NumPy. Returns the kernels of each region."""
    asg = asgfn.trace(f)(*map(jnp.asarray, args))
    expected = asgfn.get_backend("numpy").compile(asg)(list(args))
    results = run_graph(asg, args, target)
    assert run_graph.host == []
    for result, want in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, want, rtol=rtol, atol=rtol * float(np.abs(want).max(initial=0)) + 1e-7)
    fused = fuse_graph(asg)
    return [
        (node.params["kind"], lower(node, [fused.value_types[i] for i in node.inputs], target).stages)
        for node in fused.nodes
    ]


def adam(params, grads, first, second):
    """One step of Adam for some parameters."""
    first = [0.9 * m + 0.1 * g for m, g in zip(first, grads, strict=True)]
    second = [0.99 * v + 0.01 * g * g for v, g in zip(second, grads, strict=True)]
    params = [p - 0.1 * m / (jnp.sqrt(v) + 1e-8) for p, m, v in zip(params, first, second, strict=True)]
    return params, first, second


def test_an_optimiser_step_is_one_kernel():
    shapes = [(10, 7), (7,), (64, 64), (3, 5, 300)]
    args = [values(*s) for s in shapes * 3] + [np.abs(values(*s)) for s in shapes]

    def step(*args):
        n = len(shapes)
        return adam(args[:n], args[n : 2 * n], args[2 * n : 3 * n], args[3 * n :])

    ((kind, stages),) = check(step, *args)
    assert kind == "group"
    assert len(stages) == 1
    # a whole number of workgroups for each parameter
    assert stages[0].kernel.grid == (1 + 1 + 64 * 64 // 1024 + -(-4500 // 1024), 1, 1)


@pytest.mark.parametrize("buffers", [4, 8, 10])
def test_no_more_memories_than_the_device_has(buffers):
    args = [values(n, 3) for n in range(1, 20)]
    ((_, stages),) = check(lambda *a: [x * 2 + 1 for x in a], *args, target=Target(buffers=buffers))
    assert all(len(s.arguments) <= buffers for s in stages)
    assert len(stages) == -(-len(args) // (buffers // 2))


def test_reductions_and_element_wise_regions():
    x, y, z = values(40, 30), values(50, 64), values(7, 300)

    def f(x, y, z):
        return x * 2 + 1, nn.softmax(y), z.sum(0), (z * 2).max(1), jnp.exp(y).sum()

    regions = check(f, x, y, z)
    assert [len(stages) for _, stages in regions] == [1]
    check(f, x, y, z, target=Target(buffers=32, subgroup=(4, 4)))
    check(f, x, y, z, target=Target(buffers=32, workgroup_threads=128, workgroup_bytes=4096))


def test_an_array_is_read_once_by_reductions_along_the_same_axes():
    x = values(90, 200)
    ((_, (stage,)),) = check(lambda x: (x.max(1), x.sum(1), jnp.argmax(x, 1), (x * x).sum(1)), x)
    alone = lower_one(lambda x: x.max(1), x)
    assert stage.kernel.grid == alone.kernel.grid
    # along others it is read again
    check(lambda x: (x.max(1), x.sum(0)), x)


def lower_one(f, x):
    asg = fuse_graph(asgfn.trace(f)(jnp.asarray(x)))
    (stage,) = lower(asg.nodes[0], list(asg.inputs), WIDE).stages
    return stage


def test_long_reductions_share_their_two_kernels():
    x, y, z = values(300, 1000), values(40), values(9000, 7)
    regions = check(lambda x, y, z: (x.sum(), y * 2, jnp.sqrt((z * z).sum(0)), jnp.argmax(z.T, 1)), x, y, z)
    assert [len(stages) for _, stages in regions] == [2]


def test_more_workgroups_than_fit_along_an_axis():
    args = [values(700 + n) for n in range(5)]
    check(lambda *a: [x * 2 + 1 for x in a] + [a[0].sum()], *args, target=Target(buffers=32, grid=4))


def test_nested_reductions_share_the_memory_of_a_workgroup():
    def loss(x):
        return nn.logsumexp(x, axis=1).mean()

    args = [values(n, 9) for n in (130, 200, 160)]
    ((_, stages),) = check(lambda *a: [loss(x) for x in a], *args, target=Target(buffers=32, workgroup_bytes=4096))
    assert len(stages) > 1
    assert all(sum(m.size * 4 for m in s.kernel.shared) <= 4096 for s in stages)
