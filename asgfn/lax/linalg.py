"""`asgfn.lax.linalg`: matrix decompositions and solvers, with the names and meaning of `jax.lax.linalg`.

The functions of `asgfn.numpy.linalg` and `asgfn.scipy.linalg` are made of these.
"""

from asgfn.primitives.linalg import cholesky as cholesky
from asgfn.primitives.linalg import cholesky_p as cholesky_p
from asgfn.primitives.linalg import eig as eig
from asgfn.primitives.linalg import eig_p as eig_p
from asgfn.primitives.linalg import eigh as eigh
from asgfn.primitives.linalg import eigh_p as eigh_p
from asgfn.primitives.linalg import geqrf as geqrf
from asgfn.primitives.linalg import geqrf_p as geqrf_p
from asgfn.primitives.linalg import householder_product as householder_product
from asgfn.primitives.linalg import householder_product_p as householder_product_p
from asgfn.primitives.linalg import lu as lu
from asgfn.primitives.linalg import lu_p as lu_p
from asgfn.primitives.linalg import lu_pivots_to_permutation as lu_pivots_to_permutation
from asgfn.primitives.linalg import lu_pivots_to_permutation_p as lu_pivots_to_permutation_p
from asgfn.primitives.linalg import qr as qr
from asgfn.primitives.linalg import qr_p as qr_p
from asgfn.primitives.linalg import svd as svd
from asgfn.primitives.linalg import svd_p as svd_p
from asgfn.primitives.linalg import triangular_solve as triangular_solve
from asgfn.primitives.linalg import triangular_solve_p as triangular_solve_p
from asgfn.primitives.linalg import tridiagonal_solve as tridiagonal_solve
from asgfn.primitives.linalg import tridiagonal_solve_p as tridiagonal_solve_p
