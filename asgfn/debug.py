"""Looking into programs while they run."""

from asgfn.primitives.callbacks import debug_callback as callback
from asgfn.primitives.callbacks import debug_print as print

__all__ = ["callback", "print"]
