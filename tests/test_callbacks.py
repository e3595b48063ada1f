"""Python called from programs: how often, in which order, and with what."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import debug, errors, grad, jit, jvp, lax, pure_callback, vmap
from asgfn.experimental import io_callback

SCALAR = asgfn.ShapeDtypeStruct((), np.float32)
close = lambda got, want: np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-6)


def like(x, dtype=None):
    return asgfn.ShapeDtypeStruct(np.shape(x), dtype or x.dtype)


def lines(capsys):
    return capsys.readouterr().out.splitlines()


# ---------------------------------------------------------------------------------------------- pure_callback
def test_pure_callback():
    def host(x, p, *, k):
        assert isinstance(x, asgfn.Array)
        return {"y": np.asarray(x) * np.asarray(p["w"]), "n": np.int32(np.sum(x) * k)}

    f = lambda x: pure_callback(host, {"y": like(x), "n": like(x[0], np.int32)}, x, {"w": 2.0}, k=10)
    x = jnp.arange(3.0)
    for g in (
        f,
        jit(f),
        lambda x: lax.cond(True, f, f, x),
        lambda x: lax.scan(lambda c, _: (c, f(x)), 0, None, length=2)[1],
    ):
        out = g(x)
        close(np.ravel(out["y"])[-3:], [0, 2, 4])
        assert np.ravel(out["n"])[0] == 30 and out["n"].dtype == np.int32
    assert pure_callback(lambda: np.float32(3), SCALAR) == 3
    assert pure_callback(lambda x: None, None, x) is None


def test_callbacks_cannot_reach_the_program():
    kept = []

    def host(x):
        kept.append(x)
        y = np.array(x)
        y += 1
        return y

    f = jit(lambda x: pure_callback(host, like(x), jnp.sin(x) * 2) + jnp.cos(x))
    xs = [jnp.linspace(0, k, 4096) for k in (1, 2)]
    outs = [f(x) for x in xs]
    for x, seen, out in zip(xs, kept, outs, strict=True):
        np.testing.assert_allclose(seen, 2 * np.sin(x), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(out, 2 * np.sin(x) + 1 + np.cos(x), rtol=1e-5)
    aliased = jit(lambda x: pure_callback(lambda v: buffer, like(x), x) * 1)
    buffer = np.zeros(3, np.float32)
    first = pure_callback(lambda v: buffer, like(jnp.ones(3)), jnp.ones(3)), aliased(jnp.ones(3))
    buffer[:] = 7  # the callback's own array is not ours
    close(first[0], np.zeros(3))
    close(first[1], np.zeros(3))


@pytest.mark.parametrize("method", ["sequential", "sequential_unrolled", "expand_dims", "broadcast_all"])
def test_vmap_methods(method):
    shapes = []

    def host(x, y):
        shapes.append((np.shape(x), np.shape(y)))
        return np.asarray(x) + np.asarray(y)

    f = lambda x, y: pure_callback(host, like(x), x, y, vmap_method=method)
    x, y = jnp.arange(6.0).reshape(3, 2), jnp.ones(2)
    for wrap in (lambda g: g, jit):
        shapes.clear()
        close(wrap(vmap(f, in_axes=(0, None)))(x, y), x + y)
        want = {"expand_dims": [((3, 2), (1, 2))], "broadcast_all": [((3, 2), (3, 2))]}.get(method, [((2,), (2,))] * 3)
        assert shapes == want
    close(vmap(f, in_axes=(1, None), out_axes=1)(x.T, y), (x + y).T)
    close(vmap(vmap(f))(x[None], x[None]), 2 * x[None])


def test_pure_callback_needs_a_method_and_a_derivative():
    f = lambda x: pure_callback(np.sin, like(x), x)
    with pytest.raises(errors.TransformError, match="vmap_method"):
        vmap(f)(jnp.ones(2))
    with pytest.raises(errors.TransformError, match="custom_jvp"):
        grad(f)(1.0)
    assert grad(lambda x: x * f(lax.stop_gradient(x)))(0.5) == np.sin(np.float32(0.5))
    count = lambda x: pure_callback(lambda v: np.int32(np.sign(v)), like(x, np.int32), x)
    assert grad(lambda x: x * count(x))(-2.0) == -1  # an integer result has no derivative
    sine = asgfn.custom_jvp(f)
    sine.defjvp(lambda p, t: (sine(*p), t[0] * pure_callback(np.cos, like(p[0]), p[0])))
    close(grad(sine)(jnp.float32(0.5)), np.cos(np.float32(0.5)))
    close(jit(grad(sine))(jnp.float32(0.5)), np.cos(np.float32(0.5)))


@pytest.mark.parametrize(
    "words, result",
    [
        (r"float32\[3\].*float32\[2\]", np.ones(2, np.float32)),
        ("int32", np.ones(3, np.int32)),
        ("structure", (1.0, 2.0)),
        ("structure", None),
    ],
)
def test_results_are_checked(words, result):
    def host(x):
        return result

    for f in (
        lambda x: pure_callback(host, like(x), x),
        jit(lambda x: pure_callback(host, like(x), x)),
        lambda x: io_callback(host, like(x), x),
    ):
        with pytest.raises(errors.CallbackError, match=f"host promised.*{words}"):
            f(jnp.ones(3))
    with pytest.raises(TypeError, match="ShapeDtypeStruct"):
        pure_callback(host, 3, jnp.ones(3))


def test_errors_of_callbacks_reach_the_caller():
    def host(x):
        raise KeyError("mine")

    f = jit(lambda x: pure_callback(host, like(x), x))
    with pytest.raises(KeyError, match="mine"):
        f(1.0 * jnp.ones(()))
    assert jit(lambda x: x + 1)(1.0) == 2


def test_callbacks_may_call_the_program_again():
    @jit
    def f(x, depth):
        a = jnp.sin(x) * 2
        below = pure_callback(
            lambda d, v: np.asarray(f(v, d - 1)) if d > 0 else np.zeros(4096, np.float32), like(x), depth, x
        )
        return a + below

    x = jnp.linspace(0, 1, 4096)
    np.testing.assert_allclose(f(x, 2), 6 * np.sin(x), rtol=1e-5)


def test_unused_pure_callbacks_are_dropped_and_equal_ones_merged():
    calls = []
    host = lambda x: calls.append(1) or np.float32(x)
    f = jit(
        lambda x: (pure_callback(host, SCALAR, x + 1), pure_callback(host, SCALAR, x) + pure_callback(host, SCALAR, x))[
            1
        ]
    )
    assert f(2.0) == 4 and len(calls) == 1


# ---------------------------------------------------------------------------------------------- io_callback
def test_io_callback_runs_once_a_call():
    log = []

    def host(x):
        log.append(float(x))
        return np.float32(len(log))

    f = jit(lambda x: io_callback(host, SCALAR, x, ordered=True) * 0 + x)
    assert [float(f(v)) for v in (1.0, 2.0, 2.0)] == [1, 2, 2] and log == [1, 2, 2]
    unused = jit(lambda x: (io_callback(host, SCALAR, x), x)[1])
    unused(5.0)
    assert log == [1, 2, 2, 5]
    log.clear()
    jit(lambda: [io_callback(host, SCALAR, 7.0) for _ in range(3)])()  # equal calls are not merged
    assert log == [7, 7, 7]
    log.clear()
    lax.fori_loop(0, 3, lambda i, c: c + io_callback(host, SCALAR, i), 0.0)
    assert log == [0, 1, 2]
    log.clear()
    close(vmap(lambda x: io_callback(host, SCALAR, x))(jnp.array([4.0, 5.0])), [1, 2])
    assert log == [4, 5]
    with pytest.raises(errors.TransformError, match="ordered"):
        vmap(lambda x: io_callback(host, SCALAR, x, ordered=True))(jnp.ones(2))
    with pytest.raises(errors.TransformError, match="custom_jvp"):
        grad(lambda x: io_callback(host, SCALAR, x))(1.0)


# ---------------------------------------------------------------------------------------------- debug
def show(x, name="x"):
    debug.print(name + " = {}", x)
    return x


def test_print_in_every_context(capsys):
    f = lambda x: show(x * 2) ** 2
    contexts = {
        "eager": (f, 3.0),
        "jit": (jit(f), 3.0),
        "grad": (grad(f), 3.0),
        "jit of grad": (jit(grad(f)), 3.0),
        "grad of jit": (grad(jit(f)), 3.0),
        "second order": (grad(grad(f)), 3.0),
        "jvp": (lambda x: jvp(f, (x,), (1.0,)), 3.0),
        "checkpoint": (grad(asgfn.checkpoint(f)), 3.0),
        "cond": (lambda x: lax.cond(x > 0, f, lambda x: show(x, "no"), x), 3.0),
        "grad of cond": (grad(lambda x: lax.cond(x > 0, f, lambda x: show(x, "no"), x)), 3.0),
        "linearize": (lambda x: asgfn.linearize(f, x)[1](1.0), 3.0),
    }
    for name, (g, x) in contexts.items():
        for _ in range(2):
            g(x)
            assert lines(capsys) == ["x = 6.0"], name


def test_print_in_loops_and_maps(capsys):
    loop = lambda x: lax.scan(lambda c, v: (show(c + v), None), x, jnp.arange(3.0))[0]
    for g in (
        loop,
        jit(loop),
        grad(loop),
        jit(grad(loop)),
        grad(lambda x: lax.fori_loop(0, 3, lambda i, c: show(c + i), x)),
    ):
        g(1.0)
        assert lines(capsys) == ["x = 1.0", "x = 2.0", "x = 4.0"]
    lax.while_loop(lambda c: c < 3, lambda c: show(c + 1), 0)
    assert lines(capsys) == ["x = 1", "x = 2", "x = 3"]
    for g in (vmap(show), jit(vmap(show)), vmap(grad(lambda x: show(x) ** 2))):
        g(jnp.array([5.0, 6.0]))
        assert lines(capsys) == ["x = 5.0", "x = 6.0"]
    vmap(lambda x: (show(1.0), x))(jnp.ones(3))  # what is not mapped is printed once
    assert lines(capsys) == ["x = 1.0"]
    vmap(lambda x: lax.cond(x > 0, lambda: show(x, "yes"), lambda: show(x, "no")))(jnp.array([1.0, -1.0]))
    assert sorted(lines(capsys)) == ["no = -1.0", "no = 1.0", "yes = -1.0", "yes = 1.0"]  # both branches run


def test_order_is_the_program_s(capsys):
    def f(x):
        debug.print("first {x:.1f}", x=x)
        y = jit(lambda x: (debug.print("second {}", x + 1), x * 2)[1])(x)
        debug.print("third {0} {0} {y[k]}", y, y={"k": x})
        return y

    want = ["first 3.0", "second 4.0", "third 6.0 6.0 3.0"]
    for g in (f, jit(f), grad(f), jit(grad(jit(f)))):
        g(3.0)
        assert lines(capsys) == want
    jit(lambda: [debug.print("same") for _ in range(2)])()
    assert lines(capsys) == ["same", "same"]


def test_print_formats(capsys):
    jit(lambda x: debug.print("{} {x} {n:>4} {s}", x, x=x[0], n=7, s="text"))(jnp.arange(3))
    assert lines(capsys) == ["[0 1 2] 0    7 text"]
    debug.print("{}", {"a": jnp.float32(1), "b": (2, None)})
    assert "1.0" in lines(capsys)[0]
    for bad, error in (
        (lambda x: debug.print("{} {}", x), ValueError),
        (lambda x: debug.print("{y}", x=x), ValueError),
        (lambda x: debug.print(x), TypeError),
    ):
        with pytest.raises(error, match=r"debug\.print"):
            jit(bad)(1.0)
    debug.print("{{}} plain")
    assert lines(capsys) == ["{} plain"]


def test_debug_callback():
    seen = []
    record = lambda *args, **kwargs: seen.append((args, kwargs))
    jit(lambda x: debug.callback(record, x, "text", k={"a": x + 1}))(jnp.ones(2))
    (((x, text), kwargs),) = seen
    close(x, [1, 1])
    assert text == "text" and isinstance(kwargs["k"]["a"], asgfn.Array)
    seen.clear()
    grad(lambda x: (debug.callback(record, x), x**2)[1])(3.0)
    assert len(seen) == 1 and seen[0][0][0] == 3
    asg = asgfn.trace(lambda x: (debug.callback(record, x), x)[1])(1.0)
    assert asg.has_effects and [n.primitive.name for n in asgfn.simplify(asg).nodes] == ["callback"]
    with pytest.raises(errors.GraphError, match="callback"):
        asg.to_bytes()


def test_looking_at_a_value_does_not_repeat_effects():
    seen = []

    def f(x):
        y = io_callback(lambda v: (seen.append(float(v)), np.float32(v))[1], SCALAR, lax.stop_gradient(x))
        return x * 2 if y > 0 else x

    assert grad(f)(3.0) == 2 and seen == [3]
