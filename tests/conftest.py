"""What holds for all tests, set before NumPy is loaded."""

import os

# Tests name the backend that they mean; without a name they mean NumPy's, also on a machine with a GPU.
os.environ.setdefault("ASGFN_DEFAULT_BACKEND", "numpy")
# Several processes run tests (-n 2): with more BLAS threads than cores, products take many times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Kernels of a processor are compiled well at once, or most tests would only see code that was compiled quickly. Those of the
# table of operations, and of `test_cpu_tiers.py`, see both.
os.environ.setdefault("ASGFN_CPU_TIERED", "0")
