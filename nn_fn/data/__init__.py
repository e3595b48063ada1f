"""Real data that comes with the package, so that an example or a test needs no download."""

from __future__ import annotations

from nn_fn.data.digits import load_digits as load_digits

__all__ = ["load_digits"]
