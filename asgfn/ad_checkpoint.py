"""JAX's `jax.ad_checkpoint` names."""

from asgfn.transforms.checkpoint import checkpoint as checkpoint
from asgfn.transforms.checkpoint import checkpoint_name as checkpoint_name
from asgfn.transforms.checkpoint import checkpoint_policies as checkpoint_policies
from asgfn.transforms.checkpoint import print_saved_residuals as print_saved_residuals
from asgfn.transforms.checkpoint import remat as remat
from asgfn.transforms.checkpoint import saved_residuals as saved_residuals
