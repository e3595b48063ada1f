"""Plans of `attention` and `attention_gradient`."""

from __future__ import annotations

from asgfn.graph.asg import Asg
from backends.kernels.attention_form import Form
from backends.kernels.lowering import Plan, lower_region, plan_for_primitive
from backends.kernels.schedules.attention_backward import backward
from backends.kernels.schedules.attention_forward import forward
from backends.kernels.schedules.attention_tensor import allows_tensor
from backends.kernels.schedules.attention_tensor_backward import tensor_backward
from backends.kernels.schedules.attention_tensor_forward import tensor_forward
from backends.kernels.schedules.attention_tiles import (
    backward_tiling,
    forward_tiling,
    tensor_backward_tilings,
    tensor_forward_tiling,
)
from backends.kernels.schedules.attention_work import Layout
from backends.kernels.schedules.simd_attention_backward import simd_backward
from backends.kernels.schedules.simd_attention_forward import simd_forward
from backends.kernels.target import Target


@plan_for_primitive("attention", "attention_gradient")
def plan(asg: Asg, target: Target) -> Plan | None:
    """On a GPU: tensor cores where they are precise enough; else tiles in workgroup memory; where those do not fit, the
    expression, element by element."""
    (node,) = asg.nodes
    form: Form = node.params["form"]
    layout = Layout(form)
    if target.simd:
        return (simd_forward if form.gradient is None else simd_backward)(layout, target)
    sizes = layout.rows, layout.columns, layout.size, layout.value_size
    found = _tensor_plan(layout, target)
    if found is not None and _is_callable(found, target):
        return found
    find, write = (forward_tiling, forward) if form.gradient is None else (backward_tiling, backward)
    tiling = find(*sizes, target)
    found = write(layout, tiling, target) if tiling is not None else None
    if found is not None and _is_callable(found, target):
        return found
    return lower_region(form.asg, "elementwise", target)


def _is_callable(found: Plan, target: Target) -> bool:
    """Whether a device's kernels may be called with so many memories."""
    return all(len(stage.arguments) <= target.buffers for stage in found.stages)


def _tensor_plan(layout: Layout, target: Target) -> Plan | None:
    """The plan for tensor cores; None where there are none, precision forbids them, or tiles do not fit."""
    if not allows_tensor(layout, target):
        return None
    sizes = layout.rows, layout.columns, layout.size, layout.value_size
    if layout.form.gradient is None:
        tiling = tensor_forward_tiling(*sizes, target)
        return None if tiling is None else tensor_forward(layout, tiling, target)
    tilings = tensor_backward_tilings(*sizes, target)
    return None if tilings is None else tensor_backward(layout, tilings, target)
