"""The NumPy backend's memory: planning may only change where values live, never what they are."""

from __future__ import annotations

import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgfn
import asgfn.numpy as jnp
from asgfn import errors, grad, jit, lax, pure_callback, vmap
from asgfn.graph import ArrayType, Asg, Node, Params
from asgfn.primitives.base import primitive
from asgfn.transforms.interpret import run
from backends import numpy as numpy_backend
from backends.numpy import registry
from backends.numpy.program import SMALLEST_MANAGED, Program

N = 32
SQUARE = ArrayType((N, N), np.float32)  # 4 KiB: large enough to be managed
assert SQUARE.nbytes >= SMALLEST_MANAGED


def managed(seed=0):
    return np.random.default_rng(seed).uniform(0.5, 1.5, (N, N)).astype(np.float32)


# ---------------------------------------------------------------------------------------------- random programs
# operations on squares: element-wise ones, that write into planned memory, and views of all kinds, that share it
OPERATIONS = {
    "add": lambda x, y: lax.add(x, y),
    "mul": lambda x, y: lax.mul(x, y) * 0.5,
    "sub": lambda x, y: lax.sub(x, y),
    "max": lambda x, y: lax.max(x, y),
    "sin": lambda x, y: lax.sin(x),
    "neg": lambda x, y: lax.neg(x),
    "transposed": lambda x, y: lax.transpose(x, (1, 0)),
    "reversed": lambda x, y: lax.rev(x, (0,)),
    "reshaped": lambda x, y: lax.reshape(lax.transpose(lax.reshape(x, (2, N // 2, N)), (1, 0, 2)), (N, N)),
    "row": lambda x, y: lax.broadcast_in_dim(lax.index_in_dim(x, 3, 0, keepdims=False), (N, N), (1,)),
    "halves": lambda x, y: lax.concatenate([lax.slice(x, (N // 2, 0), (N, N)), lax.slice(y, (0, 0), (N // 2, N))], 0),
    "strided": lambda x, y: lax.concatenate([lax.slice(x, (0, 0), (N, N), (2, 1)), lax.slice(x, (1, 0), (N, N), (2, 1))], 0),
    "summed": lambda x, y: lax.broadcast_in_dim(lax.reduce_sum(x, (1,)) * np.float32(1 / N), (N, N), (0,)),
    "converted": lambda x, y: lax.convert_element_type(lax.convert_element_type(x, np.float16), np.float32),
    "bits": lambda x, y: lax.bitcast_convert_type(lax.bitcast_convert_type(x, np.int32), np.float32),
    "compared": lambda x, y: lax.select(lax.gt(x, y), x, lax.neg(y)),
    "updated": lambda x, y: lax.dynamic_update_slice(x, lax.slice(y, (0, 0), (4, 4)), (2, 2)),
    "looped": lambda x, y: lax.fori_loop(0, 2, lambda i, c: lax.sin(c) + x, y),
    "chosen": lambda x, y: lax.cond(x[0, 0] > y[0, 0], lambda a, b: lax.transpose(a, (1, 0)), lambda a, b: b, x, y),
    "called": lambda x, y: jit(lambda a, b: (a, a + b))(x, y)[0],
}  # fmt: skip


@st.composite
def programs(draw):
    n_in = draw(st.integers(1, 3))
    plan = []
    for k in range(draw(st.integers(1, 14))):
        recent = st.integers(max(0, n_in + k - 5), n_in + k - 1)  # near values: more of them die on the way
        plan.append((draw(st.sampled_from(sorted(OPERATIONS))), draw(recent), draw(recent)))
    total = n_in + len(plan)
    outputs = draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=3))
    donated = tuple(draw(st.booleans()) for _ in range(n_in))
    return n_in, tuple(plan), tuple(outputs), donated


def traced(n_in, plan, outputs):
    def f(*args):
        env = list(args)
        for name, i, j in plan:
            env.append(OPERATIONS[name](env[i], env[j]))
        return [env[i] for i in outputs]

    return asgfn.trace(f)(*(jnp.asarray(managed()) for _ in range(n_in)))


def same(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-5, atol=1e-5)


@settings(max_examples=120, deadline=None)
@given(programs())
def test_planning_does_not_change_results(case):
    n_in, plan, outputs, donated = case
    asg = traced(n_in, plan, outputs)
    inputs = [[managed(3 * k + i) for i in range(n_in)] for k in range(3)]
    want = [[np.array(v) for v in run(asg, [jnp.asarray(x) for x in xs])] for xs in inputs]  # node by node, no planning

    program = Program(asg)
    buffers = [[x.copy() for x in xs] for xs in inputs]
    results = [program(b) for b in buffers]  # earlier results must survive later calls
    for got, w, b, xs in zip(results, want, buffers, inputs, strict=True):
        same(got, w)
        same(b, xs)  # and inputs are left alone

    program = Program(asg, donated)
    buffers = [[x.copy() for x in xs] for xs in inputs]
    results = [program(b) for b in buffers]
    for got, w, b, xs in zip(results, want, buffers, inputs, strict=True):
        same(got, w)
        same(
            [x for x, d in zip(b, donated, strict=True) if not d],
            [x for x, d in zip(xs, donated, strict=True) if not d],
        )


# ---------------------------------------------------------------------------------------------- the plan
def compiled(f, *args, **options):
    return jit(f, **options).lower(*args).compile()


def test_memory_figures():
    x = jnp.asarray(managed())

    def chain(x):
        for _ in range(50):
            x = lax.sin(x)
        return x.sum()

    c = compiled(chain, x)
    assert c.memory == {
        "arguments": 4096,
        "outputs": 4,
        "constants": 0,
        "temporaries": 4096,
        "total": 8196,
    }  # each sin in place
    wide = compiled(lambda x: sum(lax.sin(x * k) for k in (2.0, 3.0, 5.0)).sum(), x)
    assert 4096 <= wide.memory["temporaries"] <= 3 * 4096
    assert compiled(lambda x: x + 1, x).memory["temporaries"] == 0  # the output needs memory of its own
    table = managed()
    assert compiled(lambda x: x + table, x).memory["constants"] == 4096
    assert compiled(chain, jnp.ones(4)).memory["temporaries"] == 0  # too small to manage
    assert "memory 0" in c.as_text() and "workspace 4096 bytes" in c.as_text()
    assert "input 0" in compiled(lambda x: x * 2 + 1, x, donate_argnums=0).as_text()


def test_the_workspace_is_kept_and_never_handed_out():
    program = Program(asgfn.trace(lambda x: (lax.sin(x) * 2).T[:, ::2] + 0.0)(jnp.asarray(managed())))
    for _ in range(3):
        out = program([managed()])[0]
        assert len(program._workspaces) == 1
        assert not any(np.shares_memory(out, w) for w in program._workspaces[0])
    views = Program(asgfn.trace(lambda x: (lax.sin(x) * 2).T[:, ::2])(jnp.asarray(managed())))  # the output is a view
    first, second = views([managed()])[0], views([managed(1)])[0]
    assert not np.shares_memory(first, second)
    np.testing.assert_allclose(first, (np.sin(managed()) * 2).T[:, ::2], rtol=1e-6)


def test_overlapping_calls_have_their_own_workspaces():
    seen = []

    def host(x):
        seen.append(np.array(x))
        if len(seen) < 3:
            f(jnp.asarray(managed(len(seen))))
        return np.zeros((), np.float32)

    @jit
    def f(x):
        a = lax.sin(x) * 2
        z = pure_callback(host, asgfn.ShapeDtypeStruct((), np.float32), a)
        return a * 3 + z

    np.testing.assert_allclose(f(jnp.asarray(managed())), np.sin(managed()) * 6, rtol=1e-5)
    assert len(seen) == 3


def test_a_failed_call_does_not_spoil_the_next():
    def host(x):
        if x[0, 0] < 0:
            raise RuntimeError("negative")
        return np.asarray(x)

    f = jit(lambda x: pure_callback(host, asgfn.ShapeDtypeStruct((N, N), np.float32), lax.sin(x) * 1.5) * 2)
    with pytest.raises(RuntimeError, match="negative"):
        f(jnp.full((N, N), -1.0))
    np.testing.assert_allclose(f(jnp.asarray(managed())), np.sin(managed()) * 3, rtol=1e-5)


def test_donated_memory_of_the_wrong_kind_is_left_alone():
    asg = asgfn.trace(lambda x: x * 2 + 1)(jnp.asarray(managed()))
    program = Program(asg, (True,))
    x = managed()
    assert np.shares_memory(program([x])[0], x)
    for buffer in (
        np.asfortranarray(managed()),
        managed()[:, ::-1],
        np.broadcast_to(np.float32(1), (N, N)),
        np.frombuffer(managed().tobytes(), np.float32).reshape(N, N),
    ):
        before = buffer.copy()
        (out,) = program([buffer])
        np.testing.assert_allclose(out, before * 2 + 1)
        np.testing.assert_array_equal(buffer, before)
    narrow = Program(asgfn.trace(lambda x: lax.bitcast_convert_type(x, np.int32) + 1)(jnp.asarray(managed())), (True,))
    x = managed()
    want = x.view(np.int32) + 1
    np.testing.assert_array_equal(narrow([x])[0], want)  # another dtype in the same memory


def test_equal_graphs_share_a_program():
    f = lambda x: lax.sin(x) * 2
    backend = asgfn.get_backend("numpy")
    first, second = (asgfn.trace(f)(jnp.asarray(managed())) for _ in range(2))
    assert first is not second and backend.compile(first) is backend.compile(second)
    assert backend.compile(first, (True,)) is not backend.compile(first)


def test_a_primitive_without_a_kernel_is_named():
    asg = Asg((SQUARE,), (), (Node(primitive("psum"), (0,), Params(axis_names=("i",)), (SQUARE,)),), (1,))
    with pytest.raises(errors.BackendError, match="psum"):
        Program(asg)


# ---------------------------------------------------------------------------------------------- debug_nans
def bad(x):
    y = jnp.exp(x)
    return jnp.log(y - 2 * y)  # the line at fault


LINE = bad.__code__.co_firstlineno + 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f, jit, vmap, lambda f: jit(vmap(f)), lambda f: lambda x: lax.map(f, x), lambda f: jit(lambda x: lax.cond(True, f, f, x)),
        lambda f: lambda x: grad(lambda x: jnp.sum(f(x)))(x), lambda f: jit(lambda x: sum(map(jnp.sum, asgfn.value_and_grad(lambda x: jnp.sum(f(x)))(x)))),
    ],
)  # fmt: skip
def test_the_first_nan_is_named(wrap):
    x = jnp.ones(3)
    wrap(bad)(x)  # nobody asked
    with (
        asgfn.debug_nans(),
        pytest.raises(errors.NonFiniteError, match=rf"nan.*log(.|\n)*test_numpy_backend.py:{LINE}"),
    ):
        wrap(bad)(x)
    with asgfn.debug_nans():
        assert np.isfinite(wrap(jnp.sin)(x)).all()


def test_nan_of_the_backward_pass():
    def root(x):
        return jnp.sum(jnp.sqrt(x) * 0)  # finite, but its derivative is not: 0 * inf

    line = root.__code__.co_firstlineno + 1
    for g in (grad(root), jit(grad(root))):
        with asgfn.debug_nans(), pytest.raises(errors.NonFiniteError, match=rf"nan(.|\n)*test_numpy_backend.py:{line}"):
            g(jnp.zeros(2))


def test_lines_of_equal_programs():
    def first(x):
        return jnp.log(x)

    def second(x):
        return jnp.log(x)

    with asgfn.debug_nans():
        for f in (first, second):  # equal graphs, different lines
            for wrap in (jit, lambda f: jit(lambda x: lax.map(f, x))):
                with pytest.raises(
                    errors.NonFiniteError, match=rf"test_numpy_backend.py:{f.__code__.co_firstlineno + 1} "
                ):
                    wrap(f)(-jnp.ones(2))


def test_infinities():
    with asgfn.debug_infs(), pytest.raises(errors.NonFiniteError, match=r"infinity.*exp"):
        jit(jnp.exp)(1000.0)
    with asgfn.debug_nans():
        assert jit(jnp.exp)(1000.0) == np.inf


def test_the_registry_knows_all_modules_of_kernels():
    found = {m.name for m in pkgutil.iter_modules(numpy_backend.__path__) if m.name.startswith("kernels_")}
    assert found == {f"kernels_{name}" for name in registry.MODULES}
