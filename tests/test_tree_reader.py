"""Reading trees of a known structure gives what flattening gives, or says that they have another one."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn.tree.reader import reader
from asgfn.tree_util import tree_flatten, tree_structure


class Point(NamedTuple):
    x: Any
    y: Any


TREES = [
    (),
    {},
    ({"b": [1.0, 2.0], "a": None}, (3.0,), Point(4.0, {"k": 5.0})),
    [{"z": 1.0, "y": 2.0, "x": {"one": 3.0}}, [], ({},)],
    7.0,
]


@pytest.mark.parametrize("tree", TREES)
def test_leaves_are_those_of_flattening(tree: Any) -> None:
    leaves, treedef = tree_flatten(tree)
    read = reader(treedef)
    assert read is not None
    assert read(tree) == leaves


def test_other_structures_are_noticed() -> None:
    read = reader(tree_structure(({"a": 1.0, "b": [2.0, 3.0]}, None)))
    assert read is not None
    for other in (
        ({"a": 1.0, "c": [2.0, 3.0]}, None),
        ({"a": 1.0, "b": [2.0, 3.0], "c": 1.0}, None),
        ({"a": 1.0, "b": [2.0]}, None),
        ({"a": 1.0, "b": (2.0, 3.0)}, None),
        (OrderedDict(a=1.0, b=[2.0, 3.0]), None),
        ({"a": 1.0, "b": [2.0, 3.0]}, 4.0),
        [{"a": 1.0, "b": [2.0, 3.0]}, None],
    ):
        assert read(other) is None


def test_other_nodes_are_left_to_flattening() -> None:
    assert reader(tree_structure(OrderedDict(a=1.0))) is None
    deep: Any = 1.0
    for _ in range(100):
        deep = [deep]
    assert reader(tree_structure(deep)) is None


def test_calls_see_that_a_structure_has_changed() -> None:
    @asgfn.jit
    def total(tree: Any) -> Any:
        return sum(asgfn.tree.leaves(tree), jnp.float32(0))

    x = jnp.float32(1)
    assert float(total({"a": x, "b": x})) == 2
    assert float(total({"a": x, "b": x})) == 2
    assert float(total({"a": [x, x], "b": x})) == 3  # a node where a leaf was
    assert float(total({"a": x, "b": None})) == 1
    assert float(total({"a": np.float32(2), "b": np.ones((), np.float32)})) == 3
    assert total._cache_size() == 3
    with pytest.raises(asgfn.errors.AsgError):
        total({"a": "text", "b": x})
