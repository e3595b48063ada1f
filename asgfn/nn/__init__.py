"""Functions of neural networks, with `jax.nn`'s names: activations, softmax and relatives, attention, initializers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgfn.nn.attention import dot_product_attention as dot_product_attention
from asgfn.nn.functions import (
    celu as celu,
)
from asgfn.nn.functions import (
    elu as elu,
)
from asgfn.nn.functions import (
    gelu as gelu,
)
from asgfn.nn.functions import (
    glu as glu,
)
from asgfn.nn.functions import (
    hard_sigmoid as hard_sigmoid,
)
from asgfn.nn.functions import (
    hard_silu as hard_silu,
)
from asgfn.nn.functions import (
    hard_swish as hard_swish,
)
from asgfn.nn.functions import (
    hard_tanh as hard_tanh,
)
from asgfn.nn.functions import (
    identity as identity,
)
from asgfn.nn.functions import (
    leaky_relu as leaky_relu,
)
from asgfn.nn.functions import (
    log1mexp as log1mexp,
)
from asgfn.nn.functions import (
    log_sigmoid as log_sigmoid,
)
from asgfn.nn.functions import (
    mish as mish,
)
from asgfn.nn.functions import (
    relu as relu,
)
from asgfn.nn.functions import (
    relu6 as relu6,
)
from asgfn.nn.functions import (
    selu as selu,
)
from asgfn.nn.functions import (
    sigmoid as sigmoid,
)
from asgfn.nn.functions import (
    silu as silu,
)
from asgfn.nn.functions import (
    soft_sign as soft_sign,
)
from asgfn.nn.functions import (
    softplus as softplus,
)
from asgfn.nn.functions import (
    sparse_plus as sparse_plus,
)
from asgfn.nn.functions import (
    sparse_sigmoid as sparse_sigmoid,
)
from asgfn.nn.functions import (
    squareplus as squareplus,
)
from asgfn.nn.functions import (
    swish as swish,
)
from asgfn.nn.functions import (
    tanh as tanh,
)
from asgfn.nn.softmax import (
    log_softmax as log_softmax,
)
from asgfn.nn.softmax import (
    logmeanexp as logmeanexp,
)
from asgfn.nn.softmax import (
    logsumexp as logsumexp,
)
from asgfn.nn.softmax import (
    one_hot as one_hot,
)
from asgfn.nn.softmax import (
    softmax as softmax,
)
from asgfn.nn.softmax import (
    standardize as standardize,
)

if TYPE_CHECKING:
    from asgfn.nn import initializers as initializers


def __getattr__(name: str) -> Any:
    if name == "initializers":  # loaded when first used: importing asgfn.nn stays fast
        import importlib

        return importlib.import_module("asgfn.nn.initializers")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "initializers"})
