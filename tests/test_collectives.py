"""Collectives across named axes, against explicit sums and permutations of the stacked values."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import errors, grad, jacrev, jit, jvp, lax, vmap

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(4, 4, 3)), np.float32)  # 4 members, each with a (4, 3) value
close = lambda got, want: np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-5, atol=1e-5)
everyone = lambda y: jnp.broadcast_to(y, (4, *y.shape))
RING = [(0, 1), (1, 2), (2, 3), (3, 0)]


def over(f, **options):
    return vmap(f, axis_name="i", **options)


# what each does to the values of all members at once: (per member, stacked)
CASES = {
    "psum": (lambda x: lax.psum(x, "i"), lambda x: everyone(x.sum(0))),
    "pmean": (lambda x: lax.pmean(x, "i"), lambda x: everyone(x.mean(0))),
    "pmax": (lambda x: lax.pmax(x, "i"), lambda x: everyone(x.max(0))),
    "pmin": (lambda x: lax.pmin(x, "i"), lambda x: everyone(x.min(0))),
    "all_gather": (lambda x: lax.all_gather(x, "i"), lambda x: everyone(x)),
    "all_gather axis": (lambda x: lax.all_gather(x, "i", axis=-1), lambda x: everyone(jnp.moveaxis(x, 0, -1))),
    "all_gather tiled": (lambda x: lax.all_gather(x, "i", axis=1, tiled=True), lambda x: everyone(jnp.concatenate(list(x), 1))),
    "ppermute": (lambda x: lax.ppermute(x, "i", RING), lambda x: jnp.roll(x, 1, 0)),
    "ppermute partial": (lambda x: lax.ppermute(x, "i", [(0, 2), (3, 0)]), lambda x: jnp.stack([x[3], 0 * x[0], x[0], 0 * x[0]])),
    "pshuffle": (lambda x: lax.pshuffle(x, "i", [2, 0, 3, 1]), lambda x: x[jnp.array([2, 0, 3, 1])]),
    "all_to_all": (lambda x: lax.all_to_all(x, "i", 0, 0), lambda x: x.swapaxes(0, 1)),
    "all_to_all to the end": (lambda x: lax.all_to_all(x, "i", 0, 1), lambda x: jnp.transpose(x, (1, 2, 0))),
    "all_to_all tiled": (
        lambda x: lax.all_to_all(x, "i", 0, 1, tiled=True),
        lambda x: jnp.stack([jnp.concatenate([x[j, i : i + 1] for j in range(4)], 1) for i in range(4)]),
    ),
    "psum_scatter": (lambda x: lax.psum_scatter(x, "i"), lambda x: x.sum(0)),
    "psum_scatter tiled": (lambda x: lax.psum_scatter(x, "i", tiled=True), lambda x: x.sum(0)[:, None]),
    "pbroadcast": (lambda x: lax.pbroadcast(x, "i", 2), lambda x: everyone(x[2])),
    "axis_index": (lambda x: x * lax.axis_index("i"), lambda x: x * jnp.arange(4.0)[:, None, None]),
    "axis_size": (lambda x: x * lax.axis_size("i"), lambda x: x * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    member, stacked = CASES[name]
    f = over(member)
    want = stacked(X)
    for g in (
        f,
        jit(f),
        over(jit(member)),
        over(asgfn.checkpoint(member)),
        over(lambda x: lax.cond(x[0, 0] > -99, member, member, x)),
    ):
        close(g(X), want)
    close(over(member, in_axes=1)(jnp.moveaxis(X, 0, 1)), want)
    close(over(member, out_axes=-1)(X), jnp.moveaxis(want, 0, -1))
    weights = jnp.asarray(RNG.normal(size=want.shape), np.float32)
    loss = lambda g: lambda x: jnp.sum(jnp.sin(g(x)) * weights)
    close(grad(loss(f))(X), grad(loss(stacked))(X))
    close(jit(grad(loss(over(jit(member)))))(X), grad(loss(stacked))(X))
    direction = jnp.cos(X)
    close(jvp(f, (X,), (direction,))[1], jvp(stacked, (X,), (direction,))[1])
    second = lambda g: grad(lambda x: jnp.sum(grad(loss(g))(x) * direction))
    close(second(f)(X), second(stacked)(X))
    in_a_loop = over(lambda x: lax.scan(lambda c, _: (c, member(x) + c), 0.0, None, length=2)[1][1])
    close(in_a_loop(X), want)
    close(grad(loss(in_a_loop))(X), grad(loss(stacked))(X))
    batch = jnp.stack([X, 2 * X, X - 1])  # an outer map, named or not
    for outer in (vmap(f), vmap(f, axis_name="j"), vmap(jit(f))):
        close(outer(batch), jnp.stack([stacked(x) for x in batch]))
    close(vmap(f, in_axes=3, out_axes=1)(jnp.moveaxis(batch, 0, 3)), jnp.stack([stacked(x) for x in batch], 1))
    close(over(vmap(member, in_axes=0))(jnp.moveaxis(batch, 0, 1)), jnp.stack([stacked(x) for x in batch], 1))


def test_grad_inside_the_map_sees_one_member():
    # the derivative of member i's own loss: the transpose of psum is psum, as in JAX
    g = over(grad(lambda x: jnp.sum(lax.psum(x**2, "i"))))(X)
    close(g, 4 * 2 * X)
    g = over(grad(lambda x: jnp.sum(lax.pmean(x**2, "i"))))(X)
    close(g, 2 * X)
    average = over(lambda x: lax.pmean(grad(lambda v: jnp.sum(v**3))(x), "i"))(X)  # data parallel training
    close(average, everyone((3 * X**2).mean(0)))


@pytest.mark.parametrize(
    "name, want",
    [
        ("psum", 8.0),
        ("pmean", 2.0),
        ("pmax", 2.0),
        ("pmin", 2.0),
        ("all_gather", [2.0] * 4),
        ("ppermute", 2.0),
        ("pbroadcast", 2.0),
    ],
)
def test_operands_that_are_not_mapped(name, want):
    call = {"ppermute": lambda y: lax.ppermute(y, "i", RING), "pbroadcast": lambda y: lax.pbroadcast(y, "i", 1)}
    f = call.get(name, lambda y: getattr(lax, name)(y, "i"))
    for value in (jnp.float32(2), np.float32(2)):
        close(over(lambda x: f(value) + 0 * x[0, 0])(X), np.broadcast_to(np.float32(want), (4, *np.shape(want))))
    close(over(lambda x, y: f(y), in_axes=(0, None))(X, 2.0), np.broadcast_to(np.float32(want), (4, *np.shape(want))))
    close(
        jacrev(lambda y: over(lambda x: f(y) + 0 * x[0, 0])(X))(2.0),
        np.broadcast_to(np.float32(want), (4, *np.shape(want))) / 2,
    )


def test_python_numbers_stay_python_numbers():
    seen = []
    over(lambda x: (seen.append((lax.psum(1, "i"), lax.psum(2.5, "i"), lax.axis_size("i"))), x)[1])(X)
    assert seen == [(4, 10.0, 4)] and type(seen[0][0]) is int


def test_several_names():
    f = vmap(
        vmap(
            lambda x: (
                lax.psum(x, ("i", "j")),
                lax.psum(x, "j"),
                lax.axis_index(("i", "j")),
                lax.axis_size(("i", "j")),
            ),
            axis_name="j",
        ),
        axis_name="i",
    )
    x = X[..., 0]
    both, inner, index, size = f(x)
    close(both, np.full((4, 4), x.sum()))
    close(inner, np.broadcast_to(np.asarray(x).sum(1)[:, None], (4, 4)))
    close(index, np.arange(16).reshape(4, 4))
    assert np.all(np.asarray(size) == 16)
    gathered = vmap(vmap(lambda x: lax.all_gather(x, ("i", "j")), axis_name="j"), axis_name="i")(x)
    close(gathered, np.broadcast_to(np.asarray(x).ravel(), (4, 4, 16)))
    product = vmap(lambda a: vmap(lambda b: lax.psum(a * b, "i"), axis_name="j")(x[0]), axis_name="i")(x[1])
    close(product, np.broadcast_to(np.asarray(x[1]).sum() * np.asarray(x[0]), (4, 4)))
    shadowed = vmap(vmap(lambda x: lax.psum(x, "i"), axis_name="i"), axis_name="i")(x)  # the innermost one is meant
    close(shadowed, np.broadcast_to(np.asarray(x).sum(1)[:, None], (4, 4)))


def test_pytrees_and_dtypes():
    x = {"a": X, "n": jnp.arange(4), "b": jnp.array([True, False, False, True])}
    out = over(lambda x: lax.psum(x, "i"))(x)
    assert out["n"].dtype == out["b"].dtype == np.int32 and out["n"][0] == 6 and out["b"][0] == 2
    out = over(lambda x: lax.pmean(x["n"], "i"))(x)
    assert out.dtype == np.float32 and out[0] == 1.5
    out = over(lambda x: lax.ppermute(x, "i", [(0, 1)]))(x)
    assert out["b"].dtype == np.bool_ and list(np.asarray(out["b"])) == [False, True, False, False]
    close(over(lambda z: lax.psum(z, "i"))(jnp.array([1j, 2, 3, 4])), np.full(4, 9 + 1j))


def test_members_without_a_sender_get_zeros_whatever_they_hold():
    bad = jnp.array([jnp.nan, jnp.inf, 1.0])
    close(over(lambda x: lax.ppermute(x, "i", [(2, 1)]))(bad), [0, 1, 0])


def test_ties_share_the_derivative():
    close(jacrev(lambda x: over(lambda v: lax.pmax(v, "i"))(x)[0])(jnp.array([1.0, 3.0, 3.0])), [0, 0.5, 0.5])


@pytest.mark.parametrize(
    "words, call",
    {
        "'j' is not bound.*'i'": lambda x: lax.psum(x, "j"),
        "distinct": lambda x: lax.ppermute(x, "i", [(0, 1), (2, 1)]),
        r"\[0, 4\)": lambda x: lax.ppermute(x, "i", [(0, 4)]),
        "all_to_all.*length 4": lambda x: lax.all_to_all(x, "i", 1, 0),
        "all_to_all.*divisible": lambda x: lax.all_to_all(x, "i", 1, 0, tiled=True),
        "psum_scatter.*length 4": lambda x: lax.psum_scatter(x, "i", scatter_dimension=1),
        "psum_scatter.*divisible": lambda x: lax.psum_scatter(x, "i", scatter_dimension=1, tiled=True),
        "axis_index_groups": lambda x: lax.psum(x, "i", axis_index_groups=[[0, 1], [2, 3]]),
    }.items(),
)
def test_errors(words, call):
    with pytest.raises(errors.AsgError, match=words):
        over(call)(X)


def test_collectives_need_a_map():
    for f in (lambda x: lax.psum(x, "i"), lambda x: lax.axis_index("i"), jit(lambda x: lax.all_gather(x, "i"))):
        with pytest.raises(errors.UnboundAxisError, match="vmap"):
            f(X)
    with pytest.raises(errors.UnboundAxisError):
        vmap(lambda x: lax.psum(x, "i"))(X)
