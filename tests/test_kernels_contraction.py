"""Matrix products on the software GPU: every schedule, layout and type, with what is done before and after."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.records import replace
from backends.kernels import index as ix
from backends.kernels.autotune import Problem, candidates, choose, seconds
from backends.kernels.schedules.contraction import Region, plan
from backends.kernels.schedules.contraction_schedules import problem_of, scheduled
from backends.kernels.schedules.tiles import Direct, Skinny, Tile
from backends.kernels.target import Target
from backends.kernels.types import Types
from tests.kernel_runner import device, run_graph, run_plan

pytest.importorskip("wgpu")
rng = np.random.default_rng(0)
TARGET = Target()

SCHEDULES = [
    Tile(32, 32, 8),
    Tile(32, 32, 16, buffers=2, unroll=8),
    Tile(64, 64, 16, 8, 8, split=3),
    Tile(16, 128, 16, blocks=False),
    Tile(128, 128, 8, 8, 8, buffers=2),
    Tile(32, 64, 16, 8, 4, buffers=2, split=2),
    Skinny(2, 4, 16, 8),
    Skinny(3, 1, 4, 16, split=2),
    Direct(1),
    Direct(4),
]


def sample(*shape, dtype=np.float32):
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) < 0.3
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def oracle(f, args):
    asg = asgfn.trace(f)(*args)
    return asg, asgfn.get_backend("numpy").compile(asg)(list(args))


def close(found, expected, tolerance=2e-4):
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape and a.dtype == b.dtype
        if b.dtype.kind in "biu":
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), tolerance, tolerance)


def check(f, *args, schedule=None, target=TARGET, tolerance=2e-4, stages=None):
    """The plan of a graph that is one region, with a schedule (None: the chosen one), against NumPy."""
    asg, expected = oracle(f, args)
    asg = asgfn.simplify(asg)
    found = plan(asg, target) if schedule is None else scheduled(Region(asg, target.types), schedule, target)
    assert stages is None or len(found.stages) == stages
    for stage in found.stages:
        assert len(stage.kernel.memories) == len(stage.arguments)
        assert np.prod(stage.kernel.workgroup) <= target.workgroup_threads
        shared = sum(4 * m.size * m.width for m in stage.kernel.shared)
        assert shared <= target.workgroup_bytes
    close(run_plan(found, asg.inputs, asg.out_types, args, target.types), expected, tolerance)
    return found


# ---------------------------------------------------------------------------------------------- shapes and layouts
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("m, k, n", [(64, 64, 128), (1, 1, 1), (37, 53, 29), (68, 36, 44), (5, 130, 7)])
def test_schedules(m, k, n, schedule):
    """Also where a schedule is a bad choice, its result is right."""
    if isinstance(schedule, Skinny) and schedule.step > 1 and k % schedule.step:
        pytest.skip("not a schedule for this depth")
    x, y = sample(m, k), sample(k, n)
    check(lambda x, y: x @ y, x, y, schedule=schedule)
    check(lambda x, y: jnp.tanh(x.T @ y.T), sample(k, m), sample(n, k), schedule=schedule)


@pytest.mark.parametrize("transposed", list(itertools.product((False, True), repeat=3)))
@pytest.mark.parametrize("m, k, n", [(64, 32, 96), (33, 100, 50), (3, 96, 80), (80, 96, 2)])
def test_transposes(m, k, n, transposed):
    x = sample(*((k, m) if transposed[0] else (m, k)))
    y = sample(*((n, k) if transposed[1] else (k, n)))

    def f(x, y):
        product = (x.T if transposed[0] else x) @ (y.T if transposed[1] else y)
        return product.T if transposed[2] else product

    check(f, x, y)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 17, 31, 64, 101, 128, 199, 200])
def test_sizes(size):
    for m, k, n in {(size, 40, 24), (24, size, 40), (40, 24, size), (size, size, size)}:
        check(lambda x, y: x @ y, sample(m, k), sample(k, n), tolerance=5e-4)


def test_deep_products_are_split():
    for m, k, n in [(16, 5000, 24), (1, 9000, 3), (33, 4099, 17)]:
        found = check(lambda x, y: x @ y.T, sample(m, k), sample(n, k), tolerance=2e-3)
        assert len(found.stages) == 2 or m == 1


@pytest.mark.parametrize(
    "equation, a, b",
    [
        ("bthd,bshd->bhts", (2, 24, 3, 16), (2, 20, 3, 16)),
        ("bhts,bshd->bthd", (2, 3, 24, 20), (2, 20, 3, 16)),
        ("bthd,bhts->bshd", (2, 24, 3, 16), (2, 3, 24, 20)),
        ("abij,abjk->abik", (3, 5, 4, 6), (3, 5, 6, 7)),
        ("btd,bte->de", (3, 50, 20), (3, 50, 24)),
        ("abc,dcb->ad", (9, 10, 11), (13, 11, 10)),
        ("abc,cdb->dab", (4, 5, 16), (16, 7, 5)),
        ("i,j->ij", (50,), (70,)),
        ("i,i->", (3000,), (3000,)),
        ("ij,j->i", (130, 260), (260,)),
        ("bi,bij->bj", (70, 40), (70, 40, 33)),
    ],
)
def test_einsum(equation, a, b):
    asg, expected = oracle(lambda a, b: jnp.einsum(equation, a, b), args := (sample(*a), sample(*b)))
    close(run_graph(asg, args), expected, 5e-4)


def test_large_grids_are_folded():
    target = Target(grid=5)
    check(lambda x, y: x @ y, sample(130, 20), sample(20, 140), schedule=Tile(32, 32, 8), target=target)
    check(lambda x, y: x @ y, sample(6, 200), sample(200, 140), schedule=Skinny(2, 1, 8, 8), target=target)
    check(lambda x, y: x @ y, sample(50, 8), sample(8, 140), schedule=Direct(), target=target)
    check(lambda x, y: x @ y, sample(13, 8, 12), sample(13, 12, 4), schedule=Tile(32, 32, 8, split=2), target=target)


# ---------------------------------------------------------------------------------------------- types and values
@pytest.mark.parametrize("dtype", ["int32", "int8", "int16", "uint8", "uint32", "bool", "float16", "bfloat16"])
@pytest.mark.parametrize("schedule", [None, Tile(32, 32, 8, split=2), Skinny(2, 1, 8, 8)], ids=str)
def test_dtypes(dtype, schedule):
    dtype = jnp.dtype(dtype)
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype.name, 1e-5)
    half = "shader-f16" in device().features
    for types in {Types(False), Types(half and dtype.name == "float16")}:
        target = Target(types=types)
        args = sample(40, 70, dtype=dtype), sample(70, 36, dtype=dtype)
        check(lambda x, y: lax.dot(x, y), *args, schedule=schedule, target=target, tolerance=tolerance)
        wide = {"f": np.float32, "V": np.float32, "i": np.int32, "u": np.uint32}.get(dtype.kind)
        if wide is not None:
            f = lambda x, y: lax.dot(x, y, preferred_element_type=wide)
            check(f, *args, schedule=schedule, target=target, tolerance=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES[:4] + SCHEDULES[6:8], ids=str)
def test_values_that_are_not_finite(schedule):
    """They reach their own row and column, and nothing else: not through what pads the edges of tiles either."""
    x, y = sample(21, 19), sample(19, 23)
    x[3, 18], x[20, 0], y[18, 22], y[5, 7] = np.inf, np.nan, -np.inf, 1e38
    check(lambda x, y: x @ y, x, y, schedule=schedule)


# ---------------------------------------------------------------------------------------------- prologues, epilogues
def gelu_layer(x, w, bias, residual):
    hidden = x @ w + bias
    return residual + nn.gelu(hidden), hidden


def activation_gradient(ct, w, hidden, scale):
    return (ct * scale) @ w.T * jnp.where(hidden > 0, 1.0, 0.1)


def turned(x, w, bias, heads):
    product = (x @ w + bias).reshape(2, -1, 4, heads).transpose(0, 2, 1, 3)
    return product * 2.0


@pytest.mark.parametrize("schedule", [None, Tile(32, 32, 8), Tile(64, 64, 8, 8, 8, split=2), Direct(4)], ids=str)
@pytest.mark.parametrize("m, k, n", [(32, 24, 64), (50, 37, 28), (26, 65, 33)])
def test_chains(m, k, n, schedule):
    x, w, bias = sample(m, k), sample(k, n), sample(n)
    check(gelu_layer, x, w, bias, sample(m, n), schedule=schedule)
    check(activation_gradient, sample(m, n), sample(k, n), sample(m, k), sample(1, n), schedule=schedule)
    if n % 4 == 0:
        check(lambda *a: turned(*a, n // 4), x, w, bias, schedule=schedule)
    # views of operands: padding, slices, reversal, a concatenation
    check(lambda x, y: jnp.pad(x, ((1, 2), (0, 3))) @ jnp.flip(y[2:], 0), x, sample(k + 5, n), schedule=schedule)
    check(lambda x, y: jnp.concatenate([x, -x], 1) @ y, x, sample(2 * k, n), schedule=schedule)


def test_results_at_other_places_have_a_kernel_of_their_own():
    x, y = sample(40, 33), sample(33, 40)
    found = check(lambda x, y: (x @ y)[1:, ::2] + 1.0, x, y)
    assert len(found.stages) == 2
    found = check(lambda x, y: (lambda p: p + p.T)(x @ y), x, y)
    assert len(found.stages) == 2
    check(lambda x, y: (jnp.exp(x @ y), jnp.sin(y)), x, y)


def test_operands_in_the_epilogue():
    """The same memory is read in two ways, so it can be wide only if both can."""
    x, w = sample(64, 64), sample(64, 64)
    check(lambda x, w: x + x @ w, x, w)
    check(lambda x, w: x.T + x @ w, x, w)
    check(lambda x, w: w[0] + x @ w, x, w)


def test_constants():
    table = sample(32, 48)
    check(lambda x: x @ jnp.asarray(table) + jnp.asarray(table[:1]), sample(40, 32))


# ---------------------------------------------------------------------------------------------- programs
def mlp(params, x, labels):
    for w, b in params[:-1]:
        x = nn.relu(x @ w + b)
    logits = x @ params[-1][0] + params[-1][1]
    return -jnp.mean(jnp.sum(nn.log_softmax(logits) * nn.one_hot(labels, 10), axis=-1))


def block(p, x):
    batch, length, width = x.shape
    h = nn.standardize(x) * p["scale"] + p["shift"]
    q, k, v = (
        t.reshape(batch, length, 4, width // 4).transpose(0, 2, 1, 3) for t in jnp.split(h @ p["qkv"], 3, axis=-1)
    )
    attention = nn.softmax(q @ k.swapaxes(-1, -2) * 0.3)
    x = x + (attention @ v).transpose(0, 2, 1, 3).reshape(batch, length, width) @ p["out"]
    return x + nn.gelu(nn.standardize(x) @ p["up"] + p["bias"]) @ p["down"]


TARGETS = [Target(), Target(workgroup_bytes=32768, workgroup_threads=1024), Target(workgroup_threads=64)]


def contractions_run_as_such(asg):
    """Every contraction of a fused program is in a region that has a plan."""
    from asgfn.transforms.fuse import fuse_graph

    regions = [node.params["asg"] for node in fuse_graph(asg).nodes if node.params.get("kind") == "contraction"]
    assert regions
    for region in regions:
        found = plan(region, TARGET)
        assert found is not None and Region(region, TARGET.types).is_aligned


@pytest.mark.parametrize("target", TARGETS[:2], ids=["16 KiB", "32 KiB"])
def test_mlp(target):
    params = [(sample(a, b) * np.float32(a**-0.5), sample(b)) for a, b in [(50, 64), (64, 32), (32, 10)]]
    args = [*asgfn.tree.leaves(params), sample(24, 50), np.arange(24) % 10]

    def step(*args):
        *flat, x, labels = args
        params = list(zip(flat[::2], flat[1::2]))
        return asgfn.tree.leaves(asgfn.value_and_grad(mlp)(params, x, labels))

    asg, expected = oracle(step, args)
    contractions_run_as_such(asg)
    close(run_graph(asg, args, target), expected, 1e-4)


def test_transformer_block():
    d = 32
    shapes = {
        "scale": (d,),
        "shift": (d,),
        "qkv": (d, 3 * d),
        "out": (d, d),
        "up": (d, 4 * d),
        "bias": (4 * d,),
        "down": (4 * d, d),
    }
    p = {name: sample(*shape) * 0.2 for name, shape in shapes.items()}
    args = [*asgfn.tree.leaves(p), sample(2, 12, d)]
    names = sorted(shapes)

    def step(*args):
        *flat, x = args
        loss = lambda p, x: jnp.mean(block(p, x) ** 2)
        return asgfn.tree.leaves(asgfn.value_and_grad(loss, (0, 1))(dict(zip(names, flat)), x))

    asg, expected = oracle(step, args)
    contractions_run_as_such(asg)
    close(run_graph(asg, args), expected, 1e-3)


# ---------------------------------------------------------------------------------------------- choices
@pytest.mark.parametrize("target", TARGETS, ids=["256", "1024", "64"])
@pytest.mark.parametrize(
    "batch, m, n, k",
    [(1, 4096, 4096, 4096), (1, 1024, 1024, 1024), (1, 784, 512, 128), (1, 128, 10, 512), (1, 384, 384, 8192),
     (192, 256, 256, 64), (1, 1, 50257, 768), (64, 1, 9, 12544), (1, 9, 9, 9), (1, 4096, 4096, 1), (1, 16, 1 << 20, 27)],
)  # fmt: skip
def test_candidates_fit(batch, m, n, k, target):
    problem = Problem(batch, m, n, k)
    found = candidates(problem, target)
    assert found and len(set(found)) == len(found)
    for s in found:
        assert seconds(problem, s) > 0
        if not isinstance(s, Direct):
            assert s.threads <= target.workgroup_threads
        if isinstance(s, Tile):
            assert s.shared_bytes <= target.workgroup_bytes
    assert choose(problem, target) == found[0]
    assert choose(problem, target, {found[-1]: 1e-6, found[0]: 2e-6}) == found[-1]


def test_choices_are_sensible():
    big = choose(Problem(1, 4096, 4096, 4096), TARGET)
    assert (big.rows, big.columns, big.thread_rows, big.split) == (128, 128, 8, 1)
    deep = choose(Problem(1, 384, 384, 8192), TARGET)
    assert deep.split > 1
    assert isinstance(choose(Problem(1, 1, 50257, 768), TARGET), Skinny)
    assert isinstance(choose(Problem(1, 4096, 4096, 1), TARGET), Direct)


def test_measurements_decide():
    x, y = sample(64, 64), sample(64, 64)
    asg = asgfn.simplify(asgfn.trace(lambda x, y: x @ y)(x, y))
    problem = problem_of(Region(asg, TARGET.types))
    wanted = Tile(32, 32, 8, split=2)
    measured = replace(TARGET, measured={problem.key(): {wanted: 1e-6, Tile(64, 64, 16): 2e-6}})
    assert len(plan(asg, measured).stages) == 2
    assert len(plan(asg, replace(measured, buffers=2)).stages) == 1  # partial sums would be one memory too many


def test_what_has_no_plan():
    x = np.ones((4, 4))
    with asgfn.enable_x64():
        asg = asgfn.simplify(asgfn.trace(lambda x: x @ x)(x))
    assert plan(asg, TARGET) is None


def test_indices_of_neighbours_join_again():
    """What a window takes apart is put together again, also where a digit lost a part that does not change it."""
    group = ix.axis("group", 18)
    for lane in range(4):
        place = group * 4 + lane
        assert ix.linear(ix.coordinates(place, (8, 3, 3)), (8, 3, 3)) == place
