"""Reduction regions on the device, against the NumPy backend: softmax, norms, losses, statistics, and their gradients."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.transforms.fuse import fuse_graph
from backends.kernels.loops import find_loops
from backends.kernels.lowering import lower
from backends.kernels.schedules.rows_cut import by_result, chain
from backends.kernels.target import Target
from tests.kernel_checks import needs_device
from tests.kernel_runner import device, run_graph, run_plan

needs_device()

PLAIN = Target()
SUBGROUPS = Target(subgroup=(4, 128))
SMALL = Target(workgroup_threads=64, workgroup_bytes=2048)
LARGE = Target(workgroup_threads=1024, workgroup_bytes=32768, subgroup=(4, 8), buffers=32)
TARGETS = {"plain": PLAIN, "subgroups": SUBGROUPS, "small": SMALL, "large": LARGE}


def targets():
    """Those that the device can be: subgroup operations are not everywhere, nor are large workgroups."""
    limits = device().limits
    threads = limits["max-compute-invocations-per-workgroup"]
    has_subgroups = "subgroup" in device().features
    return {
        name: t
        for name, t in TARGETS.items()
        if t.workgroup_threads <= threads and (has_subgroups or not t.subgroup[1])
    }


def values(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(f, *args, target=PLAIN, rtol=1e-5):
    """f on the device is f by NumPy: to this tolerance of each element, or of the largest one."""
    asg = asgfn.trace(f)(*map(jnp.asarray, args))
    expected = asgfn.get_backend("numpy").compile(asg)(list(args))
    results = run_graph(asg, args, target)
    assert run_graph.host == []
    for result, want in zip(results, expected, strict=True):
        want = np.asarray(want)
        if want.dtype.kind in "iub":
            np.testing.assert_array_equal(result, want)
        else:
            finite = np.abs(want[np.isfinite(want)].astype(np.float64))
            np.testing.assert_allclose(
                result.astype(np.float64),
                want.astype(np.float64),
                rtol=rtol,
                atol=rtol * float(finite.max(initial=0)) + 1e-7,
            )


def plans(f, *args, target=PLAIN):
    """The plan of each region of f."""
    asg = fuse_graph(asgfn.trace(f)(*map(jnp.asarray, args)))
    return [lower(node, [asg.value_types[i] for i in node.inputs], target) for node in asg.nodes]


def kernels(f, *args, target=PLAIN):
    return sum(len(plan.stages) for plan in plans(f, *args, target=target))


# ---------------------------------------------------------------------------------------------- what people write
def layer_norm(x, scale, shift):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + shift


def batch_norm(x):
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(((x - mean) ** 2).mean(axes, keepdims=True) + 1e-5)


def cross_entropy(logits, labels):
    return -jnp.mean(jnp.sum(nn.one_hot(labels, logits.shape[-1]) * nn.log_softmax(logits), axis=-1))


def gradient(f):
    """Of a function of the first argument, against weights that differ from element to element."""

    def weighted(x, *rest):
        y = f(x, *rest)
        return (y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)).sum()

    return asgfn.grad(weighted)


ALONG_ROWS = {
    "softmax": lambda x, axis: nn.softmax(x, axis=axis),
    "log softmax": lambda x, axis: nn.log_softmax(x, axis=axis),
    "logsumexp": lambda x, axis: nn.logsumexp(x, axis=axis),
    "variance": lambda x, axis: x.var(axis),
    "several": lambda x, axis: (x.sum(axis), x.max(axis), (x * x).mean(axis), x - x.min(axis, keepdims=True)),
    "argmax": lambda x, axis: jnp.argmax(x, axis),
    "product": lambda x, axis: (1 + x / 100).prod(axis),
    "softmax's gradient": lambda x, axis: gradient(lambda y: nn.softmax(y, axis=axis))(x),
    "maximum's gradient": lambda x, axis: gradient(lambda y: y.max(axis))(x),
    "norm's gradient": lambda x, axis: gradient(lambda y: y / jnp.sqrt((y * y).sum(axis, keepdims=True) + 1))(x),
}
SHAPES = [(1, 7), (300, 1), (33, 10), (7, 64), (2, 5003), (70, 300)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("target", TARGETS)
def test_programs_along_either_axis(shape, target):
    """Every program at every shape, with the targets taking turns at the programs."""
    if target not in targets():
        pytest.skip(f"the device cannot be {target!r}")
    turn = list(TARGETS).index(target) + SHAPES.index(shape)
    for k, f in enumerate(ALONG_ROWS.values()):
        axis = (k + turn) % 2
        if k % len(TARGETS) == turn % len(TARGETS):
            check(lambda x, f=f, axis=axis: f(x, axis), values(*shape), target=targets()[target], rtol=2e-5)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_axes_in_all_positions(axes):
    x = values(6, 17, 12)
    check(lambda x: (x - x.mean(axes, keepdims=True)) / jnp.exp(x).sum(axes, keepdims=True), x)


def test_layer_norm_and_its_gradients():
    x, scale, shift = values(37, 48), values(48, seed=1), values(48, seed=2)
    for target in targets().values():
        check(layer_norm, x, scale, shift, target=target, rtol=2e-5)
    gradients = asgfn.grad(lambda *a: (layer_norm(*a) * jnp.sin(a[0])).sum(), (0, 1, 2))
    check(gradients, x, scale, shift, rtol=1e-4)


@pytest.mark.parametrize("shape", [(32, 10), (1, 3), (130, 65), (600, 300)], ids=str)
def test_cross_entropy_and_its_gradient(shape):
    labels = np.random.default_rng(1).integers(0, shape[1], shape[0]).astype(np.int32)
    for target in (PLAIN, targets().get("subgroups", SMALL)):
        check(asgfn.value_and_grad(cross_entropy), 5 * values(*shape), labels, target=target)


def test_batch_norm():
    check(batch_norm, values(8, 5, 6, 6))
    check(gradient(batch_norm), values(4, 3, 8, 8), rtol=1e-4)
    check(batch_norm, values(16, 6, 64, 64))  # long rows: each sum is two kernels


# ---------------------------------------------------------------------------------------------- views inside
VIEWS = {
    "transposed": lambda x: x.T,
    "reversed": lambda x: x[::-1, ::2],
    "sliced": lambda x: x[1:, 3:],
    "padded": lambda x: jnp.pad(x, ((1, 2), (0, 3)), constant_values=0.5),
    "masked": lambda x: jnp.where(jnp.arange(x.shape[1]) <= jnp.arange(x.shape[0])[:, None], x, -jnp.inf),
    "joined": lambda x: jnp.concatenate([x, 2 * x], axis=1),
    "heads": lambda x: x.reshape(x.shape[0], 4, -1).transpose(1, 0, 2),
    "broadcast": lambda x: x[:, None, :] + x[None, :, :],
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_inside(view):
    for axis in (0, -1):
        check(lambda x, axis=axis: nn.softmax(VIEWS[view](x), axis=axis), values(20, 36))


# ---------------------------------------------------------------------------------------------- extreme elements
def test_nan_and_infinity():
    x = values(6, 500)
    x[0, 3], x[1, 499], x[2, 0], x[3, 7], x[4] = np.nan, np.inf, -np.inf, np.nan, -np.inf
    x[3, 8] = np.inf
    for axis in (0, 1):
        check(lambda x, axis=axis: (x.max(axis), x.min(axis), jnp.argmax(x, axis), jnp.argmin(x, axis)), x)
        check(lambda x, axis=axis: (x.sum(axis), nn.softmax(x, axis=axis)), x)


def test_the_first_of_equal_elements_wins():
    x = np.zeros((3, 4000), np.float32)
    x[1, [17, 900, 3999]] = 1
    x[2, [5, 6]] = np.nan
    x[0, ::2] = -0.0
    for target in targets().values():
        check(lambda x: (jnp.argmax(x, 1), jnp.argmin(-x, 1)), x, target=target)
        check(lambda x: jnp.argmax(x, 0), np.ascontiguousarray(x.T), target=target)


def test_a_softmax_of_large_numbers():
    check(lambda x: nn.softmax(x), 1e4 * values(9, 333))
    check(lambda x: nn.logsumexp(x, axis=-1), 1e38 * np.sign(values(9, 333)))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "bool"])
def test_integers(dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 120, (23, 70)).astype(dtype)
    functions = [lax.reduce_and, lax.reduce_or, lax.reduce_xor, lax.reduce_max, lax.reduce_min]
    if dtype != "bool":
        functions += [lax.reduce_sum, lax.reduce_prod]
    for axis in (0, 1):
        check(lambda x, axis=axis: [f(x, (axis,)) for f in functions], x, target=targets().get("subgroups", PLAIN))
        check(lambda x, axis=axis: (lax.argmax(x, axis, np.int32), lax.argmin(x, axis, np.int32)), x)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_floats_are_summed_in_32_bits(dtype):
    dtype = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    x = np.full((3, 4096), 0.25, dtype)  # in the dtype itself, bfloat16 sums stop growing at 64
    (result,) = run_graph(asgfn.trace(lambda x: lax.reduce_sum(x, (1,)))(jnp.asarray(x)), [x])
    np.testing.assert_array_equal(result.astype(np.float32), 1024)
    check(lambda x: (lax.reduce_max(x, (1,)), lax.argmax(x, 1, np.int32)), values(5, 300, dtype=dtype))


# ---------------------------------------------------------------------------------------------- large ones
def test_everything_summed_in_two_stages():
    x = values(1000, 333) + 1
    assert kernels(lambda x: x.sum(), x) == 2
    check(lambda x: x.sum(), x)
    check(lambda x: (x.max(), jnp.sqrt((x * x).sum())), x, target=targets().get("subgroups", PLAIN))
    check(lambda x: jnp.argmax(x.ravel()), x)


@pytest.mark.parametrize("columns", [3, 64, 257])
def test_column_sums_of_tall_matrices(columns):
    x = values(4000, columns)
    check(lambda x: (x * 2 + 1).sum(0), x)
    assert kernels(lambda x: x.sum(0), values(1 << 16, columns)) == 2


def test_dependent_reductions_of_few_long_rows():
    x = values(64, 1 << 16)  # as many as share a region with what follows
    f = lambda x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    (plan,) = plans(f, x)
    assert len(plan.stages) == 5  # two sums in two stages each, and what follows
    assert sum(len(s.kernel.shared) > 0 for s in plan.stages) == 4
    small = values(2, 40000)
    check(lambda x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True), small, rtol=1e-4)


def test_reductions_that_stand_alone():
    asg = asgfn.trace(lambda x: lax.reduce_sum(x, (0,)))(jnp.zeros((300, 8)))
    plan = lower(asg.nodes[0], list(asg.inputs), PLAIN)
    assert plan.stages[0].kernel.shared  # not one thread a column


def test_sums_are_the_same_every_time():
    x = values(3000, 100)
    asg = asgfn.trace(lambda x: (x.sum(), x.sum(0), x.sum(1)))(jnp.asarray(x))
    first, second = run_graph(asg, [x]), run_graph(asg, [x])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


def test_more_rows_than_workgroups_along_an_axis():
    check(lambda x: nn.softmax(x), values(700, 40), target=Target(grid=7))
    check(lambda x: x.sum(0), values(40, 700), target=Target(grid=3))


# ---------------------------------------------------------------------------------------------- rows of rows
def test_reductions_of_row_wise_results():
    check(lambda x: nn.log_softmax(x).mean(1).sum(1), values(5, 30, 20))
    check(lambda x: x.sum(0).max() + x.max(1).sum(), values(30, 20))
    check(lambda x: x - x.sum(1, keepdims=True) / x.sum(1).max(), values(60, 33), target=SMALL)


def test_nested_reductions_that_are_too_large_for_one_workgroup():
    f = asgfn.value_and_grad(lambda x: nn.logsumexp(x, axis=1).mean())
    assert kernels(f, values(8, 4)) == 1
    assert kernels(f, values(4000, 4)) == 2
    check(f, values(4000, 4))


# ---------------------------------------------------------------------------------------------- numbers of kernels
@pytest.mark.parametrize("shape", [(8192, 4096), (512, 64), (64, 50257), (1, 8)], ids=str)
def test_softmax_and_layer_norm_are_one_kernel(shape):
    x, scale = np.zeros(shape, np.float32), np.ones(shape[1], np.float32)
    for f in (nn.softmax, nn.log_softmax, gradient(nn.softmax), gradient(nn.log_softmax)):
        (plan,) = plans(f, x, target=LARGE)
        assert len(plan.stages) == 1
    for f in (layer_norm, asgfn.grad(lambda *a: layer_norm(*a).sum())):
        (plan,) = plans(f, x, scale, scale, target=LARGE)
        assert len(plan.stages) == 1


def test_cross_entropy_with_its_gradient_is_one_kernel():
    f = asgfn.value_and_grad(cross_entropy)
    assert kernels(f, np.zeros((32, 10), np.float32), np.zeros(32, np.int32)) == 1


def test_a_row_is_read_once():
    """Elements stay in registers from one pass to the next: the kernel has no loop, and loads each of them once."""
    (plan,) = plans(nn.softmax, np.zeros((8192, 4096), np.float32))
    (stage,) = plan.stages
    reads, names = [], [m.name for m in stage.kernel.memories]

    def walk(block):
        for s in block:
            if type(s).__name__ == "Loop":
                raise AssertionError("a loop")
            if type(s).__name__ == "Let" and s.value.op == "load" and s.value.attr[0].name in names:
                reads.append((s.value.args[0], s.value.attr[1]))
            for inner in (getattr(s, "body", []), getattr(s, "otherwise", [])):
                walk(inner)

    walk(stage.kernel.body)
    assert len(reads) == len(set(reads)) == 4096 // stage.kernel.workgroup[0]
    assert {m.width for m in stage.kernel.memories} == {4}


def test_independent_reductions_of_one_array_share_a_pass():
    f = lambda x: (x.max(1), jnp.argmax(x, 1), x.sum(1))
    (plan,) = plans(f, values(300, 500))
    (stage,) = plan.stages
    assert sum(s.__class__.__name__ == "If" for s in stage.kernel.body) <= 4
    check(f, values(300, 500))


# ---------------------------------------------------------------------------------------------- loops
def test_loops_of_regions():
    x = values(40, 50)
    (node,) = fuse_graph(asgfn.trace(nn.softmax)(jnp.asarray(x))).nodes
    loops = find_loops(node.params["asg"])
    assert [r.node.primitive.name for r in loops.reductions] == ["reduce_max", "reduce_sum"]
    assert [r.depth for r in loops.reductions] == [1, 2]
    (row,) = loops.rows
    assert loops.lengths[row] == 40
    # both passes, and the result, run along the same two loops
    assert len(loops.lengths) == 2
    assert {r.operand.loops for r in loops.reductions} == {loops.outputs[0].loops}


def test_a_graph_that_is_not_one_region_has_no_loops():
    asg = asgfn.trace(lambda x: jnp.cumsum(x).sum())(jnp.ones(5))
    assert find_loops(asg) is None


def test_a_region_without_common_loops_is_computed_result_by_result():
    def f(a, b, c, s, t):
        spread = jnp.tanh((a - a.mean()) * b).sum()
        slope = jnp.tanh(s)
        return spread + slope * t + c.mean(), t * (1 - slope * slope)

    args = [values(700, seed=k) for k in range(3)] + [np.float32(0.3), np.float32(-1.2)]
    asg = asgfn.simplify(asgfn.trace(f)(*args))
    assert find_loops(asg) is None
    pieces = by_result(asg)
    assert len(pieces) == 5 and [p.kind for p in pieces] == ["reduction"] * 3 + ["elementwise"] * 2
    plan = chain(asg, pieces, PLAIN)
    found = run_plan(plan, asg.in_types, asg.out_types, args, PLAIN.types)
    for x, y in zip(found, asg(*args), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


def test_a_row_of_one_element_beside_long_ones():
    def f(x, y):
        return x.sum() + y.sum(), (x * x).mean(), jnp.zeros((5, 300))

    for target in targets().values():
        for n in (70_001, 200_000):
            check(f, values(n), values(1, 1, seed=1), target=target)
