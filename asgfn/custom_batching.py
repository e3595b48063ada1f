"""Functions with vectorisation rules of their own."""

from asgfn.transforms.custom import custom_vmap as custom_vmap
from asgfn.transforms.custom import sequential_vmap as sequential_vmap
