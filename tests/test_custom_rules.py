"""Functions that bring rules of their own. The rules here are recognisably wrong (scaled), so that it shows which one ran."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import (
    custom_gradient,
    custom_jvp,
    custom_vjp,
    errors,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jit,
    jvp,
    lax,
    vjp,
    vmap,
)
from asgfn.custom_batching import custom_vmap, sequential_vmap
from asgfn.custom_derivatives import SymbolicZero, closure_convert, zero_from_primal

X = jnp.float32(0.7)
XS = jnp.array([0.3, -0.8, 1.1])
close = lambda got, want, rtol=1e-5: np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=rtol, atol=1e-6)


@custom_jvp
def sine(x):
    return jnp.sin(x)


@sine.defjvp
def sine_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return sine(x), 10 * jnp.cos(x) * t


@custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (cube(x), x), lambda x, ct: (10 * x**2 * ct,))


# ---------------------------------------------------------------------------------------------- custom_jvp
def test_jvp_rule_serves_both_modes():
    assert sine(X) == jnp.sin(X)
    slope = 10 * np.cos(0.7)
    close(jvp(sine, (X,), (2.0,))[1], 2 * slope)
    for f in (grad(sine), jacfwd(sine), jacrev(sine), jit(grad(sine)), grad(jit(sine)), grad(asgfn.checkpoint(sine))):
        close(f(X), slope)
    for second in (grad(grad(sine)), jacfwd(grad(sine)), grad(jacfwd(sine)), hessian(sine), jit(grad(jit(grad(sine))))):
        close(second(X), -10 * np.sin(0.7))  # the rule's own derivative, in which cos is an ordinary function
    calls = lambda f: [n.primitive.name for n in asgfn.trace(f)(X).nodes]
    assert calls(sine) == ["custom_jvp_call"] and "custom_jvp_call" in calls(jvp_of(sine))


def jvp_of(f):
    return lambda x: jvp(f, (x,), (jnp.ones_like(x),))


@pytest.mark.parametrize("f", [sine, cube])
def test_rules_survive_vmap_and_control_flow(f):
    slope = {sine: lambda x: 10 * np.cos(x), cube: lambda x: 10 * x**2}[f]
    want = slope(np.asarray(XS))
    close(vmap(f)(XS), f.fun(XS))
    close(vmap(grad(f))(XS), want)
    close(grad(lambda x: jnp.sum(vmap(f)(x)))(XS), want)
    close(grad(lambda x: jnp.sum(vmap(vmap(f), in_axes=1, out_axes=1)(jnp.stack([x, x]))))(XS), 2 * want)
    close(jit(vmap(jit(grad(jit(f)))))(XS), want)
    close(grad(lambda x: jnp.sum(lax.scan(lambda c, v: (c, f(v)), 0.0, x)[1]))(XS), want)
    close(grad(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=1)[0])(X), slope(0.7))
    close(grad(lambda x: lax.cond(x > 0, f, jnp.abs, x))(X), slope(0.7))
    close(vmap(grad(lambda x: lax.cond(x > 0, f, jnp.abs, x)))(XS), np.where(XS > 0, want, -1))
    close(
        grad(lambda x: lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, f(c[1])), (0, x), max_steps=3)[1])(X),
        slope(0.7),
    )
    close(grad(asgfn.checkpoint(lambda x: f(x) * 2))(X), 2 * slope(0.7))
    close(grad(lambda x: jnp.sum(lax.map(asgfn.checkpoint(f), x)))(XS), want)
    close(vmap(lambda x: vjp(f, x)[1](1.0)[0])(XS), want)
    close(jacrev(vmap(f))(XS), np.diag(want))
    close(grad(lambda w, x: jnp.sum(vmap(lambda a: f(w) * a)(x)))(X, XS), slope(0.7) * np.sum(XS))  # not mapped inside


@custom_jvp
def scaled(x, y, n):
    return {"p": x * y, "q": (x + n,)}


@scaled.defjvp
def scaled_jvp(primals, tangents):
    (x, y, n), (tx, ty, tn) = primals, tangents
    assert tn.dtype == asgfn.dtypes.float0
    return scaled(x, y, n), {"p": 2 * tx * y + 3 * x * ty, "q": (5 * tx,)}


def test_pytrees_and_integers_in_a_jvp_rule():
    g = grad(lambda x, y: scaled(x, y, 3)["p"] + scaled(x, y, 3)["q"][0], argnums=(0, 1))(2.0, 7.0)
    assert g == (2 * 7 + 5, 3 * 2)
    out, moved = jvp(lambda y: scaled(2.0, y, 3), (7.0,), (1.0,))
    assert out == {"p": 14, "q": (5,)} and moved == {"p": 6, "q": (0,)}
    close(vmap(grad(lambda x, n: scaled(x, 7.0, n)["p"]), in_axes=(0, 0))(XS, jnp.arange(3)), [14, 14, 14])
    g = grad(lambda x: scaled(x, y=7.0, n=3)["p"])(2.0)  # keywords
    assert g == 14


def test_nondiff_argnums_and_functions():
    for nums in ((0, 2), (0, -1)):
        apply = custom_jvp(lambda f, x, n: f(x) * n, nondiff_argnums=nums)

        @apply.defjvp
        def rule(f, n, primals, tangents, apply=apply):
            (x,), (t,) = primals, tangents
            assert callable(f) and n == 3
            return apply(f, x, n), 100 * n * t

        assert grad(lambda x: apply(jnp.sin, x, 3))(0.5) == 300
        assert jit(vmap(grad(lambda x: apply(jnp.sin, x, 3))))(XS)[0] == 300
        close(apply(jnp.sin, X, 3), 3 * np.sin(0.7))
        close(grad(lambda y: apply(lambda x: x * y, 2.0, 3))(5.0), 6)  # what the function closes over is no argument
    named = custom_jvp(lambda x, mode: x, nondiff_argnames=("mode",))
    named.defjvp(lambda mode, primals, tangents: (primals[0], tangents[0] * {"a": 2, "b": 3}[mode]))
    assert grad(named)(1.0, "a") == 2 and grad(named)(1.0, mode="b") == 3


def test_defjvps():
    f = custom_jvp(lambda x, y, z: x * y + z)
    f.defjvps(lambda t, ans, x, y, z: 2 * t * y, None, lambda t, ans, x, y, z: t * ans)
    assert grad(f, argnums=(0, 1, 2))(3.0, 5.0, 1.0) == (10, 0, 16)
    none = custom_jvp(lambda x: x * 2)
    none.defjvps(None)
    assert grad(none)(3.0) == 0
    with pytest.raises(TypeError, match="nondiff_argnums"):
        custom_jvp(lambda f, x: x, nondiff_argnums=(0,)).defjvps(None)


def test_symbolic_zeros_of_jvp():
    seen = []
    f = custom_jvp(lambda x, y, n: (x * y, x))

    def rule(primals, tangents):
        seen.append(tuple(type(t) is SymbolicZero for t in tangents))
        x, y, _ = primals
        tx, ty, _ = tangents
        return f(*primals), (
            tx * y if not isinstance(tx, SymbolicZero) else x * ty,
            zero_from_primal(x, symbolic_zeros=True),
        )

    f.defjvp(rule, symbolic_zeros=True)
    assert grad(lambda x: f(x, 5.0, 1)[0])(3.0) == 5 and grad(lambda y: f(3.0, y, 1)[0])(5.0) == 3
    assert grad(lambda x: f(x, 5.0, 1)[1])(3.0) == 0
    assert seen == [(False, True, True), (True, False, True), (False, True, True)]
    zero = SymbolicZero(jnp.ones((2, 3)).aval)
    assert zero.shape == (2, 3) and zero.dtype == np.float32 and zero.ndim == 2 and "float32[2,3]" in repr(zero)


def test_the_outer_rule_wins():
    outer = custom_jvp(lambda x: sine(x) * 2)
    outer.defjvp(lambda p, t: (outer(*p), sine(p[0]) * t[0]))
    close(grad(outer)(X), np.sin(0.7))
    close(grad(grad(outer))(X), 10 * np.cos(0.7))  # the inner rule serves the second derivative
    mixed = custom_jvp(lambda x: cube(x))
    mixed.defjvp(lambda p, t: (mixed(*p), cube(p[0]) * t[0]))
    close(grad(grad(mixed))(X), 10 * 0.49)


def test_rules_see_values_under_plain_grad():
    @custom_jvp
    def f(x):
        return x if x > 0 else -x

    f.defjvp(lambda p, t: (f(p[0]), t[0] * (7 if p[0] > 0 else 8)))
    assert grad(f)(1.0) == 7 and grad(f)(-1.0) == 8 and grad(lambda x: f(x) * 2)(-1.0) == 16
    with pytest.raises(errors.TracerBoolConversionError):
        jit(f)(1.0)


BAD_JVP = {
    "pair": lambda p, t: p[0],
    "structure": lambda p, t: (p[0], (t[0], t[0])),
    "type": lambda p, t: (p[0], jnp.ones(5)),
}


@pytest.mark.parametrize("word", BAD_JVP)
def test_bad_jvp_rules(word):
    f = custom_jvp(lambda x: x)
    f.defjvp(BAD_JVP[word])
    with pytest.raises(errors.AsgError, match=word):
        jvp(f, (X,), (X,))


def test_missing_rules():
    for decorator, method in ((custom_jvp, "defjvp"), (custom_vjp, "defvjp"), (custom_vmap, "def_vmap")):
        with pytest.raises(AttributeError, match=f"identity.*{method}"):

            @decorator
            def identity(x):
                return x

            identity(1.0)
    f = custom_vjp(lambda x, *, k: x)
    f.defvjp(lambda x: (x, None), lambda r, ct: (ct,))
    with pytest.raises(TypeError, match="position"):
        f(1.0, k=2)


def test_as_methods():
    class Model:
        scale = 4.0

        jvp_method = custom_jvp(lambda self, x: x * self.scale, nondiff_argnums=(0,))
        jvp_method.defjvp(lambda self, p, t: (self.jvp_method(*p), t[0] * 2 * self.scale))
        vjp_method = custom_vjp(lambda self, x: x * self.scale, nondiff_argnums=(0,))
        vjp_method.defvjp(lambda self, x: (x * self.scale, None), lambda self, r, ct: (ct * 3 * self.scale,))

    m = Model()
    assert m.jvp_method(2.0) == m.vjp_method(2.0) == 8
    assert grad(m.jvp_method)(2.0) == 8 and grad(m.vjp_method)(2.0) == 12


# ---------------------------------------------------------------------------------------------- custom_vjp
def test_vjp_rule():
    assert cube(2.0) == 8
    for f in (grad(cube), jacrev(cube), jit(grad(cube)), grad(jit(cube)), vmap(grad(cube), axis_size=1, in_axes=None)):
        close(jnp.ravel(f(2.0)), [40])
    close(grad(grad(cube))(2.0), 40)  # of the rule: d/dx 10 x^2
    close(grad(grad(grad(cube)))(2.0), 20)
    close(hessian(cube)(2.0), 40)
    close(jit(grad(jit(grad(cube))))(2.0), 40)
    close(vmap(grad(grad(cube)))(XS), 20 * XS)
    close(grad(lambda x: jnp.sum(vmap(grad(cube))(x)))(XS), 20 * XS)
    for forward, x in ((jvp_of(cube), X), (jacfwd(cube), X), (jit(jvp_of(cube)), X), (jvp_of(vmap(cube)), XS)):
        with pytest.raises(errors.TransformError, match="custom_jvp"):
            forward(x)


def test_residuals_may_hold_anything():
    @custom_vjp
    def f(x, p):
        return x * p["w"]

    def fwd(x, p):
        return f(x, p), {"x": x, "name": "text", "shape": x.shape, "none": None, "list": [p["w"], 3, object]}

    def bwd(res, ct):
        assert res["name"] == "text" and res["shape"] == () and res["none"] is None and res["list"][2] is object
        return ct * res["list"][0] * res["list"][1], {"w": ct * res["x"], "unused": None}

    f.defvjp(fwd, bwd)
    p = {"w": 5.0, "unused": jnp.ones(2)}
    for wrap in (lambda g: g, jit):
        gx, gp = wrap(grad(f, argnums=(0, 1)))(2.0, p)
        assert gx == 15 and gp["w"] == 2 and not np.any(gp["unused"]) and gp["unused"].shape == (2,)
    close(vmap(grad(f), in_axes=(0, None))(XS, p), [15, 15, 15])
    close(grad(lambda x: lax.scan(lambda c, _: (f(c, p), None), x, None, length=2)[0])(2.0), 225)


def test_none_means_zero_and_integers():
    f = custom_vjp(lambda x, n, y: x * n * y)
    f.defvjp(lambda x, n, y: (f(x, n, y), (n, y)), lambda r, ct: (ct * r[0], None, None))
    assert grad(f, argnums=(0, 2))(2.0, 3, 4.0) == (3, 0)
    g = grad(f, argnums=1, allow_int=True)(2.0, 3, 4.0)
    assert np.asarray(g).dtype == asgfn.dtypes.float0
    f.defvjp(lambda x, n, y: (f(x, n, y), (n, y)), lambda r, ct: (ct * r[0], np.zeros((), asgfn.dtypes.float0), ct))
    assert grad(f, argnums=(0, 2))(2.0, 3, 4.0) == (3, 1)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, None), (None, 1), (1, 0), (0, 1)])
def test_vjp_rule_under_vmap(axes):
    @custom_vjp
    def f(x, w):
        return jnp.sin(x) * w, x.sum()

    f.defvjp(lambda x, w: (f(x, w), (x, w)), lambda r, cts: (3 * cts[0] * r[1] + cts[1], jnp.cos(r[0]) * cts[0]))
    rng = np.random.default_rng(0)
    args = [jnp.asarray(rng.normal(size=(2,) if d is None else (3, 2) if d == 0 else (2, 3)), np.float32) for d in axes]
    loss = lambda x, w: jnp.sum(f(x, w)[0] ** 2) + f(x, w)[1] * 2
    pick = lambda a, d, i: a if d is None else jnp.take(a, i, axis=d)
    row = lambda i: tuple(pick(a, d, i) for a, d in zip(args, axes, strict=True))
    inner = vmap(grad(loss, argnums=(0, 1)), in_axes=axes)(*args)
    for i in range(3):
        for got, want in zip(inner, grad(loss, argnums=(0, 1))(*row(i)), strict=True):
            close(got[i], want)
    outer = grad(lambda *a: jnp.sum(vmap(loss, in_axes=axes)(*a)), argnums=(0, 1))
    for wrap in (lambda g: g, jit):
        for got, part, d in zip(wrap(outer)(*args), inner, axes, strict=True):
            close(got, part.sum(0) if d is None else jnp.moveaxis(part, 0, d))


def test_symbolic_zeros_of_vjp():
    seen = []
    f = custom_vjp(lambda x, y: (x * y, x + y))

    def fwd(x, y):
        seen.append((x.perturbed, y.perturbed))
        return (x.value * y.value, x.value + y.value), (x.value, y.value)

    def bwd(res, cts):
        seen.append(tuple(isinstance(ct, SymbolicZero) for ct in cts))
        return cts[0] * res[1], None

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    assert grad(lambda x: f(x, 5.0)[0])(3.0) == 5
    assert seen == [(True, False), (False, True)]
    close(vmap(grad(lambda x: f(x, 5.0)[0]))(XS), [5, 5, 5])


def test_nondiff_of_vjp():
    for nums in ((0, 2), (0, -1)):
        f = custom_vjp(lambda g, x, n: g(x) * n, nondiff_argnums=nums)
        f.defvjp(lambda g, x, n: (f(g, x, n), x), lambda g, n, x, ct: (ct * 100 * n * g(x),))
        close(grad(lambda x: f(jnp.sin, x, 3))(X), 300 * np.sin(0.7))
        close(jit(vmap(grad(lambda x: f(jnp.sin, x, 3))))(XS), 300 * np.sin(XS))
        close(grad(grad(lambda x: f(jnp.sin, x, 3)))(X), 300 * np.cos(0.7))
    clip = custom_vjp(lambda lo, x: x, nondiff_argnums=(0,))
    clip.defvjp(lambda lo, x: (x, None), lambda lo, _, ct: (jnp.clip(ct, -lo, lo),))
    assert grad(lambda x: clip(0.5, x) * 9)(2.0) == 0.5
    with pytest.raises(errors.TransformError, match="nondiff_argnums"):
        grad(lambda lo: clip(lo, 2.0))(0.5)


def test_defaults_and_keywords():
    f = custom_vjp(lambda x, k=3.0: x * k)
    f.defvjp(lambda x, k: (x * k, k), lambda k, ct: (ct * k * 2, None))
    assert f(2.0) == 6 and grad(f)(2.0) == 6 and grad(lambda x: f(x=x, k=5.0))(2.0) == 10


BAD_VJP = {
    "pair": (lambda x, y: x, lambda r, ct: (ct, ct)),
    "output of the function's structure": (lambda x, y: ((x, x), None), lambda r, ct: (ct, ct)),
    "tuple": (lambda x, y: (x, None), lambda r, ct: ct),
    "one cotangent for each of the 2": (lambda x, y: (x, None), lambda r, ct: (ct,)),
    "structure": (lambda x, y: (x, None), lambda r, ct: ((ct, ct), ct)),
    "float32\\[5\\]": (lambda x, y: (x, None), lambda r, ct: (jnp.ones(5), ct)),
}


@pytest.mark.parametrize("words", BAD_VJP)
def test_bad_vjp_rules(words):
    f = custom_vjp(lambda x, y: x)
    f.defvjp(*BAD_VJP[words])
    with pytest.raises(errors.AsgError, match=words):
        grad(f)(X, X)


def test_closing_over_a_differentiated_value_is_an_error():
    def loss(w):
        f = custom_vjp(lambda x: x * w)
        f.defvjp(lambda x: (x * w, None), lambda r, ct: (ct,))
        return f(w)

    with pytest.raises(errors.TransformError, match="argument"):
        grad(loss)(2.0)


# ---------------------------------------------------------------------------------------------- custom_gradient
def test_custom_gradient():
    @custom_gradient
    def f(x, y):
        z = jnp.exp(x)
        return x * y, lambda ct: (ct * z, ct * 7)

    close(grad(f, argnums=(0, 1))(2.0, 3.0), (np.exp(2), 7))
    close(vmap(grad(f), in_axes=(0, None))(XS, 3.0), np.exp(XS))
    close(jit(grad(grad(f)))(2.0, 3.0), np.exp(2))

    @custom_gradient
    def one(p):
        return {"y": p["a"] * 2}, lambda ct: {"a": ct["y"] * 5}

    assert grad(lambda p: one(p)["y"])({"a": 1.0}) == {"a": 5}

    @custom_gradient
    def two(p, n):
        return p["a"] * n, lambda ct: ({"a": ct * 5}, None)

    assert grad(two, argnums=(0, 1))({"a": 1.0}, 2.0) == ({"a": 5}, 0)
    single = custom_gradient(lambda x: (x**2, lambda ct: 9 * ct))
    assert grad(single)(2.0) == 9 and single(3.0) == 9


def test_closure_convert():
    def outer(a):
        b = jnp.sin(a)
        f = lambda x, p: x * b + p["k"] * a
        converted, consts = closure_convert(f, 1.0, {"k": 2.0})
        assert len(consts) == 2
        return converted(3.0, {"k": 5.0}, *consts), f(3.0, {"k": 5.0})

    got, want = jvp(outer, (X,), (1.0,))
    close(got[0], got[1])
    close(want[0], 3 * np.cos(0.7) + 5)
    converted, consts = closure_convert(lambda x: x * XS[0], 1.0)  # what is not traced stays where it is
    assert consts == [] and converted(2.0) == 2 * XS[0]

    # the use it has: a rule that differentiates through what a function closes over
    @custom_vjp
    def root(converted, guess, *consts):
        return lax.fori_loop(0, 20, lambda i, x: converted(x, *consts), guess)

    root = custom_vjp(root.fun, nondiff_argnums=(0,))

    def fwd(f, guess, *consts):
        x = root(f, guess, *consts)
        return x, (x, consts)

    def bwd(f, res, ct):
        x, consts = res
        slope = jacfwd(f)(x, *consts)
        pulled = vjp(lambda *c: f(x, *c), *consts)[1](ct / (1 - slope))
        return (None, *pulled)

    root.defvjp(fwd, bwd)

    def solve(a):
        f, consts = closure_convert(lambda x: (x + a / x) / 2, 1.0)
        return root(f, 1.0, *consts)

    close(grad(solve)(2.0), 0.5 / 2**0.5)
    close(jit(vmap(grad(solve)))(jnp.array([2.0, 9.0])), [0.5 / 2**0.5, 1 / 6])


# ---------------------------------------------------------------------------------------------- custom_vmap
def test_custom_vmap():
    seen = []

    @custom_vmap
    def f(x, p):
        return {"s": x * p["w"]}, x

    @f.def_vmap
    def rule(size, in_batched, x, p):
        seen.append((size, in_batched, x.shape, p["w"].shape))
        return ({"s": 100 * x * p["w"]}, jnp.broadcast_to(x, (size,))), ({"s": True}, True)

    assert f(2.0, {"w": 3.0})[0]["s"] == 6 and seen == []
    out, same = vmap(f, in_axes=(0, None))(XS, {"w": 3.0})
    close(out["s"], 300 * XS)
    close(same, XS)
    assert seen == [(3, [True, {"w": False}], (3,), ())]
    close(jit(vmap(f))(XS, {"w": XS})[0]["s"], 100 * XS**2)
    close(vmap(lambda x: f(x, {"w": 3.0})[0]["s"], in_axes=0)(XS), 300 * XS)
    close(grad(lambda x: f(x, {"w": 3.0})[0]["s"])(2.0), 3)
    close(grad(lambda x: jnp.sum(vmap(lambda v: f(v, {"w": 3.0})[0]["s"])(x)))(XS), [300, 300, 300])
    unmapped = custom_vmap(lambda x: x)
    unmapped.def_vmap(lambda size, marks, x: (x.sum(), False))
    close(vmap(unmapped, out_axes=None)(XS), XS.sum())
    for bad, word in ((lambda *a: 1, "pair"), (lambda size, marks, x: ((x, x), (True, True)), "structure")):
        unmapped.def_vmap(bad)
        with pytest.raises(errors.StructureError, match=word):
            vmap(unmapped)(XS)


def test_sequential_vmap():
    shapes = []
    f = sequential_vmap(lambda x, y: (shapes.append(x.shape), x * y)[1])
    close(vmap(f, in_axes=(0, None))(XS, 2.0), 2 * XS)
    close(vmap(f, in_axes=(None, 0))(2.0, XS), 2 * XS)
    close(vmap(vmap(f, in_axes=(0, None)), in_axes=(None, 0))(XS, XS), jnp.outer(XS, XS))
    assert set(shapes) == {()}
    loops = [n.primitive.name for n in asgfn.trace(vmap(f, in_axes=(0, None)))(XS, 2.0).nodes]
    assert "scan" in loops
    close(grad(lambda x: jnp.sum(vmap(f, in_axes=(0, None))(x, 2.0)))(XS), [2, 2, 2])


# ---------------------------------------------------------------------------------------------- as values
def test_calls_are_equal_when_they_come_from_the_same_function():
    for f in (sine, cube, vmap(sine), vmap(cube), grad(lambda x: jnp.sum(cube(x))), jit(sine)):
        a, b = asgfn.trace(f)(XS), asgfn.trace(f)(XS)
        assert a == b and hash(a) == hash(b)
    other = custom_jvp(jnp.sin)
    other.defjvp(lambda p, t: (other(*p), t[0]))
    assert asgfn.trace(other)(X) != asgfn.trace(sine)(X)


def test_metadata():
    assert sine.__name__ == "sine" and cube.__name__ == "cube"
    assert "custom_jvp_call" in asgfn.trace(sine)(X).text() and "rule of sine" in asgfn.trace(sine)(X).text()
