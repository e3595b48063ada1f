"""Pytrees under their short names, as in `jax.tree`: `tree.map`, `tree.leaves`, ….

A pytree is any nest of lists, tuples, dicts, named tuples, registered classes and `None` around leaves. Types are
registered through `asgfn.tree_util`.
"""

from __future__ import annotations

from asgfn.tree.flattening import tree_all as all
from asgfn.tree.flattening import tree_flatten as flatten
from asgfn.tree.flattening import tree_flatten_with_path as flatten_with_path
from asgfn.tree.flattening import tree_is_leaf as is_leaf
from asgfn.tree.flattening import tree_leaves as leaves
from asgfn.tree.flattening import tree_leaves_with_path as leaves_with_path
from asgfn.tree.flattening import tree_map as map
from asgfn.tree.flattening import tree_map_with_path as map_with_path
from asgfn.tree.flattening import tree_reduce as reduce
from asgfn.tree.flattening import tree_reduce_associative as reduce_associative
from asgfn.tree.flattening import tree_structure as structure
from asgfn.tree.flattening import tree_transpose as transpose
from asgfn.tree.flattening import tree_unflatten as unflatten
from asgfn.tree.prefix import tree_broadcast as broadcast
from asgfn.tree.registry import static

__all__ = [
    "all",
    "broadcast",
    "flatten",
    "flatten_with_path",
    "is_leaf",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "reduce",
    "reduce_associative",
    "static",
    "structure",
    "transpose",
    "unflatten",
]
