"""SciPy's functions on asgfn arrays, with `jax.scipy`'s names: `special`, `linalg`, `stats`."""

from asgfn.scipy import linalg as linalg
from asgfn.scipy import special as special
from asgfn.scipy import stats as stats
