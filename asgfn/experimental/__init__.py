"""Names that JAX keeps in `jax.experimental`."""

from asgfn.config import disable_x64 as disable_x64
from asgfn.config import enable_x64 as enable_x64
from asgfn.experimental import checkify as checkify
from asgfn.primitives.callbacks import io_callback as io_callback

__all__ = ["checkify", "disable_x64", "enable_x64", "io_callback"]
