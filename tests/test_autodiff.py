"""Derivatives: what grad and its family accept and return, and the conventions they keep."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import errors, grad, hessian, jacfwd, jacrev, jit, jvp, lax, linearize, value_and_grad, vjp, vmap
from asgfn.ad_checkpoint import checkpoint_name, saved_residuals
from asgfn.dtypes import float0
from asgfn.tree_util import tree_leaves, tree_map, tree_structure

Z = np.complex64(0.6 - 0.4j)
X = np.float32(0.7)
close = lambda got, want, rtol=1e-5: np.testing.assert_allclose(np.asarray(got), want, rtol=rtol, atol=1e-6)


def names(f, *args):
    return [node.primitive.name for node in asgfn.trace(f)(*args).nodes]


# ---------------------------------------------------------------------------------------------- grad: forms
def test_argnums_decide_the_structure():
    f = lambda x, p, y: x * x * p["a"] + jnp.sum(p["b"]) * y
    args = (3.0, {"a": 2.0, "b": np.arange(3.0, dtype=np.float32)}, 5.0)
    assert grad(f)(*args) == 12
    assert grad(f, argnums=-1)(*args) == 3
    single = grad(f, argnums=(0,))(*args)
    assert isinstance(single, tuple) and len(single) == 1 and single[0] == 12
    gy, gp = grad(f, argnums=(2, 1))(*args)
    assert gy == 3 and gp["a"] == 9
    close(gp["b"], [5, 5, 5])
    assert tree_structure(gp) == tree_structure(args[1])
    assert grad(f, argnums=[0, 2])(*args)[1] == 3


@pytest.mark.parametrize("argnums", [1, -2, (0, 1), ()])
def test_argnums_out_of_range(argnums):
    with pytest.raises(ValueError, match="argnums"):
        grad(lambda x: x, argnums=argnums)(1.0)
    with pytest.raises(TypeError, match="argnums"):
        grad(lambda x: x, argnums="x")(1.0)


def test_keyword_arguments_are_not_differentiated():
    def f(x, *, power, name):
        assert name == "cube"
        return x**power

    assert grad(f)(2.0, power=3, name="cube") == 12
    assert value_and_grad(f)(2.0, power=3, name="cube") == (8, 12)
    assert jacfwd(f)(2.0, power=3, name="cube") == jacrev(f)(2.0, power=3, name="cube") == 12


def test_aux_may_be_anything():
    marker = object()

    def f(x):
        return x**2, {"twice": 2 * x, "text": "fine", "none": None, "object": marker, "count": 3}

    (value, aux), slope = value_and_grad(f, has_aux=True)(3.0)
    assert (value, slope) == (9, 6)
    assert aux["twice"] == 6 and aux["text"] == "fine" and aux["none"] is None and aux["object"] is marker
    assert aux["count"] == 3
    slope, aux = grad(f, has_aux=True)(3.0)
    assert slope == 6 and aux["text"] == "fine"
    numbers = lambda x: (x**3, x * 3)
    assert jvp(numbers, (2.0,), (1.0,), has_aux=True) == (8, 12, 6)
    out, pull, aux = vjp(numbers, 2.0, has_aux=True)
    assert (out, pull(1.0)[0], aux) == (8, 12, 6)
    out, push, aux = linearize(numbers, 2.0, has_aux=True)
    assert (out, push(1.0), aux) == (8, 12, 6)
    assert jacfwd(numbers, has_aux=True)(2.0) == jacrev(numbers, has_aux=True)(2.0) == (12, 6)
    assert hessian(numbers, has_aux=True)(2.0) == (12, 6)
    # aux of an inner gradient is differentiable in the outer one
    assert grad(lambda x: grad(lambda y: (y**2, x * y), has_aux=True)(x)[1])(3.0) == 6
    with pytest.raises(errors.StructureError, match="pair"):
        grad(lambda x: x, has_aux=True)(1.0)


def test_integers():
    with pytest.raises(errors.TransformError, match=r"int32.*allow_int"):
        grad(lambda n: n * 2.0)(3)
    gn, gx = grad(lambda n, x: jnp.sum(n) * x, argnums=(0, 1), allow_int=True)(np.arange(3), 2.0)
    assert np.asarray(gn).dtype == float0 and np.shape(gn) == (3,) and gx == 3
    (n, y), (dn, dy) = jvp(lambda n, x: (n, n * x), (3, 2.0), (np.zeros((), float0), 1.0))
    assert (n, y, dy) == (3, 6, 3) and np.asarray(dn).dtype == float0
    (ct,) = vjp(lambda n: n + 1, 3)[1](np.zeros((), float0))
    assert np.asarray(ct).dtype == float0
    with pytest.raises(errors.TransformError, match="float0"):
        jvp(lambda n: n, (3,), (1,))
    assert np.asarray(jacrev(lambda n, x: n * x, argnums=(0, 1), allow_int=True)(3, 2.0)[0]).dtype == float0


def test_outputs_without_gradient_are_refused():
    for f, words in (
        (lambda x: 3, "int32"),
        (lambda x: x > 0, "bool"),
        (lambda x: x * 1j, "complex"),
        (lambda x: None, "NoneType"),
    ):
        with pytest.raises(errors.TransformError, match=words):
            grad(f)(1.0)


def test_unused_arguments_get_zeros_of_their_type():
    tree = {"used": 2.0, "unused": np.ones((2, 3), np.float16), "pair": (1.0, np.zeros(0, np.float32))}
    g = grad(lambda t, u: t["used"] ** 2, argnums=(0, 1))(tree, np.ones(2, np.float32))
    assert tree_structure(g[0]) == tree_structure(tree)
    for a, b in zip(tree_leaves(g[0]), tree_leaves(tree), strict=True):
        assert a.shape == np.shape(b) and (not isinstance(b, np.ndarray) or a.dtype == b.dtype)
    assert g[0]["used"] == 4 and not np.any(g[0]["unused"]) and not np.any(g[1])
    assert grad(lambda x: 3.0)(1.0) == 0
    assert [float(np.sum(c)) for c in vjp(lambda x, y: x, 1.0, np.ones(2, np.float32))[1](2.0)] == [2, 0]
    assert jvp(lambda x: 5.0, (1.0,), (1.0,))[1] == 0


# ---------------------------------------------------------------------------------------------- jvp, vjp, linearize
def test_structures_of_jvp_vjp_linearize():
    f = lambda a, b: {"y": a["x"] * b, "z": (b.sum(), None)}
    a, b = {"x": np.ones(2, np.float32)}, np.array([3.0, 4.0], np.float32)
    out, moved = jvp(f, (a, b), ({"x": b}, a["x"]))
    close(out["y"], [3, 4])
    close(moved["y"], [10, 17])
    assert moved["z"] == (2, None)
    out, pull = vjp(f, a, b)
    ca, cb = pull({"y": np.float32([1, 2]), "z": (np.float32(10), None)})
    close(ca["x"], [3, 8])
    close(cb, [11, 12])
    out, push = linearize(f, a, b)
    close(push({"x": b}, a["x"])["y"], [10, 17])
    close(jit(push)({"x": b}, a["x"])["y"], [10, 17])
    close(vmap(push)({"x": jnp.stack([b, 2 * b])}, jnp.zeros((2, 2)))["y"], [[9, 16], [18, 32]])


def test_pullbacks_are_pytrees():
    pull = jit(lambda x: vjp(jnp.sin, x)[1])(jnp.ones(3))
    close(pull(jnp.ones(3))[0], np.cos(np.ones(3)))
    pulls = vmap(lambda x: vjp(jnp.sin, x)[1])(jnp.arange(3.0))
    close(vmap(lambda p, ct: p(ct)[0])(pulls, jnp.ones(3)), np.cos(np.arange(3.0)))


def test_linearize_runs_the_function_once():
    calls = []
    _, push = linearize(lambda x: calls.append(1) or jnp.sin(x) ** 2, 1.0)
    for t in (1.0, 2.0):
        close(push(t), t * np.sin(2.0))
    assert len(calls) == 1
    with pytest.raises(errors.StructureError, match="structure"):
        push((1.0,))


def test_mismatched_tangents_and_cotangents():
    x = jnp.ones(3)
    with pytest.raises(errors.ShapeError, match=r"primals\[0\].*float32\[3\].*float32\[2\]"):
        jvp(jnp.sin, (x,), (jnp.ones(2),))
    with pytest.raises(errors.TransformError, match="float16"):
        jvp(jnp.sin, (x,), (jnp.ones(3, jnp.float16),))
    with pytest.raises(errors.StructureError, match="tuples or lists"):
        jvp(jnp.sin, x, x)
    with pytest.raises(errors.ShapeError, match="cotangent"):
        vjp(jnp.sin, x)[1](1.0)
    with pytest.raises(errors.StructureError):
        vjp(jnp.sin, x)[1]((x,))


def test_linear_transpose():
    f = lambda x, y: {"s": 3 * x + y.sum(), "y": y[::-1]}
    transpose = asgfn.linear_transpose(f, asgfn.ShapeDtypeStruct((), np.float32), jnp.zeros(2))
    cx, cy = transpose({"s": jnp.float32(2), "y": jnp.array([1.0, 5.0])})
    assert cx == 6
    close(cy, [7, 3])
    scale = jnp.float32(4)
    assert grad(lambda s: asgfn.linear_transpose(lambda x: s * x, 1.0)(jnp.float32(3))[0])(scale) == 3  # captured value
    assert asgfn.linear_transpose(lambda z: (2 + 1j) * z, Z)(jnp.complex64(1 + 1j))[0] == 1 + 3j  # no conjugation
    with pytest.raises(errors.TransformError, match="sin"):
        asgfn.linear_transpose(jnp.sin, 1.0)(1.0)
    with pytest.raises(errors.TransformError, match="int32"):
        asgfn.linear_transpose(lambda n: n * 2, 3)


# ---------------------------------------------------------------------------------------------- Jacobians
def test_jacobians_have_the_structure_of_output_over_input():
    f = lambda a, b: {"y": a["x"] * b, "z": b.sum()}
    a, b = {"x": np.ones(2, np.float32)}, np.arange(2.0, dtype=np.float32)
    for jacobian in (jacfwd, jacrev):
        j = jacobian(f, argnums=(0, 1))(a, b)
        close(j["y"][0]["x"], [[0, 0], [0, 1]])
        close(j["y"][1], np.eye(2))
        close(j["z"][0]["x"], [0, 0])
        close(j["z"][1], [1, 1])
        assert isinstance(jacobian(f, argnums=(1,))(a, b)["z"], tuple)
        close(jacobian(f)(a, b)["y"]["x"], [[0, 0], [0, 1]])
        m = jacobian(lambda m: jnp.sin(m).T)(jnp.ones((2, 3)))
        assert m.shape == (3, 2, 2, 3)
        close(m[1, 0, 0, 1], np.cos(1))
        assert jacobian(lambda x: 2 * x)(jnp.ones(0)).shape == (0, 0)
        assert jacobian(lambda x: x[:0])(jnp.ones(2)).shape == (0, 2)
    h = hessian(lambda a, b: jnp.sum(a * a * b), argnums=(0, 1))(jnp.ones(2), jnp.arange(2.0))
    close(h[0][0], np.diag([0, 2]))
    close(h[0][1], np.diag([2, 2]))
    close(h[1][1], np.zeros((2, 2)))
    x = jnp.array([0.5, -1.0, 2.0])
    close(jacfwd(jacfwd(lambda v: jnp.prod(jnp.sin(v))))(x), hessian(lambda v: jnp.prod(jnp.sin(v)))(x), 1e-4)
    close(jacrev(jacrev(lambda v: jnp.prod(jnp.sin(v))))(x), hessian(lambda v: jnp.prod(jnp.sin(v)))(x), 1e-4)


# ---------------------------------------------------------------------------------------------- complex numbers
COMPLEX = {  # figures of the convention df = Re(conj(g) dz) for grad (g is the conjugate of the steepest ascent)
    "abs": (lambda: grad(jnp.abs)(Z), np.conj(Z) / abs(Z)),
    "square": (lambda: grad(lambda z: (z * z.conj()).real)(Z), 2 * np.conj(Z)),
    "real": (lambda: grad(lambda z: (z * z).real)(Z), 2 * Z),
    "imag": (lambda: grad(lambda z: (z * z).imag)(Z), -2j * Z),
    "angle": (lambda: grad(jnp.angle)(Z), -1j / Z),
    "holomorphic": (lambda: grad(lambda z: jnp.sin(z) * z, holomorphic=True)(Z), np.cos(Z) * Z + np.sin(Z)),
    "second": (lambda: grad(grad(jnp.sin, holomorphic=True), holomorphic=True)(Z), -np.sin(Z)),
    "real to complex": (lambda: grad(lambda x: (jnp.exp(1j * x) * (1 + 2j)).real)(X), (1j * np.exp(1j * X) * (1 + 2j)).real),
    "jvp": (lambda: jvp(lambda z: z.conj() * z * z, (Z,), (np.complex64(1j),))[1], -1j * Z**2 + 2j * abs(Z) ** 2),
    "vjp": (lambda: vjp(jnp.exp, Z)[1](jnp.complex64(1 + 2j))[0], np.exp(Z) * (1 + 2j)),
    "vjp of conj": (lambda: vjp(jnp.conj, Z)[1](jnp.complex64(1 + 2j))[0], 1 - 2j),
    "vjp of a real argument": (lambda: vjp(lambda x: jnp.exp(1j * x), X)[1](jnp.complex64(1 + 2j))[0], (1j * np.exp(1j * X) * (1 + 2j)).real),
    "jacfwd": (lambda: jacfwd(lambda z: jnp.exp(1j * z), holomorphic=True)(Z), 1j * np.exp(1j * Z)),
    "jacrev": (lambda: jacrev(lambda z: jnp.exp(1j * z), holomorphic=True)(Z), 1j * np.exp(1j * Z)),
    "jacfwd of a real argument": (lambda: jacfwd(lambda x: jnp.exp(1j * x))(X), 1j * np.exp(1j * X)),
    "hessian": (lambda: hessian(lambda z: z**3, holomorphic=True)(Z), 6 * Z),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPLEX)
def test_complex_conventions(case):
    make, want = COMPLEX[case]
    got = make()
    assert got.dtype == (np.complex64 if np.iscomplexobj(want) else np.float32)
    close(got, want)
    close(jit(make)(), want)


def test_complex_needs_a_word():
    with pytest.raises(errors.TransformError, match="holomorphic"):
        grad(lambda z: z)(Z)
    with pytest.raises(errors.TransformError, match="holomorphic"):
        jacfwd(jnp.abs)(Z)
    with pytest.raises(errors.TransformError, match="floating"):
        jacrev(lambda x: jnp.exp(1j * x))(X)
    with pytest.raises(errors.TransformError, match="complex"):
        grad(jnp.sin, holomorphic=True)(1.0)
    with pytest.raises(errors.TransformError, match="complex"):
        grad(jnp.abs, holomorphic=True)(Z)


# ---------------------------------------------------------------------------------------------- Python control flow
def test_values_are_visible_to_python():
    seen = []

    def f(x):
        seen.append(float(x))
        if x > 1:
            return x**3
        steps = int(x * 10)
        for _ in range(steps):
            x = x * 1.5
        return x * np.asarray(x).item()

    assert grad(f)(2.0) == 12
    assert jvp(f, (2.0,), (1.0,)) == (8, 12)
    close(grad(f)(0.3), 1.5**3 * 0.3 * 1.5**3)  # the value read by NumPy is a constant
    assert grad(grad(f))(2.0) == 12 and grad(grad(grad(f)))(2.0) == 6
    assert jvp(grad(f), (2.0,), (1.0,)) == (12, 12)
    assert all(abs(v - 2) < 1e-6 or abs(v - 0.3) < 1e-6 for v in seen)
    branch = lambda x: x**3 if x > 1 else x
    for blind, arg in ((jit(grad(branch)), 2.0), (vmap(grad(branch)), jnp.array([0.5, 2.0])), (grad(jit(branch)), 2.0)):
        with pytest.raises(errors.TracerBoolConversionError):
            blind(arg)
    mixed = lambda x: vmap(lambda y: y * x if x > 0 else y)(jnp.arange(3.0)).sum()  # x is not what is mapped
    assert grad(mixed)(2.0) == 3 and grad(mixed)(-2.0) == 0


def test_newton_in_python():
    def root(a):
        x = a
        while abs(x * x - a) > 1e-6:
            x = (x + a / x) / 2
        return x

    with asgfn.enable_x64():
        assert float(grad(root)(2.0)) == pytest.approx(0.5 / 2**0.5, rel=1e-5)


def test_nested_levels_do_not_mix():
    assert grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0) == 6  # d/dx x*x
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1  # no perturbation confusion
    assert jvp(lambda x: x * jvp(lambda y: x * y, (2.0,), (1.0,))[1], (3.0,), (1.0,))[1] == 6
    assert grad(lambda x: jvp(lambda y: y**3 * x, (x,), (1.0,))[1])(2.0) == 36  # d/dx 3x^3
    f = lambda x, y: jnp.sin(x * y)
    mixed = grad(lambda x: grad(f, argnums=1)(x, 0.5))(0.3)
    close(mixed, np.cos(0.15) - 0.15 * np.sin(0.15))


# ---------------------------------------------------------------------------------------------- conventions at kinks
KINKS = {
    "abs": (lambda: grad(jnp.abs)(0.0), 1.0),
    "relu": (lambda: grad(asgfn.nn.relu)(0.0), 0.0),
    "maximum of equals": (lambda: grad(lambda x: jnp.maximum(x, 0.0))(0.0), 0.5),
    "max of equals": (lambda: grad(jnp.max)(jnp.array([1.0, 2.0, 2.0])), [0, 0.5, 0.5]),
    "power zero": (lambda: grad(lambda x: x**0)(0.0), 0.0),
    "zero to a power": (lambda: grad(lambda y: 0.0**y)(2.0), 0.0),
    "where does not hide NaN": (lambda: grad(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0))(-1.0), np.nan),
    "where guarded twice": (lambda: grad(lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0))(-1.0), 0.0),
    "floor": (lambda: grad(lambda x: jnp.floor(x) * x)(2.5), 2.0),
}  # fmt: skip


@pytest.mark.parametrize("case", KINKS)
def test_kinks(case):
    make, want = KINKS[case]
    np.testing.assert_array_equal(np.asarray(make()), np.float32(want))


def test_stop_gradient():
    stop = lax.stop_gradient
    assert grad(lambda x: x * stop(x))(3.0) == 3
    assert grad(lambda x: stop({"a": x, "n": 3})["a"] + x)(3.0) == 1
    assert grad(grad(lambda x: x**2 * stop(x)))(3.0) == 6
    assert jvp(stop, (3.0,), (1.0,)) == (3, 0)
    close(vmap(grad(lambda x: x * stop(x)))(jnp.arange(3.0)), [0, 1, 2])
    straight_through = lambda x: x + stop(jnp.round(x) - x)
    assert grad(straight_through)(2.4) == 1 and straight_through(2.4) == 2
    assert "stop_gradient" in names(lambda x: stop(x) * 2, 1.0)


# ---------------------------------------------------------------------------------------------- symbolic zeros
def test_zeros_are_not_computed():
    heavy = lambda w, x: jnp.sum((jnp.tanh(x @ w) @ w.T) ** 2)
    x, w = jnp.ones((2, 3)), jnp.ones((3, 3))
    both = names(grad(heavy, argnums=(0, 1)), w, x)
    one = names(grad(heavy, argnums=1), w, x)
    assert one.count("dot_general") == 4 and both.count("dot_general") == 6
    # tangents of what does not move leave no trace
    constant_part = lambda x, c: jnp.sum(jnp.exp(jnp.sin(c)) * x)
    g = names(grad(constant_part), x, x)
    assert g.count("sin") == g.count("exp") == 1 and "cos" not in g
    assert names(lambda x, c: jvp(lambda y: y * jnp.sin(c), (x,), (x,))[1], x, x) == ["sin", "mul"]
    carried = lambda x: lax.scan(lambda c, v: ((c[0] * v, c[1] + 1), c[1]), (x, 0.0), jnp.ones(3))[0][0]
    body = asgfn.trace(grad(carried))(1.0)
    backward = [n for n in body.nodes if n.primitive.name == "scan"][-1]
    assert (
        len([t for t in backward.out_types if t.dtype == np.float32 and t.shape == ()]) == 1
    )  # only x's cotangent goes round


def test_forward_values_are_shared_with_the_backward_pass():
    assert names(grad(lambda x: jnp.exp(x)), 1.0).count("exp") == 1
    assert names(grad(lambda x: jnp.tanh(x)), 1.0).count("tanh") == 1
    asg = asgfn.simplify(asgfn.trace(value_and_grad(lambda x: jnp.sum(jnp.sin(x) * jnp.cos(x))))(jnp.ones(3)))
    found = [n.primitive.name for n in asg.nodes]
    assert found.count("sin") == found.count("cos") == 1


# ---------------------------------------------------------------------------------------------- checkpoint
def saved(f, *args):
    return [str(t) for t, _ in saved_residuals(f, *args)]


def block(w, x):
    h = checkpoint_name(jnp.sin(x @ w), "hidden")
    return jnp.sum(jnp.tanh(h @ w) ** 2)


POLICIES = asgfn.checkpoint_policies


def test_checkpoint_saves_only_arguments():
    w, x = jnp.ones((3, 3)) * 0.1, jnp.ones((2, 3))
    want = grad(block, argnums=(0, 1))(w, x)
    for policy in (
        None,
        POLICIES.everything_saveable,
        POLICIES.nothing_saveable,
        POLICIES.dots_saveable,
        POLICIES.save_only_these_names("hidden"),
    ):
        for wrap in (lambda f: f, jit, lambda f: lambda *a: vmap(f)(*(v[None] for v in a))):
            got = wrap(grad(asgfn.checkpoint(block, policy=policy), argnums=(0, 1)))(w, x)
            tree_map(lambda a, b: close(jnp.reshape(a, b.shape), b), tuple(got), want)
    assert saved(asgfn.checkpoint(block), w, x) == ["float32[3,3]", "float32[2,3]"]
    assert len(saved(block, w, x)) > 3


def test_checkpoint_policies_choose_what_is_kept():
    w, x = jnp.ones((3, 3)), jnp.ones((2, 3))
    kept = saved_residuals(asgfn.checkpoint(block, policy=POLICIES.save_only_these_names("hidden")), w, x)
    assert [str(t) for t, _ in kept] == ["float32[3,3]", "float32[2,3]", "float32[2,3]"]
    count = lambda f: [n.primitive.name for n in asgfn.simplify(asgfn.trace(f)(w, x)).nodes].count("dot_general")
    again, kept, plain = (
        count(value_and_grad(f))
        for f in (asgfn.checkpoint(block), asgfn.checkpoint(block, policy=POLICIES.dots_saveable), block)
    )
    assert again > kept == plain
    everything = lambda p, *t, **k: True
    assert len(saved(asgfn.checkpoint(block, policy=everything), w, x)) >= len(saved(block, w, x))
    assert [t for t, _ in saved_residuals(lambda x: 2 * x, 1.0)] == []


def test_checkpoint_recomputes_and_nests():
    x = jnp.float32(0.3)
    f = lambda x: jnp.sin(jnp.sin(jnp.sin(x)))
    simple = lambda g: [n.primitive.name for n in asgfn.simplify(asgfn.trace(g)(x)).nodes]
    assert simple(value_and_grad(f)).count("sin") == 3
    assert simple(value_and_grad(asgfn.checkpoint(f))).count("sin") == 5  # the last one is not needed again
    assert simple(value_and_grad(asgfn.checkpoint(f, prevent_cse=False))).count("sin") == 3
    nested = asgfn.checkpoint(lambda x: asgfn.checkpoint(f)(x) * x)
    plain = lambda x: f(x) * x
    for order in (grad, lambda g: grad(grad(g)), jacfwd, lambda g: jacfwd(grad(g)), lambda g: grad(grad(grad(g)))):
        close(order(nested)(x), order(plain)(x), 1e-4)
    scaled = asgfn.checkpoint(lambda x, kind: f(x) if kind == "sin" else x, static_argnums=1)
    close(grad(scaled)(x, "sin"), grad(f)(x))
    assert grad(scaled)(x, "id") == 1
    y = jnp.float32(2)
    assert grad(lambda y: asgfn.checkpoint(lambda x: x * y)(x))(y) == x  # closes over a traced value
    pair = asgfn.checkpoint(lambda d: {"a": d["n"] + 1, "b": jnp.sin(d["x"]) * d["n"]})  # integers beside floats
    close(grad(lambda x: pair({"n": 2, "x": x})["b"])(x), 2 * np.cos(0.3))


# ---------------------------------------------------------------------------------------------- dtypes
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_gradients_keep_the_dtype(dtype):
    x = jnp.asarray(np.linspace(0.1, 1, 5), dtype)
    f = lambda x: jnp.sum(jnp.sin(x) * jnp.exp(x) / (1 + x))
    value, g = value_and_grad(f)(x)
    assert value.dtype == g.dtype == dtype and not g.weak_type
    with asgfn.enable_x64():
        want = grad(f)(jnp.asarray(np.asarray(x), np.float64))
    close(np.asarray(g, np.float64), want, 40 * float(ml_dtypes.finfo(dtype).eps))
    _, moved = jvp(f, (x,), (jnp.ones(5, dtype),))
    assert moved.dtype == dtype
    mixed = grad(lambda h: jnp.sum(h.astype(np.float32) ** 2))(x)
    assert mixed.dtype == dtype
    assert hessian(f)(x).dtype == dtype


def test_weak_and_double():
    g = grad(lambda x: x * x)(3.0)
    assert g.dtype == np.float32 and g == 6
    with asgfn.enable_x64():
        assert grad(lambda x: x * x)(3.0).dtype == np.float64
        assert grad(lambda x: x * x)(np.float32(3)).dtype == np.float32
