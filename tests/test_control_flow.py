"""Loops and branches as operations: against the same thing written in Python, under every transform."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import errors, grad, hessian, jacfwd, jit, jvp, lax, vmap
from asgfn.tree_util import tree_leaves, tree_map, tree_structure

XS = np.array([0.3, -0.8, 1.1, 0.5], np.float32)


def close(got, want, rtol=1e-5):
    assert tree_structure(got) == tree_structure(want)
    for a, b in zip(tree_leaves(got), tree_leaves(want), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-5)


def python_scan(f, init, xs, reverse=False):
    n = len(tree_leaves(xs)[0])
    carry, ys = init, []
    for i in reversed(range(n)) if reverse else range(n):
        carry, y = f(carry, tree_map(lambda x: x[i], xs))
        ys.append(y)
    return carry, tree_map(lambda *rows: jnp.stack(rows), *(ys[::-1] if reverse else ys))


def primitives(asg):
    for node in asg.nodes:
        yield node.primitive.name
    for inner in asg.inner:
        yield from primitives(inner)


# ---------------------------------------------------------------------------------------------- scan
def cell(c, x):
    h = jnp.tanh(c["h"] * x["a"] + c["n"])
    return {"h": h, "n": c["n"] * 0.9 + x["b"][0]}, (h * x["a"], {"n": c["n"]})


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("unroll", [1, 3, True])
def test_scan_on_pytrees(reverse, n, unroll):
    init, xs = {"h": jnp.float32(0.5), "n": jnp.float32(0.1)}, {"a": jnp.asarray(XS[:n]), "b": jnp.ones((n, 2)) * 0.2}
    run = lambda init, xs: lax.scan(cell, init, xs, reverse=reverse, unroll=unroll)
    want = python_scan(cell, init, xs, reverse)
    close(run(init, xs), want)
    close(jit(run)(init, xs), want)
    with asgfn.disable_jit():
        close(run(init, xs), want)

    loss = lambda scan: lambda init, xs: sum(jnp.sum(v**2) for v in tree_leaves(scan(init, xs)))
    ours, theirs = loss(run), loss(lambda i, x: python_scan(cell, i, x, reverse))
    close(jit(grad(ours, argnums=(0, 1)))(init, xs), grad(theirs, argnums=(0, 1))(init, xs))


def test_empty_scans():
    c, ys = lax.scan(lambda c, x: (c + x, (x, jnp.stack([c, c]))), 2.0, jnp.zeros(0))
    assert c == 2 and ys[0].shape == (0,) and ys[1].shape == (0, 2)
    f = lambda c, xs: lax.scan(lambda c, x: (c * x, c), c, xs)[0]
    g = grad(f, argnums=(0, 1))(3.0, jnp.zeros(0))
    assert g[0] == 1 and g[1].shape == (0,)
    assert lax.scan(lambda c, _: (c + 1, None), 0, None, length=5) == (5, None)
    assert lax.scan(lambda c, _: (c, None), (), None, length=2) == ((), None)
    close(vmap(lambda c: lax.scan(lambda c, x: (c, x), c, jnp.zeros(0))[0])(XS), XS)


def test_scan_promotes_weak_carries():
    c, ys = lax.scan(lambda c, x: (c + x, c), 0, XS)
    assert c.dtype == ys.dtype == np.float32
    (a, b), _ = lax.scan(lambda c, x: ((c[1], c[0] + x), None), (0, 0), XS)  # through the other carry
    assert a.dtype == b.dtype == np.float32
    assert lax.scan(lambda c, x: (c * 2, None), 1, XS)[0].weak_type
    assert lax.scan(lambda c, x: (c + x, None), 0.0, XS.astype(np.float16))[0].dtype == np.float16
    for bad in (lambda c, x: (c * 1.5, None), lambda c, x: (jnp.stack([c, c]), None)):
        with pytest.raises(errors.StructureError, match="carry"):
            lax.scan(bad, jnp.int32(1), XS)
    with pytest.raises(errors.StructureError, match=r"carry\['a'\]"):
        lax.scan(lambda c, x: ({"a": c["a"] * 0.5, "b": c["b"]}, None), {"a": jnp.int32(1), "b": 0}, XS)
    with pytest.raises(errors.StructureError, match="structure"):
        lax.scan(lambda c, x: ((c, c), None), 0.0, XS)
    with pytest.raises(errors.StructureError, match="pair"):
        lax.scan(lambda c, x: c, 0.0, XS)


def test_scan_lengths():
    for arguments in ({"xs": XS, "length": 3}, {"xs": (XS, XS[:2])}, {"xs": None}):
        with pytest.raises(errors.ShapeError):
            lax.scan(lambda c, x: (c, None), 0.0, **arguments)
    with pytest.raises(errors.ShapeError, match="scalar"):
        lax.scan(lambda c, x: (c, None), 0.0, 1.0)
    with pytest.raises((ValueError, TypeError), match="length"):
        lax.scan(lambda c, x: (c, None), 0.0, None, length=-1)


def test_scan_closes_over_traced_values():
    def f(w, s, xs):
        return lax.scan(lambda c, x: (jnp.tanh(c * w + x * s), jnp.sin(w) * x), 0.1, xs)

    def unrolled(w, s, xs):
        return python_scan(lambda c, x: (jnp.tanh(c * w + x * s), jnp.sin(w) * x), 0.1, xs)

    total = lambda g: lambda *a: g(*a)[0] + jnp.sum(g(*a)[1] ** 2)
    args = (jnp.float32(0.7), jnp.float32(-0.4), jnp.asarray(XS))
    close(grad(total(f), argnums=(0, 1, 2))(*args), grad(total(unrolled), argnums=(0, 1, 2))(*args))
    close(vmap(f, in_axes=(0, None, None))(XS, *args[1:]), vmap(unrolled, in_axes=(0, None, None))(XS, *args[1:]))
    close(hessian(total(f), argnums=(0, 1))(*args), hessian(total(unrolled), argnums=(0, 1))(*args), 1e-4)
    # what does not depend on the loop is not stored once a step
    stacked = next(n for n in asgfn.trace(grad(total(f)))(*args).nodes if n.primitive.name == "scan")
    assert "cos" not in primitives(stacked.params["asg"])


def orders(f):
    """f's derivatives of order 1 to 3 in several mixtures of modes."""
    yield from (
        grad(f),
        grad(grad(f)),
        jacfwd(grad(f)),
        grad(jacfwd(f)),
        jacfwd(jacfwd(f)),
        grad(grad(grad(f))),
        jacfwd(grad(jacfwd(f))),
    )


def assert_same_derivatives(f, g, x, rtol=2e-4):
    for a, b in zip(orders(f), orders(g), strict=True):
        close(a(x), b(x), rtol)
    close(jit(grad(f))(x), grad(g)(x), rtol)


def test_all_orders_of_derivative():
    def loop(x):
        c, ys = lax.scan(lambda c, v: (jnp.sin(c * v) + x, c**2), x, XS)
        return c + jnp.sum(ys)

    def unrolled(x):
        c, total = x, 0.0
        for v in XS:
            c, total = jnp.sin(c * v) + x, total + c**2
        return c + total

    assert_same_derivatives(loop, unrolled, jnp.float32(0.6))


def test_integers_beside_floats_in_the_carry():
    def f(x):
        def body(c, v):
            i, s, flag = c
            return (i + 1, s * jnp.sin(x) + jnp.asarray(XS)[i] * v, ~flag), (i, s * i)

        (i, s, flag), (count, ys) = lax.scan(body, (0, x, True), jnp.arange(4))
        return s + jnp.sum(ys), (i, flag, count)

    value, aux = f(jnp.float32(0.4))
    assert aux[0] == 4 and aux[1] and list(aux[2]) == [0, 1, 2, 3]

    def unrolled(x):
        s, total = x, 0.0
        for i in range(4):
            s, total = s * jnp.sin(x) + XS[i] * i, total + s * i
        return s + total

    close(value, unrolled(jnp.float32(0.4)))
    assert_same_derivatives(lambda x: f(x)[0], unrolled, jnp.float32(0.4))
    tangent = jvp(lambda x: f(x)[1], (jnp.float32(0.4),), (jnp.float32(1),))[1]
    assert all(np.asarray(t).dtype == asgfn.dtypes.float0 for t in tree_leaves(tangent))


def test_checkpoint_inside_scan():
    step = lambda c, v: (jnp.tanh(jnp.sin(c * v) + jnp.cos(c)), c)
    plain = lambda x: sum(map(jnp.sum, lax.scan(step, x, XS)))
    saving = lambda x: sum(map(jnp.sum, lax.scan(asgfn.checkpoint(step), x, XS)))
    assert_same_derivatives(saving, plain, jnp.float32(0.6))
    stacks = lambda f: (
        next(n for n in asgfn.trace(grad(f))(jnp.float32(1)).nodes if n.primitive.name == "scan").out_types
    )
    assert len(stacks(saving)) < len(stacks(plain))


def test_nested_loops():
    def loop(x):
        def outer(c, v):
            inner = lambda i, a: a * jnp.cos(v) + x * i
            return lax.fori_loop(0, 3, inner, c), lax.scan(lambda a, w: (a * w, a), c, XS[:2])[1]

        c, ys = lax.scan(outer, x, XS)
        return c + jnp.sum(ys)

    def unrolled(x):
        c, total = x, 0.0
        for v in XS:
            total = total + c + c * XS[0]
            for i in range(3):
                c = c * np.cos(v) + x * i
        return c + total

    x = jnp.float32(0.6)
    close(loop(x), unrolled(x))
    assert_same_derivatives(loop, unrolled, x)
    close(vmap(loop)(XS), jnp.stack([unrolled(v) for v in jnp.asarray(XS)]))


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, None, 0), (0, 1, 1), (None, 1, 0)])
def test_vmap_of_scan(axes):
    w, init, xs = 0.7, jnp.ones(2), jnp.asarray(XS)
    f = lambda w, init, xs: lax.scan(lambda c, x: (c * w + x, (c[0], x)), init, xs)
    rng = np.random.default_rng(0)
    arrays = [np.float32(rng.normal(size=np.shape(a))) for a in (w, init, xs)]
    args = [
        a if d is None else np.stack([a, 2 * a, a - 1], axis=min(d, np.ndim(a)))
        for a, d in zip(arrays, axes, strict=True)
    ]
    axes = [None if d is None else min(d, np.ndim(a)) for a, d in zip(arrays, axes, strict=True)]
    rows = [f(*(a if d is None else np.take(a, i, d) for a, d in zip(args, axes, strict=True))) for i in range(3)]
    close(vmap(f, in_axes=tuple(axes))(*args), tree_map(lambda *r: jnp.stack(r), *rows))


# ---------------------------------------------------------------------------------------------- cond and switch
def test_cond_runs_one_branch():
    ran = []
    log = lambda word, out: (asgfn.debug.callback(lambda: ran.append(word)), out)[1]
    f = jit(lambda p, x: lax.cond(p, lambda x: log("yes", x * 2), lambda x: log("no", x - 1), x))
    assert f(True, 3.0) == 6 and f(False, 3.0) == 2 and ran == ["yes", "no"]
    assert f(2, 3.0) == 6 and f(0.0, 3.0) == 2  # numbers count by being zero or not
    with asgfn.disable_jit():
        assert lax.cond(True, lambda: 1, lambda: 1 / 0) == 1
        assert lax.switch(5, [lambda: 1, lambda: 2]) == 2


def test_cond_forms_and_errors():
    assert lax.cond(True, lambda x, y: x + y, lambda x, y: x, 1, 2) == 3
    assert lax.cond(False, lambda x: x, lambda x: -x, operand=4.0) == -4
    assert lax.cond(True, 1.0, lambda x: x, 2.0, lambda x: -x) == 1  # the older form
    assert lax.cond(True, lambda: None, lambda: None) is None
    assert lax.cond(True, lambda x: {"a": x, "n": 1}, lambda x: {"a": x * 2, "n": 2}, 3.0) == {"a": 3, "n": 1}
    out = lax.cond(True, lambda x: 1, lambda x: x, jnp.float32(2))  # a weak result joins the other branch's dtype
    assert out.dtype == np.float32 and out == 1
    for message, call in {
        "scalar": lambda: lax.cond(jnp.ones(2) > 0, lambda: 1, lambda: 2),
        "structure": lambda: lax.cond(True, lambda: 1, lambda: (1, 2)),
        "float32.*int32|int32.*float32": lambda: lax.cond(True, lambda: jnp.ones(2), lambda: jnp.ones(2, int)),
        r"\[2\].*\[3\]|\[3\].*\[2\]": lambda: lax.cond(True, lambda: jnp.ones(2), lambda: jnp.ones(3)),
        "complex": lambda: lax.cond(1j, lambda: 1, lambda: 2),
        "integer": lambda: lax.switch(1.0, [lambda: 1]),
        "non-empty": lambda: lax.switch(1, []),
        "scalar ": lambda: lax.switch(jnp.arange(2), [lambda: 1]),
    }.items():
        with pytest.raises((errors.AsgError, TypeError), match=message.strip()):
            call()


BRANCHES = [jnp.sin, lambda x: x**3, lambda x: jnp.float32(2.0) + 0 * x, lambda x: jnp.exp(x) * XS[0]]


@pytest.mark.parametrize("index", [-3, 0, 1, 2, 3, 9])
def test_switch_clamps_and_differentiates(index):
    branch = BRANCHES[min(max(index, 0), 3)]
    x = jnp.float32(0.7)
    for dtype in (np.int32, np.int8):
        close(jit(lambda i, x: lax.switch(i, BRANCHES, x))(np.array(index, dtype), x), branch(x))
    assert_same_derivatives(lambda x: lax.switch(index, BRANCHES, x), branch, x)


def test_switch_of_unsigned_and_single():
    assert lax.switch(np.uint8(200), [lambda: 1, lambda: 2]) == 2
    assert lax.switch(7, [lambda x: x + 1], 1) == 2


def test_branches_with_different_residuals_and_captures():
    a, b = jnp.float32(0.3), jnp.float32(0.9)

    def f(a, b, x, p):
        return lax.cond(p, lambda x: jnp.sin(a * x) * a, lambda x: jnp.sum(jnp.exp(jnp.stack([x, b, b * x]))), x)

    for p in (True, False):
        want = (lambda a, b, x: jnp.sin(a * x) * a) if p else (lambda a, b, x: jnp.exp(x) + jnp.exp(b) + jnp.exp(b * x))
        for wrap in (lambda g: g, jit):
            close(wrap(grad(f, argnums=(0, 1, 2)))(a, b, 0.5, p), grad(want, argnums=(0, 1, 2))(a, b, 0.5))
        close(hessian(f, argnums=(0, 1))(a, b, 0.5, p), hessian(want, argnums=(0, 1))(a, b, 0.5), 1e-4)
    predicate = lambda x: lax.cond(x > 0, lambda x: x**2, lambda x: -x, x)
    close(vmap(grad(predicate))(XS), np.where(XS > 0, 2 * XS, -1))
    assert_same_derivatives(predicate, lambda x: x**2, jnp.float32(0.5))


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (0, 0, None), (None, None, 0), (0, 0, 0)])
def test_vmap_of_cond(axes):
    c = np.array([1.0, 2.0, 3.0], np.float32)
    f = lambda p, x, c: lax.cond(p > 0, lambda x: (x.sum() * c, x), lambda x: (x[0] - c, x * 2), x)
    base = (np.float32(0.5), np.float32([1, 2]), np.float32(3))
    scale = np.float32([1, -1, 2])
    args = [b if d is None else np.stack([b * s for s in scale]) for b, d in zip(base, axes, strict=True)]
    rows = [f(*(a if d is None else a[i] for a, d in zip(args, axes, strict=True))) for i in range(len(c))]
    want = tree_map(lambda *r: jnp.stack(r), *rows)
    close(vmap(f, in_axes=axes)(*args), want)
    total = lambda *a: sum(jnp.sum(v) for v in tree_leaves(vmap(f, in_axes=axes)(*a)))
    unrolled = lambda *a: sum(
        jnp.sum(v)
        for i in range(3)
        for v in tree_leaves(f(*(x if d is None else x[i] for x, d in zip(a, axes, strict=True))))
    )
    close(grad(total, argnums=(1, 2))(*args), grad(unrolled, argnums=(1, 2))(*args))
    assert ("cond" in primitives(asgfn.trace(vmap(f, in_axes=axes))(*args))) == (axes[0] is None)


def test_switch_under_a_batched_index():
    got = vmap(lambda i, x: lax.switch(i, BRANCHES, x))(
        np.array([0, 3, 7, -1, 1]), np.float32([0.1, 0.2, 0.3, 0.4, 2.0])
    )
    close(got, np.array([np.sin(0.1), np.exp(0.2) * XS[0], np.exp(0.3) * XS[0], np.sin(0.4), 8.0]))


# ---------------------------------------------------------------------------------------------- while and fori
def test_while_loop():
    collatz = lambda n: lax.while_loop(
        lambda c: c[0] != 1, lambda c: (jnp.where(c[0] % 2, 3 * c[0] + 1, c[0] // 2), c[1] + 1), (n, 0)
    )[1]
    steps = [0, 1, 7, 2, 5, 8, 16, 3]
    assert [int(jit(collatz)(n)) for n in range(1, 9)] == steps
    close(vmap(collatz)(jnp.arange(1, 9)), np.array(steps))
    with asgfn.disable_jit():
        assert collatz(7) == 16
    assert lax.while_loop(lambda c: False, lambda c: c + 1, 3) == 3
    out = lax.while_loop(lambda c: c < 3, lambda c: c + jnp.float32(1), 0)  # a weak carry becomes the body's dtype
    assert out.dtype == np.float32 and out == 3
    for match, call in {
        "boolean": lambda: lax.while_loop(lambda c: c, lambda c: c, 1.0),
        "scalar": lambda: lax.while_loop(lambda c: c > 0, lambda c: c, jnp.ones(2)),
        "one boolean": lambda: lax.while_loop(lambda c: (c > 0,), lambda c: c, 1.0),
        "carry": lambda: lax.while_loop(lambda c: c[0] > 0, lambda c: (c[0], c[0]), (1.0, jnp.ones(2))),
        "structure": lambda: lax.while_loop(lambda c: True, lambda c: (c, c), 1.0),
        "negative": lambda: lax.while_loop(lambda c: True, lambda c: c, 1.0, max_steps=-1),
        "functions": lambda: lax.while_loop(True, lambda c: c, 1.0),
    }.items():
        with pytest.raises((errors.AsgError, TypeError, ValueError), match=match):
            call()


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, None, 0), (0, 0, None), (0, 0, 0)])
def test_vmap_of_while(axes):
    def f(limit, x, k):
        return lax.while_loop(lambda c: c[0].sum() < limit, lambda c: (c[0] + k, c[1] + 1, k * 2), (x, 0, k))

    base, scale = (np.float32(6), np.float32([0.5, 1]), np.float32(0.7)), np.float32([1, 2, 0.5])
    args = [b if d is None else np.stack([b * s for s in scale]) for b, d in zip(base, axes, strict=True)]
    rows = [f(*(a if d is None else a[i] for a, d in zip(args, axes, strict=True))) for i in range(3)]
    close(vmap(f, in_axes=axes)(*args), tree_map(lambda *r: jnp.stack(r), *rows))
    pushed = lambda *a: jvp(f, a, tuple(map(jnp.ones_like, a)))[1]
    rows = [pushed(*(a if d is None else a[i] for a, d in zip(args, axes, strict=True))) for i in range(3)]
    got = vmap(pushed, in_axes=axes)(*args)
    close((got[0], got[2]), tree_map(lambda *r: jnp.stack(r), *[(r[0], r[2]) for r in rows]))


def test_derivatives_of_while():
    def loop(x, **bound):
        return lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, jnp.sin(c[1]) * x + c[1]), (0, x), **bound)[1]

    def unrolled(x):
        c = x
        for _ in range(4):
            c = jnp.sin(c) * x + c
        return c

    x = jnp.float32(0.4)
    for forward in (jacfwd, lambda f: jacfwd(jacfwd(f))):
        close(forward(loop)(x), forward(unrolled)(x), 1e-4)
    for bound in (4, 9):
        assert_same_derivatives(lambda x: loop(x, max_steps=bound), unrolled, x)
        xs = jnp.asarray(XS)
        close(vmap(grad(lambda x: loop(x, max_steps=bound)))(xs), vmap(grad(unrolled))(xs), 1e-4)
    assert loop(x, max_steps=2) == jnp.sin(jnp.sin(x) * x + x) * x + jnp.sin(x) * x + x  # stops there
    assert loop(x, max_steps=0) == x
    with pytest.raises(errors.TransformError, match="max_steps"):
        grad(loop)(x)
    # steps that are not taken do not spoil the gradient
    safe = lambda x: lax.while_loop(lambda c: c > 0.1, lambda c: c - 0.3 * jnp.sqrt(c), x, max_steps=50)
    assert np.isfinite(grad(safe)(1.0))


def test_fori_loop():
    body = lambda i, c: (c[0] + i, c[1] * XS[1] + i)
    want = (sum(range(2, 6)), 0.5)
    for i in range(2, 6):
        want = (want[0], want[1] * XS[1] + i)
    for bounds in ((2, 6), (np.int8(2), np.int8(6)), (jnp.int32(2), 6)):
        for f in (lax.fori_loop, jit(lax.fori_loop, static_argnums=2)):
            close(f(*bounds, body, (0, 0.5)), want)
    with asgfn.disable_jit():
        close(lax.fori_loop(2, 6, body, (0, 0.5)), want)
    assert (
        lax.fori_loop(5, 2, lambda i, c: c + 1, 7)
        == 7
        == jit(lambda a, b: lax.fori_loop(a, b, lambda i, c: c + 1, 7))(5, 2)
    )
    assert grad(lambda x, n: lax.fori_loop(0, n, lambda i, c: c * x, 1.0))(2.0, 3) == 12  # a known bound is static
    assert jacfwd(jit(lambda x, n: lax.fori_loop(0, n, lambda i, c: c * x, 1.0)))(2.0, 3) == 12
    close(vmap(lambda n: lax.fori_loop(0, n, lambda i, c: c + i, 0))(jnp.arange(5)), np.array([0, 0, 1, 3, 6]))
    with pytest.raises(errors.DTypeError):
        lax.fori_loop(0.0, 3, lambda i, c: c, 0)
    with pytest.raises(TypeError):
        lax.fori_loop(0, 3, None, 0)


# ---------------------------------------------------------------------------------------------- map and associative_scan
@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 5, 9])
def test_map(batch_size):
    xs = {"a": jnp.arange(5.0), "b": jnp.arange(10.0).reshape(5, 2)}
    f = lambda x: (x["a"] * x["b"], x["b"].sum())
    want = (xs["a"][:, None] * xs["b"], xs["b"].sum(1))
    close(lax.map(f, xs, batch_size=batch_size), want)
    close(grad(lambda a: jnp.sum(lax.map(jnp.sin, a, batch_size=batch_size)))(xs["a"]), jnp.cos(xs["a"]))
    assert lax.map(lambda x: x * 2, jnp.ones((0, 2)), batch_size=batch_size).shape == (0, 2)


def test_map_needs_a_positive_batch():
    with pytest.raises(ValueError, match="batch_size"):
        lax.map(lambda x: x, jnp.ones(3), batch_size=0)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n, reverse):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, 2, n)).astype(np.float32)
    affine = lambda f, g: (f[0] * g[0], f[1] * g[0] + g[1])
    got = lax.associative_scan(affine, (jnp.asarray(a), jnp.asarray(b)), reverse=reverse, axis=-1)
    order = range(n)[::-1] if reverse else range(n)
    want, so_far = (np.zeros_like(a), np.zeros_like(b)), None
    for i in order:
        so_far = (a[:, i], b[:, i]) if so_far is None else affine(so_far, (a[:, i], b[:, i]))
        want[0][:, i], want[1][:, i] = so_far
    close(got, want, 1e-4)
    x = jnp.asarray(a[0])
    cumulative = lambda x: jnp.sum(lax.associative_scan(jnp.add, x, reverse=reverse) ** 2)
    plain = lambda x: jnp.sum((jnp.cumsum(x[::-1])[::-1] if reverse else jnp.cumsum(x)) ** 2)
    close(grad(cumulative)(x), grad(plain)(x), 1e-4)
    flags = lax.associative_scan(jnp.logical_or, x > 0.5, reverse=reverse)
    assert flags.dtype == np.bool_ and flags.shape == (n,)
