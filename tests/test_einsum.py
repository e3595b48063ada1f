"""einsum and the products of jnp: values against NumPy, forms of subscripts, lowering, errors."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from tests.derivatives import check_derivatives

rng = np.random.default_rng(0)


def array(*shape: int, complex_: bool = False) -> np.ndarray:
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape)).astype(np.complex64) if complex_ else np.asarray(x, np.float32)


def close(actual, expected, tol: float = 1e-4) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tol, atol=tol)


CASES = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ba,bc", (2, 3), (2, 4)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->j", (2, 2, 3)),
    ("iii->i", (3, 3, 3)),
    ("iji->j", (2, 3, 2)),
    ("ij->ji", (2, 3)),
    ("ij->", (2, 3)),
    ("i->", (0,)),
    ("i,i", (3,), (3,)),
    ("i,i->i", (3,), (3,)),
    ("i,j->ij", (3,), (2,)),
    (",i->i", (), (3,)),
    (",->", (), ()),
    ("i,ij->ij", (2,), (2, 3)),
    ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("...ij,...jk", (5, 1, 2, 3), (6, 3, 4)),
    ("...i->i...", (2, 3, 4)),
    ("i...->...", (2, 3, 4)),
    ("...,...->...", (2, 1), (1, 3)),
    ("...ii->...", (2, 3, 3)),
    ("bij,bjk,bkl->bil", (2, 3, 4), (2, 4, 5), (2, 5, 6)),
    ("abc,cd,de,ef->abf", (2, 3, 4), (4, 5), (5, 6), (6, 2)),
    ("a,ab,bc,cd,d,e->e", (2,), (2, 3), (3, 4), (4, 2), (2,), (3,)),
    ("iij,jk->ik", (2, 2, 3), (3, 4)),
    ("ij,kl->", (2, 3), (4, 5)),
    ("btnh,bsnh->bnts", (2, 3, 2, 4), (2, 5, 2, 4)),
    ("ab,ab,c->bc", (2, 3), (2, 3), (4,)),
    ("ji,jk->ik", (0, 3), (0, 4)),
    ("aab,bcc->ac", (2, 2, 3), (3, 4, 4)),
    (" i j , j k -> k i ", (2, 3), (3, 4)),
    ("Ij,jK->KI", (2, 3), (3, 4)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
@pytest.mark.parametrize("optimize", ["auto", True, False, "greedy", "optimal"])
def test_values(case, optimize):
    subscripts, *shapes = case
    operands = [array(*shape) for shape in shapes]
    close(jnp.einsum(subscripts, *operands, optimize=optimize), np.einsum(subscripts, *operands))


@pytest.mark.parametrize("case", CASES[:7] + CASES[17:24] + CASES[26:30], ids=lambda case: case[0])
def test_derivatives(case):
    subscripts, *shapes = case
    check_derivatives(lambda *xs: jnp.einsum(subscripts, *xs), *(array(*shape) for shape in shapes), tol=1e-4)


def test_interleaved_form():
    a, b, c = array(2, 3), array(3, 4), array(5, 2, 3)
    close(jnp.einsum(a, [0, 1], b, [1, 2], [0, 2]), a @ b)
    close(jnp.einsum(a, [0, 1], b, [1, 2]), a @ b)
    close(jnp.einsum(a, [7, 3], b, [3, 9], [9, 7]), (a @ b).T)
    close(jnp.einsum(c, [Ellipsis, 0, 1], [1, Ellipsis]), np.einsum("...ij->j...", c))


def test_size_one_broadcasts_against_its_label():
    a, b = array(2, 1), array(3, 4)
    close(jnp.einsum("ij,jk->ik", a, b), np.einsum("ij,jk->ik", np.broadcast_to(a, (2, 3)), b))


def test_paths():
    operands = [array(2, 30), array(30, 40), array(40, 3)]
    path, text = jnp.einsum_path("ij,jk,kl->il", *operands)
    assert [len(step) for step in path if not isinstance(step, str)] == [2, 2]
    assert text
    expected = np.einsum("ij,jk,kl->il", *operands)
    close(jnp.einsum("ij,jk,kl->il", *operands, optimize=path), expected, 1e-3)
    close(jnp.einsum("ij,jk,kl->il", *operands, optimize=[(0, 1, 2)]), expected, 1e-3)


def test_dtypes():
    a, b = array(2, 3).astype(np.float16), array(3, 4).astype(np.float16)
    assert jnp.einsum("ij,jk", a, b).dtype == np.float16
    out = jnp.einsum("ij,jk", a, b, preferred_element_type=np.float32)
    assert out.dtype == np.float32
    close(out, a.astype(np.float32) @ b.astype(np.float32))
    assert jnp.einsum("ij,jk,kl", a, b, b.T, preferred_element_type=np.float32).dtype == np.float32
    assert jnp.einsum("ij,j", np.arange(6, dtype=np.int32).reshape(2, 3), array(3)).dtype == np.float32
    close(jnp.einsum("ij->i", np.full((2, 5000), 1, np.float16)), [5000, 5000])


def test_lowering():
    """A contraction is one dot_general; products without a sum are multiplications."""

    def names(subscripts, *shapes):
        graph = asgfn.trace(lambda *xs: jnp.einsum(subscripts, *xs))(*(array(*s) for s in shapes))
        return [node.primitive.name for node in graph.nodes]

    assert names("bij,bjk->bik", (2, 3, 4), (2, 4, 5)) == ["dot_general"]
    assert "dot_general" not in names("i,j->ij", (3,), (4,))
    assert names("ij->ji", (2, 3)) == ["transpose"]


@pytest.mark.parametrize(
    ("subscripts", "shapes", "text"),
    [
        ("ij,jk", [(2, 3), (4, 5)], "axis 'j' has both size 3 and 4"),
        ("ij", [(2,)], "name 2 axes of operand 0, which has 1"),
        ("i", [(2, 3)], "name 1 axes of operand 0, which has 2"),
        ("ij->k", [(2, 3)], "that no operand has: k"),
        ("i,j", [(2,)], "name 2 operands, but 1 are given"),
        ("ij->ii", [(2, 3)], "twice"),
        ("i->I.", [(2,)], "may hold letters"),
        ("i......", [(2,)], "may hold letters"),
        ("ii", [(2, 3)], "one size to take a diagonal|both size"),
    ],
)
def test_errors(subscripts, shapes, text):
    with pytest.raises(ValueError, match=text):
        jnp.einsum(subscripts, *(array(*shape) for shape in shapes))


# ------------------------------------------------------------------------------------------ products
PRODUCTS = {
    "matmul": [
        ((2, 3), (3, 4)),
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (1, 6, 3, 4)),
        ((5, 1, 2, 3), (6, 3, 4)),
        ((1, 2, 3), (1, 3, 4)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((7, 1, 2, 3), (7, 5, 3, 2)),
        ((0, 3), (3, 4)),
        ((2, 0), (0, 3)),
    ],
    "dot": [((2, 3), (3,)), ((2, 3), (5, 3, 4)), ((), (2, 3)), ((3,), (3,)), ((2, 2, 3), (3, 4))],
    "inner": [((2, 3), (4, 3)), ((3,), (3,)), ((), (3,))],
    "outer": [((2, 3), (4,))],
    "vdot": [((2, 3), (2, 3)), ((6,), (2, 3))],
    "vecdot": [((5, 3), (3,)), ((5, 3), (4, 1, 3))],
    "kron": [((2, 3), (4, 5)), ((3,), (2, 2)), ((2,), (3,)), ((), (3,))],
    "tensordot": [((2, 3, 4), (3, 4, 5))],
    "cross": [((3,), (3,)), ((4, 3), (4, 3)), ((4, 1, 3), (5, 3))],
    "matvec": [((5, 2, 3), (3,)), ((2, 3), (5, 3))],
    "vecmat": [((2,), (2, 3)), ((5, 2), (2, 3))],
}


@pytest.mark.parametrize(("name", "shapes"), [(n, s) for n, many in PRODUCTS.items() for s in many], ids=str)
@pytest.mark.parametrize("complex_", [False, True])
def test_products(name, shapes, complex_):
    a, b = (array(*shape, complex_=complex_) for shape in shapes)
    close(getattr(jnp, name)(a, b), getattr(np, name)(a, b))
    integers = np.ones(shapes[0], np.int32)
    assert getattr(jnp, name)(integers, b).dtype == b.dtype


def test_cross_of_plane_vectors():
    a, b, c = array(4, 2), array(4, 2), array(4, 3)
    three = lambda x: np.pad(x, [(0, 0), (0, 1)])
    close(jnp.cross(a, b), np.cross(three(a), three(b))[:, 2])
    close(jnp.cross(a, c), np.cross(three(a), c))
    close(jnp.cross(c, a), np.cross(c, three(a)))
    close(jnp.cross(c.T, a.T, axisa=0, axisb=0, axisc=0), np.cross(c, three(a)).T)


def test_tensordot_axes():
    a, b = array(2, 3, 4), array(4, 3, 2)
    for axes in (0, 1, (0, 2), ([0], [2]), ((1, -1), (1, 0)), ([1, 2], [1, 0])):
        close(jnp.tensordot(a, b, axes), np.tensordot(a, b, axes))


def test_booleans():
    a, b = rng.random((3, 4)) > 0.5, rng.random((4, 2)) > 0.5
    assert (np.asarray(jnp.matmul(a, b)) == (a @ b)).all()
    assert (np.asarray(jnp.outer(a, b)) == np.outer(a, b)).all()


def test_preferred_element_type():
    a = array(2, 3).astype(np.float16)
    for f in (jnp.matmul, jnp.dot):
        assert f(a, a.T, preferred_element_type=np.float32).dtype == np.float32
    assert jnp.inner(a, a, preferred_element_type=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: jnp.matmul(array(2, 3), array(2, 3)), r"matmul of float32\[2,3\] and float32\[2,3\].*size 3"),
        (lambda: jnp.matmul(array(), array(2)), "at least one axis"),
        (lambda: jnp.matmul(array(2, 2, 3), array(3, 3, 4)), "leading axes do not broadcast"),
        (lambda: jnp.dot(array(3), array(4)), "one size"),
        (lambda: jnp.tensordot(array(2), array(3), 1), "differ in size"),
        (lambda: jnp.tensordot(array(2), array(3), 2), "more axes than an operand has"),
        (lambda: jnp.vdot(array(2), array(3)), "as many elements"),
        (lambda: jnp.cross(array(4), array(4)), "two or three components"),
    ],
)
def test_product_errors(call, text):
    with pytest.raises(ShapeError, match=text):
        call()
