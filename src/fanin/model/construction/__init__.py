"""How a model gets its memory: none while it is built, all of it when it is initialized."""

from __future__ import annotations

from fanin.model.construction.computed import is_computed, is_computed_at, is_lost_at
from fanin.model.construction.conversion import converted_dtype
from fanin.model.construction.deferred import deferred
from fanin.model.construction.fsdp2 import is_fully_sharded
from fanin.model.construction.lazy import infer_shapes, when_materialized
from fanin.model.construction.materialize import materialize

__all__ = [
    "converted_dtype",
    "deferred",
    "infer_shapes",
    "is_computed",
    "is_computed_at",
    "is_fully_sharded",
    "is_lost_at",
    "materialize",
    "when_materialized",
]
