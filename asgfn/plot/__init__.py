"""Pictures: programs as layered drawings, and loss curves. matplotlib is imported when the first one is drawn."""

from __future__ import annotations

from asgfn.plot.highlight import Path as Path
from asgfn.plot.losses import losses as losses
from asgfn.plot.picture import graph as graph

__all__ = ["Path", "graph", "losses"]
