"""Pytrees: round trips, registration, key paths, prefix trees, and the text of their errors."""

from __future__ import annotations

import collections
import dataclasses
import functools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgfn import tree
from asgfn import tree_util as tu
from asgfn.errors import StructureError

Point = collections.namedtuple("Point", "x y")


@tu.register_dataclass
@dataclasses.dataclass
class Layer:
    weight: object
    name: str = tree.static(default="dense")
    bias: object = None


@tu.register_pytree_node_class
class Box:
    def __init__(self, content, label):
        self.content, self.label = content, label

    def tree_flatten(self):
        return (self.content,), self.label

    @classmethod
    def tree_unflatten(cls, label, children):
        return cls(*children, label)

    def __eq__(self, other):
        return isinstance(other, Box) and (self.content, self.label) == (other.content, other.label)


@tu.register_pytree_with_keys_class
class Named:
    def __init__(self, first, second):
        self.first, self.second = first, second

    def tree_flatten_with_keys(self):
        return ((tu.GetAttrKey("first"), self.first), (tu.DictKey("2nd"), self.second)), None

    @classmethod
    def tree_unflatten(cls, aux_data, children):
        return cls(*children)


keys = st.one_of(st.text(max_size=3), st.integers(0, 5))
trees = st.recursive(
    st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=2), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(collections.OrderedDict),
        st.tuples(inner, inner).map(lambda xy: Point(*xy)),
        st.builds(Box, inner, st.text(max_size=2)),
        st.builds(Layer, inner, st.text(max_size=2), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(trees)
def test_round_trips(t):
    leaves, treedef = tree.flatten(t)
    assert tree.unflatten(treedef, leaves) == t
    assert tree.leaves(t) == leaves
    assert tree.structure(t) == treedef and hash(tree.structure(t)) == hash(treedef)
    assert treedef.num_leaves == len(leaves)
    assert tree.map(lambda x: x, t) == t
    pairs, with_path = tree.flatten_with_path(t)
    assert with_path == treedef and [leaf for _, leaf in pairs] == leaves
    assert len({path for path, _ in pairs}) == len(pairs)
    seen = []
    pairs_again, _ = tree.flatten_with_path(t, lambda path, node: seen.append(path), is_leaf_takes_path=True)
    assert pairs_again == pairs
    assert {path for path, _ in pairs} <= set(seen)


@dataclasses.dataclass(frozen=True)
class At:
    """A leaf that remembers its path."""

    path: tuple


@settings(max_examples=100, deadline=None)
@given(trees, st.data())
def test_a_prefix_broadcasts_to_its_tree(t, data):
    """A random prefix: some nodes of the tree are replaced by their path."""
    cut = tree.map_with_path(
        lambda path, node: At(path), t, is_leaf=lambda path, node: data.draw(st.booleans()), is_leaf_takes_path=True
    )
    values = tu.broadcast_prefix(cut, t)
    assert tu.prefix_errors(cut, t) == []
    assert len(values) == tree.structure(t).num_leaves
    for (path, _), value in zip(tree.leaves_with_path(t), values, strict=True):
        assert path[: len(value.path)] == value.path
    assert tree.leaves(tree.broadcast(cut, t)) == values


def test_leaves_are_in_the_order_of_sorted_keys():
    assert tree.leaves({"b": 2, "a": 1, "c": {"z": 4, "y": 3}}) == [1, 2, 3, 4]
    assert tree.structure({"b": 2, "a": 1}) == tree.structure({"a": 5, "b": 7})
    assert tree.leaves(collections.OrderedDict(b=2, a=1)) == [2, 1]


def test_none_is_a_node_without_leaves():
    assert tree.leaves([None, 1, None]) == [1]
    assert tree.map(lambda x: x + 1, (None, 1)) == (None, 2)
    assert tree.leaves([None, 1], is_leaf=lambda x: x is None) == [None, 1]
    assert tu.treedef_is_leaf(tree.structure(1)) and not tu.treedef_is_leaf(tree.structure(None))
    assert tree.is_leaf(1) and not tree.is_leaf([1]) and not tree.is_leaf(None)


def test_map_over_several_trees_takes_subtrees_of_the_others():
    assert tree.map(lambda x, y: (x, y), [1, 2], [[3, 4], {"a": 5}]) == [(1, [3, 4]), (2, {"a": 5})]


def test_reductions():
    assert tree.reduce(lambda a, b: a + b, {"x": 1, "y": (2, 3)}) == 6
    assert tree.reduce(lambda a, b: f"({a}{b})", ["a", "b"], "0") == "((0a)b)"
    assert tree.reduce_associative(lambda a, b: f"({a}{b})", list("abcdefg")) == "(((ab)(cd))((ef)g))"
    assert tree.reduce_associative(max, [], identity=0) == 0
    assert tree.all([True, {"a": 1}]) and not tree.all([True, 0]) and tree.all([])
    with pytest.raises(TypeError, match="no leaves and no initializer"):
        tree.reduce(max, ())
    with pytest.raises(TypeError, match="no leaves and no identity"):
        tree.reduce_associative(max, ())


def test_transpose():
    rows = [{"a": 1, "b": (2, 3)}, {"a": 4, "b": (5, 6)}]
    columns = {"a": [1, 4], "b": ([2, 5], [3, 6])}
    outer, inner = tree.structure([0, 0]), tree.structure(rows[0])
    assert tree.transpose(outer, inner, rows) == columns
    assert tree.transpose(outer, None, rows) == columns
    assert tree.transpose(tree.structure([]), inner, []) == {"a": [], "b": ([], [])}
    with pytest.raises(StructureError, match="subtree 1 has the structure"):
        tree.transpose(outer, inner, [rows[0], {"a": 1}])
    with pytest.raises(StructureError, match=r"tree\.transpose"):
        tree.transpose(outer, inner, rows[:1])


def test_paths_and_their_text():
    t = {"layers": [Layer(1.0, "out", bias=Point(2.0, None)), Box(3.0, "m")], 5: Named(4.0, 6.0)}
    paths = [path for path, _ in tree.leaves_with_path(t)]
    assert sorted(map(tu.keystr, paths)) == [
        "['layers'][0].bias.x",
        "['layers'][0].weight",
        "['layers'][1][<flat index 0>]",
        "[5].first",
        "[5]['2nd']",
    ]
    assert tu.keystr(paths[-1], simple=True, separator="/") in ("layers/1/0", "5/2nd")
    assert repr(tu.DictKey("a")) == "DictKey(key='a')" and tu.SequenceKey(1).idx == 1
    assert tu.flatten_one_level_with_keys(Layer(1, "n", 2)) == (
        [(tu.GetAttrKey("weight"), 1), (tu.GetAttrKey("bias"), 2)],
        ("n",),
    )


def test_map_with_path():
    assert tree.map_with_path(lambda path, x, y: (tu.keystr(path), x + y), {"a": [1]}, {"a": [2]}) == {
        "a": [("['a'][0]", 3)]
    }
    stopped = tree.map_with_path(
        lambda path, x: len(path),
        {"a": [1, 2], "b": 3},
        is_leaf=lambda path, x: len(path) == 1,
        is_leaf_takes_path=True,
    )
    assert stopped == {"a": 1, "b": 1}


def test_treedefs():
    treedef = tree.structure([1, {"a": 2}])
    assert tu.treedef_text(treedef) == "PyTreeDef([*, {'a': *}])"
    assert "Layer" in tu.treedef_text(tree.structure(Layer(1))) and "namespace" not in tu.treedef_text(
        tree.structure(Layer(1))
    )
    assert [child.num_leaves for child in tu.treedef_children(treedef)] == [1, 1]
    assert tu.treedef_tuple([treedef, tree.structure(0)]) == tree.structure(([1, {"a": 2}], 3))
    assert tu.build_tree(treedef, (7, (8,))) == [7, {"a": 8}]
    assert pickle.loads(pickle.dumps(treedef)) == treedef
    assert tu.all_leaves([1, 2]) and not tu.all_leaves([1, []])
    assert tu.is_tree_node(dict) and tu.is_tree_node(Layer) and tu.is_tree_node(Point) and not tu.is_tree_node(int)
    with pytest.raises(ValueError, match="leaves"):
        tree.unflatten(treedef, [1])


def test_dataclass_fields():
    layer = Layer(1, "a", {"b": 2})
    assert tree.leaves(layer) == [1, 2]
    assert tree.map(lambda x: x + 1, layer) == Layer(2, "a", {"b": 3})
    assert tree.structure(layer) != tree.structure(Layer(1, "c", {"b": 2}))

    @functools.partial(tu.register_dataclass, data_fields=["x"], meta_fields=["y"], drop_fields=["z"])
    @dataclasses.dataclass
    class Dropping:
        x: int
        y: int
        z: int = 9

    assert tree.map(lambda x: -x, Dropping(1, 2, 3)) == Dropping(-1, 2, 9)
    assert tree.static(metadata={"unit": "m"}).metadata == {"unit": "m", "static": True}


def test_dataclass_registration_errors():
    @dataclasses.dataclass
    class Pair:
        a: int
        b: int

    with pytest.raises(ValueError, match=r"Missing: \['b'\]"):
        tu.register_dataclass(Pair, ["a"], [])
    with pytest.raises(ValueError, match=r"Unknown or dropped: \['c'\]"):
        tu.register_dataclass(Pair, ["a", "b"], ["c"])
    with pytest.raises(ValueError, match="more than once"):
        tu.register_dataclass(Pair, ["a", "b"], ["b"])
    with pytest.raises(TypeError, match="both data_fields and meta_fields"):
        tu.register_dataclass(Pair, ["a", "b"])
    with pytest.raises(TypeError, match="not a dataclass"):
        tu.register_dataclass(type("Plain", (), {}))
    with pytest.raises(ValueError, match="already registered"):
        tu.register_dataclass(Layer)


def test_static_classes_have_no_leaves():
    @tu.register_static
    class Mode(str):
        pass

    assert tree.leaves([Mode("a"), 1]) == [1]
    assert tree.map(lambda x: x, [Mode("a")]) == ["a"]
    assert tree.structure(Mode("a")) != tree.structure(Mode("b"))


def test_partial():
    bound = tu.Partial(pow, 2, exp=5)
    assert bound() == 32 and tree.leaves(bound) == [2, 5]
    assert tree.map(lambda x: x + 1, bound)() == 3**6
    nested = tu.Partial(tu.Partial(max, 1), 2)
    assert tree.leaves(nested) == [1, 2] and nested(3) == 3
    opaque = tu.Partial(functools.partial(max, 10), 2)
    assert tree.leaves(opaque) == [2] and opaque() == 10
    assert tree.structure(opaque) == tree.structure(tree.map(lambda x: x, opaque))


def test_map_names_the_first_difference():
    with pytest.raises(StructureError, match=r"at tree 1\['a'\], there is a list of length 2 where tree 3 has a list"):
        tree.map(lambda *xs: xs, {"a": [1, 2]}, {"a": [1, 2]}, {"a": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"the dict lacks the keys \['b'\] and has the extra keys \['a'\]"):
        tree.map(lambda *xs: xs, {"a": 1}, {"b": 1})
    with pytest.raises(StructureError, match=r"there is None where tree 2 has a leaf"):
        tree.map(lambda *xs: xs, [1, None], [1, 2])
    with pytest.raises(StructureError, match="differ in their static data"):
        tree.map(lambda *xs: xs, Layer(1, "a"), Layer(1, "b"))


def test_errors_of_the_mapped_function_pass_through():
    with pytest.raises(ValueError, match="mine"):
        tree.map(lambda x, y: _raise(ValueError("mine")), [1], [2])


def _raise(error):
    raise error


def test_flatten_axes():
    args = ({"w": 1, "b": (1, None, 2)}, [3, 4])
    treedef = tree.structure(args)
    assert tu.flatten_axes("vmap in_axes", treedef, 0) == [0] * 5
    assert tu.flatten_axes("vmap in_axes", treedef, None) == [None] * 5
    assert tu.flatten_axes("vmap in_axes", treedef, ({"w": 0, "b": None}, 1)) == [None, None, 0, 1, 1]
    assert tu.flatten_axes("vmap in_axes", treedef, (None, [0, -1])) == [None, None, None, 0, -1]
    with pytest.raises(StructureError) as caught:
        tu.flatten_axes("vmap in_axes", treedef, ({"w": 0}, 1))
    message = str(caught.value)
    assert "at vmap in_axes[0], the dict lacks the keys ['b']" in message
    assert "PyTreeDef(({'w': *}, *))" in message and "PyTreeDef(({'b': (*, None, *), 'w': *}, [*, *]))" in message


def test_prefix_of_an_ordered_dict_pairs_by_key():
    full = collections.OrderedDict(z=[1, 2], a=3)
    assert tu.broadcast_prefix({"a": "A", "z": "Z"}, full) == ["Z", "Z", "A"]


def test_prefix_errors_lists_every_difference():
    errors = tu.prefix_errors({"a": [0], "b": (0, 0), "c": 0}, {"a": [0, 1], "b": [0, 0], "c": [0]}, name="axes")
    assert errors == [
        "at axes['a'], there is a list of length 1 where the tree has a list of length 2",
        "at axes['b'], there is a tuple of length 2 where the tree has a list of length 2",
    ]
