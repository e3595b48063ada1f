"""Functions with derivative rules of their own."""

from asgfn.transforms.custom import CustomVjpPrimal as CustomVjpPrimal
from asgfn.transforms.custom import SymbolicZero as SymbolicZero
from asgfn.transforms.custom import closure_convert as closure_convert
from asgfn.transforms.custom import custom_gradient as custom_gradient
from asgfn.transforms.custom import custom_jvp as custom_jvp
from asgfn.transforms.custom import custom_vjp as custom_vjp
from asgfn.transforms.custom import zero_from_primal as zero_from_primal
