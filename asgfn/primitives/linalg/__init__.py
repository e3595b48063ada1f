"""Linear algebra: decompositions and the solving of linear systems, on stacks of matrices."""

from asgfn.primitives.linalg.cholesky import cholesky as cholesky
from asgfn.primitives.linalg.cholesky import cholesky_p as cholesky_p
from asgfn.primitives.linalg.eigen import eig as eig
from asgfn.primitives.linalg.eigen import eig_p as eig_p
from asgfn.primitives.linalg.eigen import eigh as eigh
from asgfn.primitives.linalg.eigen import eigh_p as eigh_p
from asgfn.primitives.linalg.lu import lu as lu
from asgfn.primitives.linalg.lu import lu_p as lu_p
from asgfn.primitives.linalg.lu import lu_pivots_to_permutation as lu_pivots_to_permutation
from asgfn.primitives.linalg.lu import lu_pivots_to_permutation_p as lu_pivots_to_permutation_p
from asgfn.primitives.linalg.lu import lu_solve as lu_solve
from asgfn.primitives.linalg.qr import geqrf as geqrf
from asgfn.primitives.linalg.qr import geqrf_p as geqrf_p
from asgfn.primitives.linalg.qr import householder_product as householder_product
from asgfn.primitives.linalg.qr import householder_product_p as householder_product_p
from asgfn.primitives.linalg.qr import qr as qr
from asgfn.primitives.linalg.qr import qr_p as qr_p
from asgfn.primitives.linalg.svd import svd as svd
from asgfn.primitives.linalg.svd import svd_p as svd_p
from asgfn.primitives.linalg.triangular import triangular_solve as triangular_solve
from asgfn.primitives.linalg.triangular import triangular_solve_p as triangular_solve_p
from asgfn.primitives.linalg.tridiagonal import tridiagonal_solve as tridiagonal_solve
from asgfn.primitives.linalg.tridiagonal import tridiagonal_solve_p as tridiagonal_solve_p
