"""Attention: found in graphs that spell it out, and computed in tiles on the device, against the NumPy backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import lax, nn, random, tree
from asgfn.graph.asg import Asg
from backends.kernels.attention_form import Form
from backends.kernels.attention_match import recognise
from backends.kernels.lowering import lower
from backends.kernels.schedules.attention_tiles import backward_tiling, forward_tiling
from backends.kernels.target import Target
from backends.kernels.types import Types
from nn_fn import functional as F
from nn_fn.layers import padding_mask
from tests.kernel_checks import needs_device
from tests.kernel_runner import device, run_graph

needs_device()

SMALL = Target()
LARGE = Target(workgroup_bytes=49152, buffers=12)
sdpa = F.scaled_dot_product_attention
rng = np.random.default_rng(7)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def qkv(
    batch: int = 2, heads: int = 3, queries: int = 9, keys: int = 11, size: int = 8, value_size: int | None = None
) -> tuple[np.ndarray, ...]:
    value_size = size if value_size is None else value_size
    return (
        normal(batch, heads, queries, size),
        normal(batch, heads, keys, size),
        normal(batch, heads, keys, value_size),
    )


def gradients(f: Callable, count: int = 3) -> Callable:
    """Value and gradients of the sum of squares of a function's result."""
    return asgfn.value_and_grad(lambda *args: (f(*args).astype(np.float32) ** 2).sum(), argnums=tuple(range(count)))


def graphs(f: Callable, *args: Any, target: Target = LARGE) -> tuple[Asg, Asg]:
    """A function's graph, and the same with attention as single nodes."""
    asg = asgfn.simplify(asgfn.trace(f)(*args))
    return asg, recognise(asg, target)


def counts(asg: Asg) -> tuple[int, int, int]:
    """Numbers of nodes: attention, its gradient, other products; in bodies of loops too."""
    found: Counter[str] = Counter()
    stack = [asg]
    while stack:
        graph = stack.pop()
        found.update(node.primitive.name for node in graph.nodes)
        stack += graph.inner
    return found["attention"], found["attention_gradient"], found["dot_general"]


def run_numpy(asg: Asg, args: Any) -> list[np.ndarray]:
    leaves = [np.asarray(x) for x in tree.leaves(args)]
    return [np.asarray(x) for x in asgfn.get_backend("numpy").compile(asg)(leaves)]


def assert_found(f: Callable, *args: Any, wanted: tuple[int, int], left: int = 0, target: Target = LARGE) -> Asg:
    """Asserts how many attentions and gradients are found and how many products are left, and that nothing changes."""
    asg, found = graphs(f, *args, target=target)
    assert counts(found) == (*wanted, left)
    found.validate()
    for x, y in zip(run_numpy(found, args), run_numpy(asg, args), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x.astype(np.float32), y.astype(np.float32), rtol=1e-5, atol=1e-5)
    return found


def assert_left(f: Callable, *args: Any, target: Target = LARGE) -> None:
    """Asserts that a graph stays as it is."""
    asg, found = graphs(f, *args, target=target)
    assert found is asg


def assert_computed(f: Callable, *args: Any, target: Target = LARGE, tolerance: float = 1e-5) -> None:
    """Asserts that attention is found, runs on the device, and gives what the plain program gives with NumPy."""
    asg, found = graphs(f, *args, target=target)
    assert counts(found)[0] and not counts(found)[2]
    leaves = [np.asarray(x) for x in tree.leaves(args)]
    results = run_graph(found, leaves, target=target)
    assert not run_graph.host  # type: ignore[attr-defined]
    for x, y in zip(results, run_numpy(asg, args), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        scale = float(np.max(np.abs(y[np.isfinite(y)]), initial=1.0))
        np.testing.assert_allclose(x.astype(np.float32), y.astype(np.float32), rtol=0, atol=tolerance * scale)


def forms(asg: Asg) -> list[Form]:
    return [node.params["form"] for node in asg.nodes if "form" in node.params]


# ---------------------------------------------------------------------------------------------- what is found
def by_matmul(q: Any, k: Any, v: Any) -> Any:
    return nn.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])) @ v


def by_einsum(q: Any, k: Any, v: Any) -> Any:
    weights = nn.softmax(jnp.einsum("bhtd,bhsd->bhts", q * 0.3, k))
    return jnp.einsum("bhts,bhsd->bthd", weights, v)


def triangle(scores: Any) -> Any:
    return jnp.tril(jnp.ones(scores.shape[-2:], bool))


def with_added_mask(q: Any, k: Any, v: Any) -> Any:
    scores = q @ k.swapaxes(-1, -2)
    return nn.softmax(scores * 0.25 + jnp.where(triangle(scores), 0.0, -jnp.inf)) @ v


def with_chosen_mask(q: Any, k: Any, v: Any) -> Any:
    scores = q @ k.swapaxes(-1, -2)
    return nn.softmax(jnp.where(triangle(scores), scores, jnp.finfo(scores.dtype).min)) @ v


def with_where(q: Any, k: Any, v: Any) -> Any:
    scores = q @ k.swapaxes(-1, -2)
    return nn.softmax(scores, where=triangle(scores)) @ v


def capped(q: Any, k: Any, v: Any) -> Any:
    return nn.softmax(jnp.tanh(q @ k.swapaxes(-1, -2) / 5) * 5) @ v


def one_head_at_a_time(q: Any, k: Any, v: Any) -> Any:
    return asgfn.vmap(asgfn.vmap(lambda q, k, v: nn.softmax(q @ k.T / 3.0) @ v))(q, k, v)


PLAIN: dict[str, Callable] = {
    "sdpa": sdpa,
    "causal": lambda q, k, v: sdpa(q, k, v, is_causal=True),
    "matmul": by_matmul,
    "einsum": by_einsum,
    "added mask": with_added_mask,
    "chosen mask": with_chosen_mask,
    "where": with_where,
    "capped": capped,
    "vmap": one_head_at_a_time,
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("shape", [(2, 3), (1, 2), (2, 1), (1, 1)])
def test_expressions(name: str, shape: tuple[int, int]) -> None:
    args = qkv(*shape)
    assert_found(PLAIN[name], *args, wanted=(1, 0))
    assert_found(gradients(PLAIN[name]), *args, wanted=(1, 1))


@pytest.mark.parametrize(
    ("options", "band"),
    [
        ({}, (None, None)),
        ({"is_causal": True}, (None, 0)),
        ({"local_window_size": (3, 2)}, (-3, 2)),
        ({"is_causal": True, "local_window_size": 4}, (-4, 0)),
        # a row may be all masked, and then sees all keys equally
        ({"is_causal": True, "key_value_seq_lengths": np.array([3, 9], np.int32)}, (None, None)),
        ({"query_seq_lengths": np.array([3, 9], np.int32)}, (None, None)),
        ({"mask": rng.random((2, 1, 9, 9)) > 0.5}, (None, None)),
        ({"bias": rng.standard_normal((1, 4, 9, 9)).astype(np.float32)}, (None, None)),
    ],
)
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_dot_product_attention(options: dict, band: tuple, groups: int) -> None:
    q, k, v = normal(2, 9, 4, 8), normal(2, 9, groups, 8), normal(2, 9, groups, 8)
    found = assert_found(
        gradients(lambda q, k, v: nn.dot_product_attention(q, k, v, **options)), q, k, v, wanted=(1, 1)
    )
    assert [form.band for form in forms(found)] == [band, band]


def test_bands_of_masks() -> None:
    q, k, v = qkv()
    hidden = rng.random((9, 11)) > 0.5
    for f, band in (
        (lambda q, k, v: sdpa(q, k, v, hidden, is_causal=True), (None, 0)),
        (with_added_mask, (None, 0)),
        (lambda q, k, v: sdpa(q, k, v, jnp.arange(11) < jnp.arange(9)[:, None] + 3), (None, 2)),
        (lambda q, k, v: sdpa(q, k, v, jnp.arange(9)[:, None] - 2 <= jnp.arange(11)), (-2, None)),
        (lambda q, k, v: sdpa(q, k, v, hidden), (None, None)),
        (lambda q, k, v: by_matmul(q, k, v), (None, None)),
    ):
        _, found = graphs(f, q, k, v)
        assert [form.band for form in forms(found)] == [band]


def test_grouped_queries() -> None:
    q, (_, k, v) = normal(2, 6, 9, 8), qkv(2, 3)
    assert_found(gradients(lambda q, k, v: sdpa(q, k, v, is_causal=True, enable_gqa=True)), q, k, v, wanted=(1, 1))


def test_without_axes_of_heads() -> None:
    assert_found(
        gradients(lambda q, k, v: nn.softmax(q @ k.T) @ v), normal(9, 8), normal(7, 8), normal(7, 4), wanted=(1, 1)
    )


def test_gradients_of_some_operands() -> None:
    q, k, v = qkv()
    for numbers in ((0,), (1,), (0, 1), (1, 2), (0, 2)):
        f = asgfn.value_and_grad(lambda q, k, v: (sdpa(q, k, v) ** 2).sum(), argnums=numbers)
        assert_found(f, q, k, v, wanted=(1, 1))


def test_masks_of_positions_are_no_operands() -> None:
    q, k, v = qkv()
    lengths = np.array([3, 8])
    _, found = graphs(lambda q, k, v: sdpa(q, k, v, is_causal=True), q, k, v)
    assert [len(node.inputs) for node in found.nodes] == [3]
    _, found = graphs(lambda q, k, v, n: sdpa(q, k, v, padding_mask(n, 11)), q, k, v, lengths)
    assert [len(n.inputs) for n in found.nodes if n.primitive.name == "attention"] == [4]


def test_half_precision() -> None:
    q, k, v = (x.astype(np.float16) for x in qkv())
    _, found = graphs(gradients(sdpa), q, k, v)
    assert counts(found) == (1, 1, 0)


# ---------------------------------------------------------------------------------------------- what is not
def test_weights_that_are_needed_stay() -> None:
    q, k, v = qkv()

    def weights(q: Any, k: Any) -> Any:
        return nn.softmax(q @ k.swapaxes(-1, -2))

    assert_left(lambda q, k, v: (weights(q, k), weights(q, k) @ v), q, k, v)
    assert_left(lambda q, k, v: (weights(q, k).sum((0, 1, 3)), weights(q, k) @ v), q, k, v)
    assert_left(lambda q, k, v: (weights(q, k) @ v, weights(q, k) @ (v + 1)), q, k, v)
    assert_left(lambda q, k, v: ((q @ k.swapaxes(-1, -2)).max(), weights(q, k) @ v), q, k, v)


def test_what_is_no_attention_stays() -> None:
    q, k, v = qkv(keys=9, queries=9)

    def scores(q: Any, k: Any) -> Any:
        return q @ k.swapaxes(-1, -2)

    assert_left(lambda q, k, v: nn.softmax(scores(q, k), axis=-2) @ v, q, k, v)
    assert_left(lambda q, k, v: nn.softmax(scores(q, k) + scores(k, q)) @ v, q, k, v)
    assert_left(lambda q, k, v: nn.sigmoid(scores(q, k)) @ v, q, k, v)
    assert_left(lambda q, k, v: nn.softmax(scores(q, k)) ** 2 @ v, q, k, v)
    assert_left(lambda q, k, v: sdpa(q, k, v, None, 0.5, dropout_key=random.key(0)), q, k, v)

    def of_another_maximum(q: Any, k: Any, v: Any) -> Any:
        s = scores(q, k)
        e = jnp.exp(s - lax.stop_gradient(jnp.max(s * 2, -1, keepdims=True)))
        return e / e.sum(-1, keepdims=True) @ v

    assert_left(of_another_maximum, q, k, v)


def test_a_changed_gradient_stays() -> None:
    q, k, v = qkv()

    @asgfn.custom_vjp
    def attention(q: Any, k: Any, v: Any) -> Any:
        return by_matmul(q, k, v)

    def forward(q: Any, k: Any, v: Any) -> Any:
        weights = nn.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(8))
        return weights @ v, (q, k, v, weights)

    def backward(factor: float) -> Callable:
        def rule(kept: Any, g: Any) -> Any:
            q, k, v, weights = kept
            change = g @ v.swapaxes(-1, -2)
            change = weights * (change - factor * (weights * change).sum(-1, keepdims=True)) / np.sqrt(8)
            return change @ k, change.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g

        return rule

    attention.defvjp(forward, backward(1.0))
    assert_found(gradients(attention), q, k, v, wanted=(1, 1))
    attention.defvjp(forward, backward(0.5))
    assert_left(gradients(attention), q, k, v)


def test_a_mask_that_learns_needs_its_gradient() -> None:
    assert_left(gradients(sdpa, 4), *qkv(), normal(9, 11))


def test_limits() -> None:
    assert_left(sdpa, *qkv(size=130))
    assert_left(gradients(sdpa), *qkv(), target=Target(buffers=7))
    assert_left(sdpa, *qkv(), target=Target(workgroup_bytes=256))
    assert_left(sdpa, *qkv(1, 1, 2, 600))
    with asgfn.enable_x64(True):
        assert_left(sdpa, *(x.astype(np.float64) for x in qkv()))


# ---------------------------------------------------------------------------------------------- networks
BLOCKS: dict[str, dict] = {
    "plain": {},
    "causal": {"causal": True},
    "rope": {"causal": True, "rope": True, "kv_heads": 2},
    "alibi": {"causal": True, "alibi": True},
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("batch", [2, 1])
def test_blocks(name: str, batch: int) -> None:
    block = nn_fn.transformer_encoder_block(16, 4, 32, **BLOCKS[name])
    params, _ = block.init(random.key(0))
    x = normal(batch, 9, 16)
    # q, k, v, out and the feed-forward part; twice as many in the backward pass
    assert_found(lambda p, x: block(p, x), params, x, wanted=(1, 0), left=6)
    assert_found(
        asgfn.value_and_grad(lambda p, x: (block(p, x) ** 2).sum(), argnums=(0, 1)), params, x, wanted=(1, 1), left=18
    )


def test_padding() -> None:
    block = nn_fn.transformer_encoder_block(16, 4, 32)
    params, _ = block.init(random.key(0))
    mask = padding_mask(np.array([3, 9]), 9)
    loss = asgfn.value_and_grad(lambda p, x: (block(p, x, mask=mask) ** 2).sum())
    assert_found(loss, params, normal(2, 9, 16), wanted=(1, 1), left=18)


def test_decoding_with_a_cache() -> None:
    block = nn_fn.transformer_encoder_block(16, 4, 32, causal=True)
    params, _ = block.init(random.key(0))

    def step(params: Any, state: Any, x: Any) -> Any:
        return block(params, state, x)

    for new in (1, 3):
        assert_found(step, params, block.init_cache(2, 9), normal(2, new, 16), wanted=(1, 0), left=6)


def largest_pair(asg: Asg, queries: int, keys: int) -> int:
    """The number of values in a graph, and in bodies of its loops, that have an element for each pair."""
    found, stack = 0, [asg]
    while stack:
        graph = stack.pop()
        found += sum(t.shape[-2:] == (queries, keys) for t in graph.value_types)
        stack += graph.inner
    return found


@pytest.mark.parametrize("remat", [False, True])
def test_repeated_blocks(remat: bool) -> None:
    block = nn_fn.transformer_encoder_block(8, 2, 12, causal=True, rope=True)
    model = nn_fn.repeat(block, 3, remat=remat)
    params, _ = model.init(random.key(0))
    x = normal(2, 17, 8)
    f = asgfn.value_and_grad(lambda p, x: (model(p, x) ** 2).sum())
    asg, found = graphs(f, params, x)
    # computed again in the loop backwards if that was asked for; otherwise the loop forwards stores what is needed
    assert counts(found)[:2] == (1 + remat, 1)
    assert largest_pair(asg, 17, 17) and not largest_pair(found, 17, 17)
    found.validate()
    for a, b in zip(run_numpy(found, (params, x)), run_numpy(asg, (params, x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_loops_whose_results_are_read_elsewhere() -> None:
    x, w = normal(2, 9, 8), normal(3, 8, 8)

    def loss(x: Any, w: Any) -> Any:
        def step(x: Any, w: Any) -> Any:
            y = by_matmul(x @ w, x, x)
            return x + y, (y, y.mean())

        last, (all_y, means) = lax.scan(step, x, w)
        return (last**2).sum() + (all_y**3).sum(), means

    assert_found(asgfn.value_and_grad(loss, argnums=(0, 1), has_aux=True), x, w, wanted=(1, 1), left=3)


def test_a_loop_that_returns_weights_keeps_them() -> None:
    x, w = normal(9, 8), normal(3, 8, 8)

    def loss(x: Any, w: Any) -> Any:
        def step(x: Any, w: Any) -> Any:
            weights = nn.softmax(x @ w @ x.T)
            return x + weights @ x, weights

        last, weights = lax.scan(step, x, w)
        return (last**2).sum(), weights

    asg, found = graphs(asgfn.value_and_grad(loss, argnums=(0, 1), has_aux=True), x, w)
    assert found is asg


# ---------------------------------------------------------------------------------------------- kernels
CAUSAL = PLAIN["causal"]


@pytest.mark.parametrize(
    ("f", "sizes"),
    [(sdpa, (2, 1, 33, 70, 20, 12)), (CAUSAL, (1, 2, 65, 130, 64, 64)), (sdpa, (3, 2, 1, 17, 5, 3))],
)
def test_sizes(f: Callable, sizes: tuple[int, ...]) -> None:
    assert_computed(gradients(f), *qkv(*sizes))


@pytest.mark.parametrize("sizes", [(1, 1, 130, 40, 16, 16), (1, 1, 20, 20, 128, 128), (1, 1, 2, 2, 1, 1)])
def test_without_a_gradient(sizes: tuple[int, ...]) -> None:
    assert_computed(CAUSAL, *qkv(*sizes))


def test_little_workgroup_memory() -> None:
    assert_computed(gradients(CAUSAL), *qkv(1, 1, 37, 45, 64), target=SMALL)


def test_capped_scores_and_small_grids() -> None:
    assert_computed(gradients(capped), *qkv(2, 2, 70, 70, 8), target=Target(grid=3))


def test_layouts() -> None:
    q, k, v = normal(2, 33, 4, 8), normal(2, 45, 2, 8), normal(2, 45, 2, 8)
    assert_computed(lambda q, k, v: nn.dot_product_attention(q, k, v, local_window_size=(7, 5)), q, k, v)
    q, k, v = normal(2, 6, 33, 8), normal(2, 3, 45, 8), normal(2, 3, 45, 8)
    assert_computed(gradients(lambda q, k, v: sdpa(q, k, v, is_causal=True, enable_gqa=True)), q, k, v)


def test_one_array_of_queries_keys_and_values() -> None:
    def f(x: Any) -> Any:
        q, k, v = (t.reshape(2, 33, 2, 8).swapaxes(1, 2) for t in jnp.split(x, 3, axis=-1))
        return sdpa(q, k, v, is_causal=True).swapaxes(1, 2).reshape(2, 33, 16)

    _, found = graphs(f, normal(2, 33, 48))
    # views on the way in and out are the kernel's: there is no copy
    assert [node.primitive.name for node in found.nodes] == ["attention"]
    assert_computed(gradients(f, 1), normal(2, 33, 48))


@pytest.mark.parametrize("number", [0, 1])
def test_gradient_of_one_operand(number: int) -> None:
    f = asgfn.value_and_grad(lambda q, k, v: (sdpa(q, k, v) ** 2).sum(), argnums=number)
    assert_computed(f, *qkv(1, 2, 9, 11, 4))


def test_masks() -> None:
    q, k, v = qkv(2, 2, 40, 50)
    seen = rng.random((2, 1, 40, 50)) > 0.5
    seen[0, 0, 3] = False  # a query that sees nothing gives zeros
    assert_computed(gradients(lambda q, k, v: sdpa(q, k, v, seen)), q, k, v)
    falls = np.where(seen, normal(2, 1, 40, 50), -np.inf).astype(np.float32)
    assert_computed(lambda q, k, v, m: sdpa(q, k, v, m), q, k, v, falls)
    # ... or the mean of all values
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    lengths = np.array([0, 17], np.int32)
    f = gradients(lambda q, k, v: nn.dot_product_attention(q, k, v, mask=seen, key_value_seq_lengths=lengths))
    asg, found = graphs(f, q, k, v)
    for x, y in zip(run_graph(found, [q, k, v], target=LARGE), run_numpy(asg, (q, k, v)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


def test_a_row_without_keys_is_nan_where_nothing_guards_it() -> None:
    q, k, v = qkv(1, 1, 9, 9)
    seen = np.ones((9, 9), bool)
    seen[3] = False

    def f(q: Any, k: Any, v: Any) -> Any:
        return nn.softmax(jnp.where(seen, q @ k.swapaxes(-1, -2), -jnp.inf)) @ v

    _, found = graphs(f, q, k, v)
    assert counts(found) == (1, 0, 0)
    (result,) = run_graph(found, [q, k, v], target=LARGE)
    assert np.isnan(result[0, 0, 3]).all() and np.isfinite(np.delete(result, 3, axis=2)).all()


def test_large_scores() -> None:
    q, k, v = qkv(1, 1, 20, 24)
    assert_computed(CAUSAL, q * 1e4, k * 1e4, v)
    broken = q.copy()
    broken[0, 0, 3, 2], broken[0, 0, 5, 0] = np.nan, np.inf
    asg, found = graphs(sdpa, broken, k, v)
    (result,) = run_graph(found, [broken, k, v], target=LARGE)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(run_numpy(asg, (broken, k, v))[0]))


@pytest.mark.parametrize("half", [False, True])
def test_f16(half: bool) -> None:
    if half and "shader-f16" not in device().features:
        pytest.skip("the adapter has no 16-bit floats")
    target = Target(types=Types(half=half), buffers=12, workgroup_bytes=32768)
    args = [x.astype(np.float16) for x in qkv(1, 2, 40, 40, 16)]
    assert_computed(gradients(CAUSAL) if half else CAUSAL, *args, target=target, tolerance=2e-3)


def test_statistics_that_others_read() -> None:
    def f(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.swapaxes(-1, -2)
        largest = lax.stop_gradient(scores.max(-1, keepdims=True))
        exponentials = jnp.exp(scores - largest)
        total = exponentials.sum(-1, keepdims=True)
        return exponentials / total @ v, jnp.log(total) + largest

    args = qkv()
    assert_found(f, *args, wanted=(1, 0))
    assert_computed(f, *args)
    both = asgfn.value_and_grad(lambda *args: (f(*args)[0] ** 2).sum() + 0 * lax.stop_gradient(f(*args)[1]).sum())
    assert_found(both, *args, wanted=(1, 1))


@pytest.mark.parametrize("f", [CAUSAL, gradients(CAUSAL)])
def test_element_by_element(f: Callable) -> None:
    """Where tiles do not fit, each element is computed from the expression."""
    args = qkv(1, 2, 5, 4, 3)
    asg, found = graphs(f, *args)
    tiny = Target(workgroup_bytes=512, buffers=12)
    results = run_graph(found, list(args), target=tiny)
    assert not run_graph.host  # type: ignore[attr-defined]
    for x, y in zip(results, run_numpy(asg, args), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_no_kernel_has_memory_for_pairs() -> None:
    for f in (CAUSAL, gradients(CAUSAL)):
        _, found = graphs(f, *qkv(1, 2, 257, 263, 16))
        types = found.value_types
        for node in found.nodes:
            if "form" not in node.params:
                continue
            plan = lower(node, [types[i] for i in node.inputs], LARGE)
            assert plan is not None
            rows = 2 * 257
            assert sum(size for _, size in plan.temporaries) <= 4 * rows
            shared = max(sum(4 * m.size * m.width for m in s.kernel.shared) for s in plan.stages)
            assert shared <= LARGE.workgroup_bytes
            assert all(t.size <= 2 * 263 * 16 for t in node.out_types)


def test_tiles_fit() -> None:
    for size in (16, 64, 128):
        for memory in (16384, 32768, 49152):
            target = Target(workgroup_bytes=memory)
            for queries, keys in ((1, 8), (8, 8), (256, 256), (1024, 77)):
                for find in (forward_tiling, backward_tiling):
                    tiling = find(queries, keys, size, size, target)
                    assert tiling is None or (
                        tiling.rows % tiling.down == 0
                        and tiling.columns % (4 * tiling.across) == 0
                        and tiling.threads <= target.workgroup_threads
                    )
                    assert tiling is not None or (size == 128 and memory == 16384)


def test_processors_of_any_vectors() -> None:
    """Tiles of a processor have nothing to do with how many threads a workgroup has there."""
    for lanes in (4, 8, 16):
        target = Target(workgroup_threads=lanes, subgroup=(lanes, lanes), simd=lanes, buffers=12)
        _, found = graphs(gradients(sdpa), *qkv(), target=target)
        assert counts(found) == (1, 1, 0)
