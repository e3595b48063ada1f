"""Programs as values: `ArrayType`, `Node`, `Asg`."""

from asgfn.graph.asg import NO_PARAMS as NO_PARAMS
from asgfn.graph.asg import Asg as Asg
from asgfn.graph.asg import Node as Node
from asgfn.graph.asg import Params as Params
from asgfn.graph.asg import inner_graphs as inner_graphs
from asgfn.graph.types import ArrayType as ArrayType
from asgfn.graph.types import SourceInfo as SourceInfo
