"""Fills to tensors."""

from fanin.drawing.dispatch import draw as draw
