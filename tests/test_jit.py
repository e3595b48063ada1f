"""jit: when it traces again, what it may overwrite, and that it changes nothing else."""

from __future__ import annotations

import functools
import logging
import threading

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import errors, eval_shape, grad, jit, lax, vmap
from asgfn.tree_util import register_pytree_node_class

close = lambda got, want: np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-5, atol=1e-6)


class Counted:
    """A function that counts how often Python runs it, which is how often it is traced."""

    def __init__(self, f):
        self.traces = 0
        functools.update_wrapper(self, f)
        self.f = f

    def __call__(self, *args, **kwargs):
        self.traces += 1
        return self.f(*args, **kwargs)


def owned(n=4096, dtype=np.float32):
    """An array that has memory of its own, large enough for the planner to care."""
    return jnp.asarray(np.random.default_rng(0).normal(size=n).astype(dtype))


# ---------------------------------------------------------------------------------------------- the cache
def test_traced_once_a_kind_of_argument():
    f = Counted(lambda x: x)
    g = jit(f)
    kinds = [
        jnp.ones(3), jnp.ones(4), jnp.ones((3, 1)), jnp.ones(3, int), jnp.ones(3, jnp.bfloat16), 1.0, jnp.float32(1), 1, True, 1j,
        (1.0,), [1.0], {"a": 1.0}, {"b": 1.0}, (1.0, None), (None, 1.0), None, (), jnp.zeros(0), jnp.zeros((0, 3)),
    ]  # fmt: skip
    for n, x in enumerate(kinds, start=1):
        for _ in range(2):
            g(x)
        assert f.traces == n, x
    for same in (np.ones(3, np.float32), np.ones(3), -jnp.ones(3), 2.5, np.float32(2), (7.0,)):
        g(same)
    assert f.traces == len(kinds)
    with asgfn.enable_x64():
        g(jnp.ones(3, np.float32))
        assert g(np.ones(3)).dtype == np.float64
    assert f.traces == len(kinds) + 2
    g.clear_cache()
    g(1.0)
    assert f.traces == len(kinds) + 3


def test_traces_belong_to_the_function():
    f = Counted(lambda x: x * 2)
    for _ in range(3):
        jit(f)(1.0)
    assert f.traces == 1
    jit(f, static_argnums=0)(1.0)
    assert f.traces == 2


def test_mapped_axes_are_part_of_the_key():
    f = Counted(lambda x: lax.psum(x, "i"))
    g = jit(f)
    close(vmap(g, axis_name="i")(jnp.ones(3)), [3, 3, 3])
    close(vmap(g, axis_name="i")(jnp.ones(5)), [5] * 5)
    assert f.traces == 2
    with pytest.raises(errors.UnboundAxisError):
        g(1.0)


def test_cache_misses_are_explained(caplog):
    g = jit(lambda x: x)
    with caplog.at_level(logging.WARNING, "asgfn"), asgfn.config.override(explain_cache_misses=True, log_compiles=True):
        g(jnp.ones(3))
        g(jnp.ones(4))
    assert (
        "first time" in caplog.text
        and "float32[3]" in caplog.text
        and "float32[4]" in caplog.text
        and "compiled" in caplog.text
    )


# ---------------------------------------------------------------------------------------------- static arguments
def power(x, n, *, times=1):
    assert isinstance(n, int) and isinstance(times, int)
    return x**n * times


@pytest.mark.parametrize(
    "static", [{"static_argnums": 1}, {"static_argnums": (-1,)}, {"static_argnames": "n"}, {"static_argnames": ("n",)}]
)
def test_static_arguments(static):
    f = Counted(power)
    names = (*np.atleast_1d(static.get("static_argnames", ())).tolist(), "times")
    g = jit(f, static_argnums=static.get("static_argnums"), static_argnames=names)
    assert g(2.0, 3) == g(2.0, n=3) == 8 and g(x=2.0, n=3, times=2) == 16
    assert g(2.0, 2) == 4 and g(3.0, 2) == 9
    traces = f.traces
    g(5.0, 2), g(5.0, 3), g(5.0, n=3), g(x=5.0, n=3, times=2)
    assert f.traces == traces


def test_static_values():
    f = Counted(lambda x, s: x)
    g = jit(f, static_argnums=(1,))
    for n, s in enumerate(["a", ("a", 1), None, 1, True, 1.0, jnp.sin, frozenset({2})], start=1):
        g(1.0, s), g(2.0, s)
        assert f.traces == n, s
    for bad in ([1], {}, jnp.ones(2), np.ones(2)):
        with pytest.raises(errors.TransformError, match=r"static argument s.*hashable"):
            g(1.0, bad)
    with pytest.raises(ValueError, match="positional"):
        jit(lambda x: x, static_argnums=1)
    with pytest.raises(ValueError, match="no argument named 'y'"):
        jit(lambda x: x, static_argnames="y")
    default = jit(lambda x, n=2: x * n, static_argnames="n")
    assert default(3.0) == 6 and default(3.0, 4) == default(3.0, n=4) == 12
    variadic = jit(lambda *a: a[0] * a[-1], static_argnums=(-1,))
    assert variadic(2.0, 1.0, 5) == 10 and variadic(2.0, 6) == 12
    first = jit(lambda f, x: f(x), static_argnums=0)
    close(first(jnp.sin, 1.0), np.sin(1))
    close(first(jnp.cos, 1.0), np.cos(1))


# ---------------------------------------------------------------------------------------------- donation
def test_donated_memory_is_reused():
    f = jit(lambda x, y: x * 2 + y, donate_argnums=0)
    x, y = owned(), owned()
    want = np.asarray(x) * 2 + np.asarray(y)
    where = x.buffer.ctypes.data
    out = f(x, y)
    close(out, want)
    assert out.buffer.ctypes.data == where and x.is_deleted() and not y.is_deleted()
    with pytest.raises(errors.DeletedArrayError, match="donate"):
        x + 1
    with pytest.raises(errors.DeletedArrayError):
        f(x, y)


@pytest.mark.parametrize(
    "options",
    [
        {"donate_argnames": "state"},
        {"donate_argnums": 1, "static_argnums": 0},
        {"donate_argnums": (-1,), "static_argnums": (0,)},
    ],
)
def test_donation_by_name_and_beside_static_arguments(options):
    f = jit(
        lambda n, state: {k: v * n + 1 for k, v in state.items()},
        static_argnums=0,
        **{k: v for k, v in options.items() if k != "static_argnums"},
    )
    for call in (lambda s: f(3, s), lambda s: f(3, state=s)):
        state = {"a": owned(), "b": jnp.ones(2)}
        want = {k: np.array(v) * 3 + 1 for k, v in state.items()}
        out = call(state)
        assert all(v.is_deleted() for v in state.values())
        for k, v in want.items():
            close(out[k], v)


def test_donated_scalars_are_nobodys_loss():
    """Scalars of equal value may be one object behind the scenes."""
    f = jit(lambda x: x + 1, donate_argnums=0)
    others = [jnp.zeros((), jnp.int32), jnp.ones(()), jnp.asarray(2.5)]
    for x in (jnp.zeros((), jnp.int32), jnp.ones(()), jnp.asarray(2.5), 2.5, 0, 1.0):
        close(f(x), np.asarray(x) + 1)
    assert [float(x) for x in others] == [0.0, 1.0, 2.5]
    close(jnp.zeros(()) + 2.5, 2.5)
    close(jnp.ones(()) * jnp.arange(3), [0, 1, 2])


def test_what_shares_donated_memory_does_not_change():
    f = jit(lambda x: x * 0 + 5, donate_argnums=0)
    x = owned()
    keep, view, host = np.array(x), x.reshape(64, 64), np.asarray(x)
    captured = jit(lambda y: y + x)
    captured(jnp.zeros(4096))
    twin, other = jit(lambda x: (x, x))(x)
    f(x), f(twin)
    close(view.reshape(-1), keep)
    close(host, keep)
    close(other, keep)
    close(captured(jnp.zeros(4096)), keep)
    a = owned()
    close(jit(lambda x, y: (x * 0 + 5) + y, donate_argnums=0)(a, a), keep + 5)  # one array as two arguments
    assert a.is_deleted()
    constant = jit(lambda: jnp.asarray(keep))
    f(constant())
    close(constant(), keep)
    mine = keep.copy()
    f(mine)  # NumPy arrays are copied in
    close(mine, keep)


def test_donated_but_not_usable():
    for f, shape in (
        (lambda x: x.sum(), 4096),
        (lambda x: x, 4096),
        (lambda x: x.astype(jnp.int8), 4096),
        (lambda x: jnp.ones(3), 4096),
        (lambda x: x + 1, 0),
    ):
        x = owned(shape)
        want = f(np.array(x)) if shape == 0 else np.asarray(f(jnp.asarray(np.array(x))))
        close(jit(f, donate_argnums=0)(x), want)
        assert x.is_deleted()
    under = jit(lambda x: x + 1, donate_argnums=0)
    x = owned()
    assert grad(lambda x: jnp.sum(under(x)))(x).shape == (4096,) and not x.is_deleted()  # a part of another program
    with pytest.raises(ValueError, match="both static and donated"):
        jit(lambda x: x, static_argnums=0, donate_argnums=0)


def test_training_loop_in_place():
    step = jit(lambda p, g: {k: v - 0.1 * g for k, v in p.items()}, donate_argnums=0)
    p, want = {"w": owned()}, np.array(owned())
    places = set()
    for _ in range(5):
        places.add(p["w"].buffer.ctypes.data)
        p = step(p, 1.0)
        want = want - np.float32(0.1)
    close(p["w"], want)
    assert len(places) == 1


# ---------------------------------------------------------------------------------------------- aliasing
def test_outputs_do_not_alias_what_users_can_write_to():
    x = np.arange(4096, dtype=np.float32)
    for f in (
        lambda x: x,
        lambda x: x.reshape(64, 64).T,
        lambda x: x[::2],
        lambda x: (x, x),
        lambda x: lax.stop_gradient(x),
    ):
        g = jit(f)
        outs = g(x)
        before = [np.array(o) for o in (outs if isinstance(outs, tuple) else (outs,))]
        saved = x.copy()
        x[:] = -1
        for o, b in zip(outs if isinstance(outs, tuple) else (outs,), before, strict=True):
            assert not np.shares_memory(np.asarray(o), x)
            close(o, b)
        x[:] = saved
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(jit(lambda x: x + 1)(x))[0] = 3


def test_results_outlive_later_calls():
    g = jit(lambda x: (jnp.sin(x) + 1, (jnp.cos(x) * 2).reshape(64, 64).T, jnp.exp(x)[::2], x * 3))
    inputs = [owned() * k for k in (1.0, 2.0, 3.0)]
    outs = [g(x) for x in inputs]
    copies = [[np.array(o) for o in row] for row in outs]
    g(inputs[0] * 100)
    for row, copy, x in zip(outs, copies, inputs, strict=True):
        for o, c in zip(row, copy, strict=True):
            np.testing.assert_array_equal(np.asarray(o), c)
        close(row[0], np.sin(np.asarray(x)) + 1)


def test_constants():
    table = np.arange(3.0, dtype=np.float32)
    g = jit(lambda x: (table, 3, x * table, jnp.ones(2), True, None))
    out = g(1.0)
    table[:] = 0  # what the function saw stays in its program
    again = g(1.0)
    for o in (out, again):
        close(o[0], [0, 1, 2])
        close(o[2], [0, 1, 2])
        assert o[1] == 3 and o[1].weak_type and o[4].dtype == np.bool_ and o[5] is None
    assert jit(lambda: 5)() == 5 and jit(lambda: ())() == () and jit(lambda x: {})(1.0) == {}
    assert jit(lambda x: x)(2).weak_type and jit(lambda x: x)(np.float16(2)).dtype == np.float16
    assert jit(lambda x: (x, x[:0]))(jnp.zeros((0, 2)))[1].shape == (0, 2)


def test_python_scalars_keep_the_sign_of_zero():
    for x in (0.0, -0.0, 1 + 0j, complex(1, -0.0), complex(0.0, 2), complex(-0.0, 2)):
        for got in (jnp.asarray(x), jit(lambda v: v)(x), jit(lambda x=x: jnp.asarray(x))()):
            value = np.asarray(got)
            assert np.signbit(value.real) == np.signbit(np.real(x)) and np.signbit(value.imag) == np.signbit(
                np.imag(x)
            ), x


# ---------------------------------------------------------------------------------------------- closures and nesting
def test_closures_over_traced_values():
    def outer(a, x):
        inner = jit(lambda b: jnp.sin(a) * b + jit(lambda c: c * a)(b))
        return inner(x)

    want = lambda a, x: np.sin(a) * x + x * a
    xs = np.float32([0.3, 1.2])
    close(outer(0.5, 2.0), want(0.5, 2.0))
    close(jit(outer)(0.5, 2.0), want(0.5, 2.0))
    close(grad(outer)(0.5, 2.0), np.cos(0.5) * 2 + 2)
    close(grad(grad(outer))(0.5, 2.0), -np.sin(0.5) * 2)
    close(jit(grad(outer))(0.5, 2.0), np.cos(0.5) * 2 + 2)
    close(vmap(outer, in_axes=(0, None))(xs, 2.0), want(xs, 2.0))
    close(vmap(outer, in_axes=(None, 0))(0.5, xs), want(0.5, xs))
    close(jit(vmap(grad(outer), in_axes=(0, 0)))(xs, xs), (np.cos(xs) + 1) * xs)


def test_nested_calls_stay_visible_until_simplified():
    inner = Counted(lambda x: jnp.sin(x) * 2)
    inner.__name__ = "inner"
    jitted = jit(inner)
    f = lambda x: jitted(jitted(x)) + jitted(x)
    asg = asgfn.trace(f)(1.0)
    assert [n.primitive.name for n in asg.nodes].count("jit") == 3 and inner.traces == 1
    assert "jit" not in {n.primitive.name for n in asgfn.simplify(asg).nodes}
    close(jit(f)(1.0), f(1.0))


def test_methods_and_keywords():
    @register_pytree_node_class
    class Model:
        def __init__(self, w):
            self.w = w

        def tree_flatten(self):
            return (self.w,), None

        @classmethod
        def tree_unflatten(cls, _, leaves):
            return cls(*leaves)

        @jit
        def __call__(self, x, *, scale=1.0):
            return self.w * x * scale

        @functools.partial(jit, static_argnums=0)
        def fixed(self, x):
            return self.w * x

        @staticmethod
        @jit
        def static(x):
            return x + 1

    m = Model(3.0)
    assert m(2.0) == 6 and m(2.0, scale=10.0) == 60 and m.fixed(2.0) == 6 and Model.static(1.0) == m.static(1.0) == 2
    m.w = 5.0
    assert m(2.0) == 10
    assert jit(m.__call__)(2.0) == 10
    kw = jit(lambda a, /, b, *, c, **rest: a + b * c + sum(rest.values()))
    assert kw(1.0, 2.0, c=3.0, d=10.0, e=20.0) == kw(1.0, b=2.0, e=20.0, d=10.0, c=3.0) == 37
    assert jit(functools.partial(lambda x, y: x - y, 10.0))(3.0) == 7
    decorated = jit(static_argnames="n")(lambda x, n: x * n)
    assert decorated(2.0, n=3) == 6

    @jit
    def documented(x):
        """Doc."""
        return x

    assert documented.__name__ == "documented" and documented.__doc__ == "Doc." and "documented" in repr(documented)


# ---------------------------------------------------------------------------------------------- ahead of time
def test_lower_and_compile():
    f = jit(lambda p, x, n: {"y": jnp.tanh(x @ p["w"]) * n}, static_argnums=2)
    shapes = {"w": asgfn.ShapeDtypeStruct((3, 4), np.float32)}, asgfn.ShapeDtypeStruct((2, 3), np.float32)
    lowered = f.lower(*shapes, 2)
    assert [n.primitive.name for n in lowered.asg.nodes] == ["dot_general", "tanh", "mul"]
    assert (
        "dot_general" in lowered.as_text()
        and lowered.out_info["y"].shape == (2, 4)
        and lowered.in_avals == lowered.asg.inputs
    )
    compiled = lowered.compile()
    p, x = {"w": jnp.ones((3, 4))}, jnp.ones((2, 3))
    close(compiled(p, x)["y"], 2 * np.tanh(3 * np.ones((2, 4))))
    close(compiled(p, np.ones((2, 3)))["y"], compiled(p, x)["y"])
    close(lowered.asg(p, x)["y"], compiled(p, x)["y"])
    assert "tanh" in compiled.as_text()
    assert compiled.memory["arguments"] == 4 * (12 + 6) and compiled.memory["outputs"] == 4 * 8
    assert compiled.memory["total"] == sum(v for k, v in compiled.memory.items() if k != "total")
    assert compiled.cost_analysis()["flops"] >= 2 * 2 * 3 * 4
    for bad, words in (
        ((p, x.T), r"argument x was compiled as float32\[2,3\], called with float32\[3,2\]"),
        ((p, x.astype(int)), "int32"),
        ((p, x, 2), "structure"),
        (({"v": p["w"]}, x), "structure"),
    ):
        with pytest.raises(errors.TransformError, match=words):
            compiled(*bad)
    with pytest.raises(errors.TransformError, match="traced"):
        grad(lambda x: compiled(p, x)["y"].sum())(x)


def test_eval_shape():
    ran = []
    f = lambda x, n: (ran.append(1), {"y": jnp.outer(x, x), "n": n + 1, "w": 2.0})[1]
    for shapes in (eval_shape(f, jnp.ones(3), 1), jit(f).eval_shape(asgfn.ShapeDtypeStruct((3,), np.float32), 1)):
        assert (
            shapes["y"] == asgfn.ShapeDtypeStruct((3, 3), np.float32)
            and shapes["n"].dtype == np.int32
            and shapes["w"].weak_type
        )
    assert jit(lambda x, n: x[:n], static_argnums=1).eval_shape(jnp.ones(3), 2).shape == (2,)
    huge = asgfn.ShapeDtypeStruct((10**6, 10**6), np.float32)
    assert eval_shape(lambda a: a @ a.T, huge).shape == (10**6, 10**6)


def test_disable_jit():
    seen = []

    @jit
    def f(x):
        seen.append(float(x))
        return x * 2 if x > 0 else x

    with asgfn.disable_jit():
        assert f(3.0) == 6 and vmap(lambda x: x * 2)(jnp.ones(2))[0] == 2 and grad(f)(2.0) == 2
    assert seen == [3, 2]
    with pytest.raises(errors.ConcretizationError):
        f(3.0)


def test_arguments_that_are_no_arrays():
    for bad, words in (("text", "str"), (object(), "object"), ({"a": [1.0, "x"]}, r"x\['a'\]\[1\]")):
        with pytest.raises(errors.NotAnArrayError, match=words):
            jit(lambda x: x)(bad)
    with pytest.raises(errors.NotAnArrayError, match="returned"):
        jit(lambda x: "text")(1.0)
    for nothing in (3, "f", [jnp.sin]):
        with pytest.raises(TypeError, match="expected a function"):
            jit(nothing)


def test_calling_a_traced_function_after_an_error():
    @jit
    def f(x):
        if x.shape == (2,):
            raise KeyError("mine")
        return x * 2

    with pytest.raises(KeyError, match="mine"):
        f(jnp.ones(2))
    assert f(1.0) == 2  # the failed trace left nothing open
    assert jnp.ones(2).sum() == 2


# ---------------------------------------------------------------------------------------------- threads
def test_threads():
    @jit
    def f(x, k):
        a = jnp.sin(x) * k
        b = jnp.cos(x * 2) + a
        return (
            (a * b).reshape(64, 64).T,
            lax.scan(lambda c, v: (c + v, c), 0.0, x[:50])[0],
            grad(lambda y: jnp.sum(y**2 * k))(x),
        )

    base = np.linspace(0, 1, 4096, dtype=np.float32)
    failures = []

    def work(seed):
        try:
            for i in range(25):
                x, k = jnp.asarray(base + seed), jnp.float32(seed + i % 3)
                y, c, g = f(x, k)  # one program, many calls at once
                a = np.sin(base + seed) * np.float32(seed + i % 3)
                want = (a * (np.cos((base + seed) * 2) + a)).reshape(64, 64).T
                np.testing.assert_allclose(np.asarray(y), want, rtol=1e-3, atol=1e-4)
                np.testing.assert_allclose(float(c), (base + seed)[:50].sum(), rtol=1e-4, atol=1e-4)
                np.testing.assert_allclose(
                    np.asarray(g), 2 * (base + seed) * np.float32(seed + i % 3), rtol=1e-5, atol=1e-6
                )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[0]


def test_settings_of_threads_are_their_own():
    found = {}

    def work():
        found["x64"] = jnp.ones(2, float).dtype

    with asgfn.enable_x64():
        t = threading.Thread(target=work)
        t.start()
        t.join()
        assert jnp.ones(2, float).dtype == np.float64
    assert found["x64"] == np.float32
