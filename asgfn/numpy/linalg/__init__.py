"""Linear algebra: `numpy.linalg` on asgfn arrays.

Functions take stacks of matrices [..., m, n]. A numerical failure (a singular or not positive definite matrix) gives
infinities or NaN in its own result, never an exception.
"""

from asgfn.numpy.linalg.decompositions import cholesky as cholesky
from asgfn.numpy.linalg.decompositions import eig as eig
from asgfn.numpy.linalg.decompositions import eigh as eigh
from asgfn.numpy.linalg.decompositions import eigvals as eigvals
from asgfn.numpy.linalg.decompositions import eigvalsh as eigvalsh
from asgfn.numpy.linalg.decompositions import qr as qr
from asgfn.numpy.linalg.decompositions import svd as svd
from asgfn.numpy.linalg.decompositions import svdvals as svdvals
from asgfn.numpy.linalg.matrix_products import cross as cross
from asgfn.numpy.linalg.matrix_products import diagonal as diagonal
from asgfn.numpy.linalg.matrix_products import matrix_power as matrix_power
from asgfn.numpy.linalg.matrix_products import multi_dot as multi_dot
from asgfn.numpy.linalg.matrix_products import outer as outer
from asgfn.numpy.linalg.matrix_products import trace as trace
from asgfn.numpy.linalg.norms import cond as cond
from asgfn.numpy.linalg.norms import matrix_norm as matrix_norm
from asgfn.numpy.linalg.norms import matrix_rank as matrix_rank
from asgfn.numpy.linalg.norms import norm as norm
from asgfn.numpy.linalg.norms import vector_norm as vector_norm
from asgfn.numpy.linalg.solving import det as det
from asgfn.numpy.linalg.solving import inv as inv
from asgfn.numpy.linalg.solving import lstsq as lstsq
from asgfn.numpy.linalg.solving import pinv as pinv
from asgfn.numpy.linalg.solving import slogdet as slogdet
from asgfn.numpy.linalg.solving import solve as solve
from asgfn.numpy.linalg.solving import tensorinv as tensorinv
from asgfn.numpy.linalg.solving import tensorsolve as tensorsolve
from asgfn.numpy.manipulation import matrix_transpose as matrix_transpose
from asgfn.numpy.products import matmul as matmul
from asgfn.numpy.products import tensordot as tensordot
from asgfn.numpy.products import vecdot as vecdot
