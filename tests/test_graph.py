"""Graphs as values: built, checked, edited, stored, called."""

from __future__ import annotations

import pickle
import struct
import sys
import zlib

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgfn
import asgfn.numpy as jnp
from asgfn import grad, jit, lax, vmap
from asgfn.errors import AsgError, GraphError, TransformError
from asgfn.graph import ArrayType, Asg, Node, Params, SourceInfo, edit
from asgfn.primitives.base import primitive
from tests.programs import PROGRAMS, VECTOR

F3 = ArrayType((3,), np.float32)
X = jnp.array([0.5, -1.0, 2.0])
close = lambda got, want: np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-5, atol=1e-6)
names = lambda asg: [node.primitive.name for node in asg.nodes]


def build(*nodes, inputs=(F3,), constants=(), outputs=None):
    return Asg(
        inputs, constants, nodes, outputs if outputs is not None else (len(inputs) + len(constants) + len(nodes) - 1,)
    )


def op(name, *inputs, types=(F3,), **params):
    return Node(primitive(name), inputs, Params(params), types)


def sample():
    return asgfn.trace(lambda p, x: {"y": jnp.sin(x) * p["w"] + 1, "s": (x.sum(),)})({"w": X}, X)


# ---------------------------------------------------------------------------------------------- types
def test_types_are_interned():
    a = ArrayType((2, 3), "float32")
    assert a is ArrayType([2, np.int64(3)], np.dtype(np.float32)) is ArrayType((2, 3), np.float32, False)
    assert a is not ArrayType((2, 3), "float32", True) and a is not ArrayType((3, 2), "float32")
    assert a is pickle.loads(pickle.dumps(a)) is a.update() and a.update(shape=()).shape == ()
    assert (a.ndim, a.size, a.nbytes, str(a)) == (2, 6, 24, "float32[2,3]") and "weak" in repr(a.update(weak_type=True))
    with pytest.raises(AttributeError, match="immutable"):
        a.shape = ()
    for bad in (-1,), (1.5,), ("a",):
        with pytest.raises((TypeError, ValueError)):
            ArrayType(bad, "float32")


# ---------------------------------------------------------------------------------------------- nodes and graphs
def test_graphs_and_nodes_are_immutable():
    asg = sample()
    node = asg.nodes[0]
    for change in (
        lambda: setattr(asg, "nodes", ()), lambda: setattr(node, "inputs", ()), lambda: node.params.update(a=1),
        lambda: node.params.__setitem__("a", 1), lambda: node.params.pop("a"), lambda: node.params.__ior__({"a": 1}), lambda: node.params.clear(),
    ):  # fmt: skip
        with pytest.raises((AttributeError, TypeError)):
            change()
    assert asg.replace(name="other").name == "other" and asg.name != "other"
    with pytest.raises(TypeError, match="colour"):
        asg.replace(colour=1)


def test_equality_is_structural():
    def f(x):
        with asgfn.named_scope("block"):
            return jnp.sin(x) * 2

    g = lambda y: jnp.sin(y) * 2
    a, b = asgfn.trace(f)(X), asgfn.trace(g)(X)
    assert a == b and hash(a) == hash(b) and a.nodes[0] == b.nodes[0] and hash(a.nodes[0]) == hash(b.nodes[0])
    assert a.nodes[0].scope == "block" and b.nodes[0].scope == "" and a.nodes[0].source.line != b.nodes[0].source.line
    assert len({a, b}) == 1
    for other in (
        lambda x: jnp.cos(x) * 2,
        lambda x: jnp.sin(x) * 3,
        lambda x: 2 * jnp.sin(x),
        lambda x: (jnp.sin(x) * 2, x),
    ):
        assert asgfn.trace(other)(X) != a
    assert asgfn.trace(f)(X[:2]) != a and asgfn.trace(f)(X.astype(jnp.float16)) != a and a != 3
    zero = asgfn.trace(lambda x: x + np.array([0.0, 1.0, 2.0], np.float32))(X)
    assert zero != asgfn.trace(lambda x: x + np.array([-0.0, 1.0, 2.0], np.float32))(X)  # equal means bit for bit
    assert asgfn.trace(lambda x: lax.reduce_sum(x, (0,)))(X) != asgfn.trace(lambda x: lax.reduce_max(x, (0,)))(X)


def test_what_a_graph_knows():
    asg = sample()
    assert asg.input_names == ("p['w']", "x") and asg.in_types == asg.inputs == (F3, F3)
    env = [*asg.inputs, *asg.constant_types]
    for node, first in zip(asg.nodes, asg.first_outputs, strict=True):
        assert first == len(env)
        env.extend(node.out_types)
    assert asg.value_types == tuple(env) and asg.out_types == tuple(env[i] for i in asg.outputs)
    for i, users in enumerate(asg.users):
        assert users == tuple(k for k, n in enumerate(asg.nodes) if i in n.inputs)
    assert [asg.producers[f] for f in asg.first_outputs] == list(range(len(asg.nodes)))
    assert asg.node_count() == len(asg.nodes) and not asg.has_effects


def test_text():
    def f(p, x):
        with asgfn.named_scope("layer"):
            h = jnp.tanh(x @ p["w"])
        return lax.scan(lambda c, v: (c + v.sum(), v), 0.0, h)

    asg = asgfn.trace(f)({"w": jnp.ones((3, 2))}, jnp.ones((4, 3)))
    text = str(asg)
    for part in (
        "asg f {",
        "in  a: float32[3,2]  p['w']",
        "# layer",
        "dot_general b a",
        "length=4",
        "asg: asg <lambda> {",
        "out ",
    ):
        assert part in text, part
    assert repr(asg) == text and "test_graph.py:" in asg.text(sources=True) and "test_graph.py:" not in text
    lines = text.splitlines()
    made = [line.split(":")[0] for line in lines if " = " in line and not line.startswith("      ")]
    assert len(made) == len(set(made))  # every value has a name of its own


# ---------------------------------------------------------------------------------------------- scopes and sources
def test_scopes_and_lines_follow_the_operation():
    def f(x):
        with asgfn.named_scope("a"):
            y = jnp.exp(x)  # line 1
            return asgfn.named_call(lambda y: jnp.tanh(y), name="b")(y).sum()  # line 2

    first = f.__code__.co_firstlineno + 2
    batch = jnp.ones((2, 3))
    single = [(g, X) for g in (f, grad(f), jit(f), grad(jit(f)), jit(grad(f)), grad(asgfn.checkpoint(f)))]
    for g, x in (*single, (vmap(f), batch), (grad(lambda x: jnp.sum(vmap(jit(f))(x))), batch)):
        asg = asgfn.simplify(asgfn.trace(g)(x))
        where = {(n.scope, n.source.line) for n in asg.nodes if n.source is not None and n.scope}
        assert {s for s, _ in where} <= {"a", "a/b"} and {line for _, line in where} <= {first, first + 1}, where
        tanh = next(n for n in asg.nodes if n.primitive.name == "tanh")
        assert tanh.scope == "a/b" and tanh.source.line == first + 1 and tanh.source.file == __file__
        exp = next(n for n in asg.nodes if n.primitive.name == "exp")
        assert exp.scope == "a" and exp.source.line == first
    backward = [n for n in asgfn.trace(grad(f))(X).nodes if n.primitive.name not in ("exp", "tanh")]
    assert any(n.scope == "a/b" for n in backward) and any(n.scope == "a" for n in backward)

    def outer(x):
        with asgfn.named_scope("outside"):
            return jit(f)(x)

    inlined = asgfn.simplify(asgfn.trace(outer)(X)).nodes
    assert [n.scope for n in inlined] == ["outside/a", "outside/a/b", "outside/a"] and inlined[0].source.line == first
    for bad in ("", 3):
        with pytest.raises(TypeError, match="named_scope"), asgfn.named_scope(bad):
            pass


# ---------------------------------------------------------------------------------------------- calling
def test_calling_a_graph():
    asg = sample()
    out = asg({"w": X}, X)
    close(out["y"], np.sin(X) * X + 1)
    assert float(out["s"][0]) == 1.5
    flat = asgfn.trace(jnp.sin)(1.0).replace(in_tree=None, out_tree=None)
    assert flat(jnp.float32(0)) == 0 and flat(0) == 0
    for bad, words in (
        ((X,), "structure|takes"),
        (({"w": X}, X[:2]), r"x must be float32\[3\]"),
        (({"w": X}, X.astype(int)), "int32"),
    ):
        with pytest.raises(TransformError, match=words):
            asg(*bad)
    counter = asgfn.trace(lambda n: n * 2)(jnp.int32(1))
    assert counter(3) == 6
    with pytest.raises(TransformError, match="float32"):
        counter(2.7)  # not silently 2
    assert asgfn.trace(lambda x: x * 2)(jnp.float32(1))(3) == 6  # an int is a float when need be


def test_transforms_take_graphs():
    f = lambda x: jnp.sum(jnp.sin(x) ** 2)
    asg = asgfn.trace(f)(X)
    close(grad(asg)(X), grad(f)(X))
    close(jit(asg)(X), f(X))
    close(vmap(asg)(jnp.stack([X, X])), [f(X)] * 2)
    close(asgfn.jvp(asg, (X,), (X,))[1], asgfn.jvp(f, (X,), (X,))[1])
    close(asgfn.vjp(asg, X)[1](1.0)[0], grad(f)(X))
    close(asgfn.hessian(asg)(X), asgfn.hessian(f)(X))
    close(asgfn.jacfwd(asg)(X), grad(f)(X))
    close(asgfn.linearize(asg, X)[1](X), asgfn.jvp(f, (X,), (X,))[1])
    close(grad(asgfn.checkpoint(asg))(X), grad(f)(X))
    close(jit(grad(jit(asg)))(X), grad(f)(X))
    close(lax.scan(lambda c, v: (c + asg(v), None), 0.0, jnp.stack([X, X]))[0], 2 * f(X))
    close(asgfn.value_and_grad(asg)(X)[1], grad(f)(X))
    assert asgfn.eval_shape(asg, X).shape == () and asgfn.trace(asg)(X) is asg
    pair = grad(lambda p, x: sample()(p, x)["y"].sum())({"w": X}, X)
    close(pair["w"], np.sin(X))


# ---------------------------------------------------------------------------------------------- validation
SIN = op("sin", 0)
BODY = build(op("add", 0, 1), inputs=(F3, F3), outputs=(2, 2))  # carry, x -> carry, y
OTHER = build(op("sin", 0), inputs=(ArrayType((2,), np.float32),))
TRUE = Asg((F3,), (np.array(True),), (), (1,))
SCAN = {"asg": BODY, "length": 4, "reverse": False, "num_consts": 0, "num_carry": 1, "unroll": 1}
F43 = ArrayType((4, 3), np.float32)
INDEX = ArrayType((), np.int32)

FORGED = {
    "operand from the future": lambda: build(op("sin", 2)),
    "own output": lambda: build(op("sin", 1)),
    "negative operand": lambda: build(op("sin", -1)),
    "operand that is no int": lambda: build(op("sin", "x")),
    "operand that is a float": lambda: build(op("sin", 0.0)),
    "output that does not exist": lambda: build(SIN, outputs=(7,)),
    "negative output": lambda: build(SIN, outputs=(-1,)),
    "too few operands": lambda: build(op("add", 0)),
    "too many operands": lambda: build(op("sin", 0, 0)),
    "wrong shape": lambda: build(op("sin", 0, types=(ArrayType((4,), np.float32),))),
    "wrong dtype": lambda: build(op("sin", 0, types=(ArrayType((3,), np.float16),))),
    "no outputs": lambda: build(op("sin", 0, types=()), outputs=(0,)),
    "two outputs": lambda: build(op("sin", 0, types=(F3, F3))),
    "outputs that are no types": lambda: build(op("sin", 0, types=("float32",))),
    "input that is no type": lambda: build(SIN, inputs=("float32",)),
    "missing parameter": lambda: build(op("reshape", 0)),
    "wrong parameter": lambda: build(op("reshape", 0, new_sizes=(4,))),
    "unknown parameter": lambda: build(op("reshape", 0, new_sizes=(3,), colour=1)),
    "operands that do not fit": lambda: build(op("add", 0, 1), inputs=(F3, ArrayType((2,), np.float32))),
    "dtypes that do not fit": lambda: build(op("add", 0, 1), inputs=(F3, ArrayType((3,), np.int32))),
    "a kind that is refused": lambda: build(op("sin", 0, types=(INDEX,)), inputs=(INDEX,)),
    "a primitive that is none": lambda: build(Node("sin", (0,), Params(), (F3,))),
    "constant of another type": lambda: Asg((F3,), (np.zeros(2),), (SIN._replace(inputs=(0,)),), (2,), constant_types=(F3,)),
    "constant that is no array": lambda: Asg((F3,), ([1.0],), (), (0,), constant_types=(F3,)),
    "constants without types": lambda: Asg((F3,), (np.zeros(3, np.float32),), (), (0,), constant_types=()),
    "bad inner graph": lambda: build(Node(primitive("jit"), (0,), Params(asg=build(op("sin", 5)), name="f"), (F3,))),
    "call with other operands": lambda: build(Node(primitive("jit"), (0,), Params(asg=OTHER, name="f"), (ArrayType((2,), np.float32),))),
    "scan of another length": lambda: build(op("scan", 0, 1, types=(F3, F43), **{**SCAN, "length": 5}), inputs=(F3, F43)),
    "scan with too few operands": lambda: build(op("scan", 0, types=(F3, F43), **SCAN), inputs=(F3,)),
    "scan whose carry changes": lambda: build(
        op("scan", 0, 1, types=(INDEX, F43), **{**SCAN, "asg": build(inputs=(F3, F3), constants=(np.int32(3).reshape(()),), outputs=(2, 0))}), inputs=(F3, F43)
    ),
    "scan whose body is none": lambda: build(op("scan", 0, 1, types=(F3, F43), **{**SCAN, "asg": 3}), inputs=(F3, F43)),
    "cond of different branches": lambda: build(op("cond", 0, 1, branches=(build(SIN), OTHER)), inputs=(INDEX, F3)),
    "cond of different results": lambda: build(
        op("cond", 0, 1, branches=(build(SIN), build(op("reshape", 0, types=(F3.update(shape=(3, 1)),), new_sizes=(3, 1))))), inputs=(INDEX, F3)
    ),
    "cond without branches": lambda: build(op("cond", 0, 1, branches=()), inputs=(INDEX, F3)),
    "cond by a float": lambda: build(op("cond", 0, 1, branches=(build(SIN), build(SIN))), inputs=(F3, F3)),
    "while with a test that is no bool": lambda: build(op("while", 0, cond=build(SIN), body=build(SIN), num_cond_consts=0, num_body_consts=0, max_steps=None)),
    "while whose carry changes": lambda: build(
        op("while", 0, types=(F3.update(shape=(3, 1)),), cond=TRUE, body=build(op("reshape", 0, types=(F3.update(shape=(3, 1)),), new_sizes=(3, 1))), num_cond_consts=0, num_body_consts=0, max_steps=None)
    ),
    "parameter that is a list": lambda: build(op("reshape", 0, new_sizes=[3])),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_forged_graphs_are_found(case):
    with pytest.raises(GraphError):
        FORGED[case]().validate()


def test_sound_graphs_pass():
    for asg in (
        build(SIN), build(outputs=(0,)), Asg((), (), (), ()), sample(), build(op("scan", 0, 1, types=(F3, F43), **SCAN), inputs=(F3, F43)),
        build(op("cond", 0, 1, branches=(build(SIN), build(SIN))), inputs=(INDEX, F3)),
        build(op("while", 0, cond=TRUE, body=build(SIN), num_cond_consts=0, num_body_consts=0, max_steps=None)),
    ):  # fmt: skip
        assert asg.validate() is asg


# ---------------------------------------------------------------------------------------------- edits
def test_edits():
    asg = asgfn.trace(lambda x: jnp.cos(jnp.sin(x) * x))(X)
    assert names(asg) == ["sin", "mul", "cos"]
    s = np.sin(X)
    close(edit.replace_node(asg, 0, primitive("exp"))(X), np.cos(np.exp(X) * X))
    close(edit.insert_after(asg, 1, primitive("neg"))(X), np.cos(-s * X))
    close(edit.insert_after(asg, 0, primitive("neg"))(X), np.cos(np.sin(-X) * -X))
    close(edit.insert_after(asg, asg.outputs[0], primitive("neg"))(X), -np.cos(s * X))
    close(edit.delete_node(asg, 0)(X), np.cos(X * X))
    close(edit.delete_node(asg, 1, through=1)(X), np.cos(X))
    close(edit.delete_node(asg, 2)(X), s * X)
    close(edit.extract(asg, [1]).validate()(X), s)
    assert names(edit.extract(asg, [1])) == ["sin"] and names(asg) == ["sin", "mul", "cos"]  # the old graph stays
    both = edit.reorder(asgfn.trace(lambda x, y: (x - y, x, y))(X, 2 * X), [1, 0], [2, 0])
    close(both(2 * X, X)[1], -X)
    (cast,) = asgfn.trace(lambda x: x.astype(jnp.float16))(X).nodes
    half = edit.insert_after(asg, 0, cast.primitive, cast.params)
    assert half.validate().out_types[0].dtype == np.float16  # types downstream follow


@pytest.mark.parametrize(
    "change",
    [
        lambda a: edit.replace_node(a, 3, primitive("sin")), lambda a: edit.replace_node(a, -1, primitive("sin")), lambda a: edit.replace_node(a, 1, primitive("sin")),
        lambda a: edit.replace_node(a, 0, primitive("reshape"), {"new_sizes": (4,)}), lambda a: edit.replace_node(a, 0, primitive("reshape")),
        lambda a: edit.replace_node(a, 0, primitive("eq")), lambda a: edit.insert_after(a, 99, primitive("neg")), lambda a: edit.insert_after(a, -1, primitive("neg")),
        lambda a: edit.insert_after(a, 1, primitive("add")), lambda a: edit.insert_after(a, 1, primitive("reshape"), {"new_sizes": (1, 3)}),
        lambda a: edit.delete_node(a, 9), lambda a: edit.delete_node(a, 0, through=1), lambda a: edit.reorder(a, [0, 0]),
    ],
)  # fmt: skip
def test_edits_that_do_not_fit(change):
    with pytest.raises(AsgError):
        change(asgfn.trace(lambda x: jnp.cos(jnp.sin(x) * x))(X))


UNARY, BINARY = ("sin", "neg", "tanh", "abs"), ("add", "mul", "max", "sub")
FUNCTIONS = {
    "sin": np.sin,
    "neg": np.negative,
    "tanh": np.tanh,
    "abs": np.abs,
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "sub": np.subtract,
}


@st.composite
def random_graphs(draw):
    n_in = draw(st.integers(1, 3))
    constants = tuple(
        np.float32(draw(st.integers(-3, 3))) * np.ones(3, np.float32) for _ in range(draw(st.integers(0, 2)))
    )
    nodes, count = [], n_in + len(constants)
    for _ in range(draw(st.integers(1, 8))):
        name = draw(st.sampled_from(UNARY + BINARY))
        nodes.append(op(name, *(draw(st.integers(0, count - 1)) for _ in range(1 if name in UNARY else 2))))
        count += 1
    outputs = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=3))
    return build(*nodes, inputs=(F3,) * n_in, constants=constants, outputs=outputs)


def by_hand(asg, args, replaced=None):
    env = [*args, *asg.constants]
    for k, node in enumerate(asg.nodes):
        name = replaced.get(k, node.primitive.name) if replaced else node.primitive.name
        env.append(FUNCTIONS[name](*(env[i] for i in node.inputs)))
    return env


@settings(max_examples=60, deadline=None)
@given(random_graphs(), st.data())
def test_random_edits(asg, data):
    args = [np.float32([0.5, -1, 2]) * (k + 1) for k in range(len(asg.inputs))]
    flat = lambda g: [np.asarray(v) for v in (lambda o: o if isinstance(o, tuple) else (o,))(g.validate()(*args))]
    env = by_hand(asg, args)
    same = lambda got, want: [
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(got, want, strict=True)
    ]
    same(flat(asg), [env[i] for i in asg.outputs])
    for g in (edit.prune(asg), asgfn.simplify(asg), Asg.from_bytes(asg.to_bytes())):
        same(flat(g), [env[i] for i in asg.outputs])
    pruned = edit.prune(asg)
    assert all(pruned.users[i] or i in pruned.outputs for i in range(len(asg.inputs), len(pruned.value_types)))
    assert edit.prune(pruned) is pruned
    i = data.draw(st.integers(0, len(env) - 1))
    same(flat(edit.extract(asg, [i])), [env[i]])
    index = data.draw(st.integers(0, len(asg.nodes) - 1))
    swap = data.draw(st.sampled_from(UNARY if len(asg.nodes[index].inputs) == 1 else BINARY))
    changed = by_hand(asg, args, {index: swap})
    same(flat(edit.replace_node(asg, index, primitive(swap))), [changed[i] for i in asg.outputs])
    undone = edit.insert_after(edit.insert_after(asg, i, primitive("neg")), i, primitive("neg"))
    same(flat(undone), [env[i] for i in asg.outputs])
    deleted = edit.delete_node(
        undone, next(k for k, n in enumerate(undone.nodes) if n.inputs == (i,) and n.primitive.name == "neg")
    )
    assert len(deleted.validate().nodes) == len(asg.nodes) + 1
    order = data.draw(st.permutations(range(len(asg.inputs))))
    moved = edit.reorder(asg, order)
    out = moved.validate()(*(args[k] for k in order))
    same([np.asarray(v) for v in (out if isinstance(out, tuple) else (out,))], [env[i] for i in asg.outputs])


# ---------------------------------------------------------------------------------------------- bytes
def stored():
    f = PROGRAMS["scanned"]
    return asgfn.trace(lambda x: f(x) + PROGRAMS["branched"](x) + jnp.sum(x @ np.eye(4, dtype=np.float32)))(
        jnp.asarray(VECTOR)
    )


def test_round_trip_and_pickle():
    asg = stored()
    for again in (
        Asg.from_bytes(asg.to_bytes()),
        pickle.loads(pickle.dumps(asg)),
        Asg.from_bytes(memoryview(bytearray(asg.to_bytes()))),
    ):
        assert again == asg and hash(again) == hash(asg) and again.to_bytes() == asg.to_bytes()
        assert (
            again.name == asg.name
            and again.input_names == asg.input_names
            and again.text(sources=True) == asg.text(sources=True)
        )
        close(again(VECTOR), asg(VECTOR))
        with pytest.raises(ValueError):
            again.constants[0][...] = 0
    for value in (np.nan, -0.0, np.inf):
        g = asgfn.trace(lambda x, value=value: x + np.float32(value) * np.ones(2, np.float32))(jnp.ones(2))
        assert Asg.from_bytes(g.to_bytes()) == g
    types = [jnp.bfloat16, jnp.float16, np.int8, np.uint32, np.complex64, np.bool_]
    g = asgfn.trace(lambda *a: a[::-1])(*(jnp.ones(2, t) for t in types))
    assert Asg.from_bytes(g.to_bytes()).out_types == g.out_types


def test_damaged_bytes():
    data = stored().to_bytes()
    rng = np.random.default_rng(0)
    for cut in {0, 3, 4, 5, 8, 9, 10, *rng.integers(0, len(data), 100).tolist()}:
        with pytest.raises(GraphError):
            Asg.from_bytes(data[:cut])
    for at in [*range(9), *rng.integers(0, len(data), 200).tolist()]:
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(GraphError):
            Asg.from_bytes(bytes(flipped))
    for bad in ("text", None, 3, b"", b"ASGF", data + b"x"):
        with pytest.raises(GraphError):
            Asg.from_bytes(bad)


def sealed(data, body):
    return data[:5] + struct.pack("<I", zlib.crc32(body)) + body


def must_be_sound(data):
    try:
        asg = Asg.from_bytes(data)
    except GraphError:
        return False
    asg.validate()
    return True


def test_forged_bytes_with_a_valid_checksum():
    data = stored().to_bytes()
    body = data[9:]
    rng = np.random.default_rng(1)
    for _ in range(400):
        forged = bytearray(body)
        for _ in range(int(rng.integers(1, 4))):
            forged[int(rng.integers(len(forged)))] = int(rng.integers(256))
        must_be_sound(sealed(data, bytes(forged)))
    for _ in range(50):
        cut = int(rng.integers(len(body)))
        must_be_sound(sealed(data, body[:cut]))
    assert must_be_sound(sealed(data, body))


JUNK = [None, True, -1, 0, 2**62, 1.5, "x", b"x", [], [[]], {}, {"tuple": 3}, {"graph": {}}, {"dtype": "no"}, {"array": [[2**40], "float32", b""]}, {"enum": "Asg", "name": "x"}, {"record": "os", "values": []}, {"type": [[-1], "float32", 0]}]  # fmt: skip


def places(value, path=()):
    """Every place in a nest of lists and dicts."""
    yield path
    for k in (
        range(len(value)) if isinstance(value, list) else sorted(value, key=str) if isinstance(value, dict) else ()
    ):
        yield from places(value[k], (*path, k))


def test_forged_structures_with_a_valid_checksum():
    data = asgfn.trace(
        lambda x: lax.scan(lambda c, v: (lax.cond(c[0] > v, jnp.sin, jnp.cos, c), v), x[:1], x)[1].reshape(2, 2)
    )(jnp.asarray(VECTOR)).to_bytes()
    everywhere = list(places(msgpack.unpackb(data[9:], strict_map_key=False)))
    rng = np.random.default_rng(2)
    accepted = 0
    for _ in range(500):
        body = msgpack.unpackb(data[9:], strict_map_key=False)
        path = everywhere[int(rng.integers(1, len(everywhere)))]
        at = body
        for step in path[:-1]:
            at = at[step]
        action = int(rng.integers(4))
        if action == 0 and isinstance(at, list):
            at.append(at[path[-1]])
        elif action == 1:
            del at[path[-1]]
        else:
            at[path[-1]] = JUNK[int(rng.integers(len(JUNK)))]
        accepted += must_be_sound(sealed(data, msgpack.packb(body)))
    assert accepted < 250  # names, scopes and lines may be anything


def test_deep_nesting_is_refused():
    data = asgfn.trace(jnp.sin)(1.0).to_bytes()
    deep = None
    for _ in range(900):
        deep = {"tuple": [deep]}
    body = msgpack.unpackb(data[9:], strict_map_key=False)
    body["nodes"][0][2] = {"accuracy": deep}
    try:
        packed = msgpack.packb(body)
    except ValueError:
        return
    must_be_sound(sealed(data, packed))


# ---------------------------------------------------------------------------------------------- long graphs
def test_chains_of_20000_nodes():
    n = 20_000

    def chain(x):
        for _ in range(n // 2):
            x = lax.mul(lax.sin(x), x)
        return x

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        asg, again = asgfn.trace(chain)(0.5), asgfn.trace(chain)(0.5)
        assert len(asg.nodes) == n and asg == again and hash(asg) == hash(again)
        assert asg.text().count("\n") > n and asg.validate() is asg
        simple = asgfn.simplify(asg)
        assert len(simple.nodes) == n
        value = np.float32(0.5)
        for _ in range(n // 2):
            value = np.sin(value) * value
        close(asg(0.5), value)
        close(jit(chain)(0.5), value)
        assert len(edit.prune(asg).nodes) == n and len(edit.insert_after(asg, 5000, primitive("neg")).nodes) == n + 1
        assert len(asgfn.trace(grad(asg))(0.5).nodes) > n
        assert len(asgfn.trace(vmap(asg))(X).nodes) == n
        data = asg.to_bytes()
        assert Asg.from_bytes(data) == asg
        del asg, again, simple  # taking them apart does not recurse either
    finally:
        sys.setrecursionlimit(limit)


def test_source_info():
    s = SourceInfo("a.py", 3, "f")
    assert str(s) == "a.py:3 (f)" and "a.py" in repr(s)
