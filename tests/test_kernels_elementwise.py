"""Element-wise regions on the device, against the NumPy backend: wide accesses, loop orders, squares of transposed operands."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.transforms.fuse import fuse_graph
from backends.kernels import index as ix
from backends.kernels.lowering import lower
from backends.kernels.target import Target
from tests.kernel_checks import needs_device
from tests.kernel_runner import run_graph

needs_device()


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check(f, *args, target=None):
    asg = asgfn.trace(f)(*map(jnp.asarray, args))
    expected = asgfn.get_backend("numpy").compile(asg)(list(args))
    results = run_graph(asg, args, target)
    assert run_graph.host == []
    for result, want in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, want, rtol=1e-5, atol=1e-6)


def kernel(f, *args, target=None):
    """The only kernel of f."""
    asg = fuse_graph(asgfn.trace(f)(*map(jnp.asarray, args)))
    (node,) = asg.nodes
    (stage,) = lower(node, [asg.value_types[i] for i in node.inputs], target or Target()).stages
    return stage.kernel


def widths(k):
    return {m.name: m.width for m in k.memories}


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1024,), (1023,), (3, 341), (64, 64), (5, 1, 260)], ids=str)
def test_shapes(shape):
    check(lambda x, y: (nn.gelu(x) * 2 + y, x > y), values(*shape), values(*shape, seed=1))


def test_four_neighbours_at_a_time():
    x = np.zeros((64, 64), np.float32)
    assert widths(kernel(lambda x: nn.gelu(x) * 2 + 1, x)) == {"in0": 4, "out0": 4}
    assert widths(kernel(lambda x, y: x + y, x, np.zeros(64, np.float32))) == {"in0": 4, "in1": 4, "out0": 4}
    # a column is read once for four neighbours
    assert sorted(widths(kernel(lambda x, y: x * y, x, np.zeros((64, 1), np.float32))).values()) == [1, 4, 4]
    assert widths(kernel(lambda x: x + 1, np.zeros((61, 61), np.float32))) == {"in0": 1, "out0": 1}


@pytest.mark.parametrize("shape", [(32, 32), (64, 96), (68, 36), (132, 200), (33, 64), (64, 30)], ids=str)
def test_transposed_operands(shape):
    check(lambda x, y: x.T + y, values(*shape), values(*shape[::-1], seed=1))
    check(lambda x: (x * 2, x.T + 1), values(*shape))


def test_a_transpose_reads_and_writes_neighbours():
    k = kernel(lambda x: x.T + 1, np.zeros((512, 256), np.float32))
    assert widths(k) == {"in0": 4, "out0": 4}
    assert k.grid == (4 * 8, 1, 1)


def test_axes_of_several_orders():
    x = values(6, 40, 64)
    check(lambda x: x.transpose(2, 0, 1) * 2, x)
    check(lambda x: x.transpose(1, 0, 2) * 2, x)
    check(lambda x, y: x.transpose(0, 2, 1) + y, x, values(6, 64, 40, seed=1))
    check(lambda x: (x + 1, (x + 1).transpose(2, 1, 0), (x + 1).reshape(240, 64)), x)


def test_values_of_several_outputs_are_computed_once():
    def f(x):
        y = lax.exp(x)
        return y, y.T

    k = kernel(f, np.zeros((64, 64), np.float32))
    loads = []

    def walk(block):
        for s in block:
            if type(s).__name__ == "Let" and s.value.op == "load":
                loads.append((s.value.args[0], s.value.attr[1]))
            walk(getattr(s, "body", []))

    walk(k.body)
    assert len(loads) == len(set(loads)) == 16


def test_pieces_and_borders():
    x = values(40, 60)
    check(lambda x: jnp.concatenate([x, x[:, 1:] * 2, x[:, :1]], 1) + 1, x)
    check(lambda x: jnp.pad(x, ((1, 2), (3, 1))) * 2, x)
    check(lambda x: x[2:, 4:] * x[:-2, :-4], x)
    check(lambda x: x[::-1, ::2] + 1, x)


def test_small_grids():
    check(lambda x: x * 2 + 1, values(5000), target=Target(grid=3))
    check(lambda x: x.T + 1, values(96, 200), target=Target(grid=3))


def test_digits_of_a_shifted_index_join_to_it():
    x = ix.axis("x", 64) + 64
    assert x.digit(97) * 97 + x.digit(1, 97) == x
    assert ix.linear(ix.coordinates(x, (2, 97)), (2, 97)) == x
