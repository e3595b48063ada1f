"""Types for annotations, as in `jax.typing`."""

from typing import Any

import numpy as np

from asgfn.tracing import Array

ArrayLike = Array | np.ndarray | np.bool_ | np.number | bool | int | float | complex
DTypeLike = Any
PyTree = Any
