"""Functions with derivative rules of their own."""

from asgfn.transforms.closures import closure_convert as closure_convert
from asgfn.transforms.closures import custom_gradient as custom_gradient
from asgfn.transforms.custom_jvp import custom_jvp as custom_jvp
from asgfn.transforms.custom_rules import SymbolicZero as SymbolicZero
from asgfn.transforms.custom_rules import zero_from_primal as zero_from_primal
from asgfn.transforms.custom_vjp import CustomVjpPrimal as CustomVjpPrimal
from asgfn.transforms.custom_vjp import custom_vjp as custom_vjp
