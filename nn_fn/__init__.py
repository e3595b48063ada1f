"""What people build with asgfn: layers, losses, optimisers, data, checkpoints.

Everything is a pure function over pytrees.
"""

from nn_fn import losses as losses
from nn_fn.checkpoint import load_checkpoint as load_checkpoint
from nn_fn.checkpoint import save_checkpoint as save_checkpoint
from nn_fn.layers import Layer as Layer
from nn_fn.layers import activation as activation
from nn_fn.layers import dropout as dropout
from nn_fn.layers import linear as linear
from nn_fn.layers import sequential as sequential
from nn_fn.optimisers import GradientTransformation as GradientTransformation
from nn_fn.optimisers import adam as adam
from nn_fn.optimisers import adamw as adamw
from nn_fn.optimisers import apply_updates as apply_updates
from nn_fn.optimisers import chain as chain
from nn_fn.optimisers import sgd as sgd
