"""Fills to tensors."""

from fanin.drawing.draw import draw as draw
