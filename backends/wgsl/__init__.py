"""Kernels as WGSL, the shading language of WebGPU."""

from backends.wgsl.printer import DAWN as DAWN
from backends.wgsl.printer import NAGA as NAGA
from backends.wgsl.printer import Dialect as Dialect
from backends.wgsl.printer import source as source
