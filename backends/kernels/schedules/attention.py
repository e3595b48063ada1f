"""Plans of `attention` and `attention_gradient`."""

from __future__ import annotations

from asgfn.graph.asg import Asg
from backends.kernels.attention_form import Form
from backends.kernels.lowering import Plan, lower_region, plan_for_primitive
from backends.kernels.schedules.attention_backward import backward
from backends.kernels.schedules.attention_forward import forward
from backends.kernels.schedules.attention_tiles import backward_tiling, forward_tiling
from backends.kernels.schedules.attention_work import Layout
from backends.kernels.target import Target


@plan_for_primitive("attention", "attention_gradient")
def plan(asg: Asg, target: Target) -> Plan | None:
    """Tiles in workgroup memory; where those do not fit, the expression, element by element."""
    (node,) = asg.nodes
    form: Form = node.params["form"]
    layout = Layout(form)
    sizes = layout.rows, layout.columns, layout.size, layout.value_size
    find, write = (forward_tiling, forward) if form.gradient is None else (backward_tiling, backward)
    tiling = find(*sizes, target)
    found = write(layout, tiling, target) if tiling is not None else None
    if found is not None and all(len(stage.arguments) <= target.buffers for stage in found.stages):
        return found
    return lower_region(form.asg, "elementwise", target)
