"""How a graph shows itself in a notebook."""

from __future__ import annotations

from asgfn.graph import Asg


def asg_to_svg(asg: Asg) -> str:
    """The picture of `asgfn.plot.graph` as SVG text."""
    from asgfn.plot.figures import rendered
    from asgfn.plot.picture import graph

    return rendered(graph(asg), "svg").decode()
