"""Tests name the backend that they mean; without a name they mean NumPy's, also on a machine with a GPU."""

import os

os.environ.setdefault("ASGFN_DEFAULT_BACKEND", "numpy")
