"""How signals move through a model: what its forward pass computes, operation by operation."""

from fanin.flow.graph import ModuleCall as ModuleCall
from fanin.flow.graph import Operation as Operation
from fanin.flow.graph import Trace as Trace
from fanin.flow.graph import Value as Value
from fanin.flow.trace import trace as trace
