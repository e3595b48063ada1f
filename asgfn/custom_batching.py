"""Functions with vectorisation rules of their own."""

from asgfn.transforms.custom_vmap import custom_vmap as custom_vmap
from asgfn.transforms.custom_vmap import sequential_vmap as sequential_vmap
