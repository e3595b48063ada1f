"""Programs as values: `ArrayType`, `Node`, `Asg`."""

from asgfn.graph.asg import NO_PARAMS as NO_PARAMS
from asgfn.graph.asg import Asg as Asg
from asgfn.graph.asg import Node as Node
from asgfn.graph.asg import Params as Params
from asgfn.graph.asg import inner_graphs as inner_graphs
from asgfn.graph.serial import from_bytes, to_bytes
from asgfn.graph.text import to_text
from asgfn.graph.types import ArrayType as ArrayType
from asgfn.graph.types import SourceInfo as SourceInfo
from asgfn.graph.validate import validate

# the record stays small; these are written beside it
Asg.text = to_text  # type: ignore[assignment]
Asg.validate = validate  # type: ignore[assignment]
Asg.to_bytes = to_bytes  # type: ignore[assignment]
Asg.from_bytes = staticmethod(from_bytes)  # type: ignore[assignment]
