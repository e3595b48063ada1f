"""What there are special kernels for, found before a graph is partitioned."""

from __future__ import annotations

from asgfn.graph.asg import Asg
from backends.kernels.target import Target


def recognise(asg: Asg, target: Target) -> Asg:
    """The graph with attention as single nodes (see `attention_match`, which is loaded where there may be some)."""
    if not {"exp", "dot_general"} <= _primitives(asg):
        return asg
    from backends.kernels.attention_match import recognise

    return recognise(asg, target)


def _primitives(asg: Asg) -> set[str]:
    """The names of those in a graph, in bodies of loops and branches too."""
    return {node.primitive.name for node in asg.nodes}.union(*map(_primitives, asg.inner))
