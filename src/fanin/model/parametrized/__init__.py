"""Weights that a module computes from other parameters."""

from __future__ import annotations

from fanin.model.parametrized.parametrized import Parametrized, parametrized

__all__ = ["Parametrized", "parametrized"]
