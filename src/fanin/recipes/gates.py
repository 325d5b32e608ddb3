"""Rules for the gates of recurrent layers, which know that every gate adds two biases."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from fanin.errors import ArgumentError
from fanin.geometry import Layout
from fanin.initializers import constant, from_function, zeros
from fanin.initializers.initializer import check_numbers
from fanin.planning import Rule, rule

__all__ = ["chrono", "forget_bias"]

_LSTM = (nn.LSTM, nn.LSTMCell)
_GRU = (nn.GRU, nn.GRUCell)


def forget_bias(value: float = 1.0) -> tuple[Rule, ...]:
    """The forget gates of LSTMs start with this bias: at 1 they keep 73 % of the cell's state.

    torch adds ``bias_ih`` and ``bias_hh``; the first gets the value and the second zero, so that
    their sum is the value: in every layer and direction, and in `nn.LSTMCell`.

    Args:
        value: the sum of both biases.

    Returns:
        Rules to append to a recipe: ``recipe + forget_bias()``.

    Example:
        >>> import fanin
        >>> cell = nn.LSTMCell(3, 2)
        >>> _ = fanin.initialize(cell, fanin.get_recipe("kaiming") + forget_bias(), seed=0)
        >>> (cell.bias_ih + cell.bias_hh).tolist()
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    Source: Gers, Schmidhuber and Cummins 2000, Learning to forget; Jozefowicz, Zaremba and
        Sutskever 2015, An empirical exploration of recurrent network architectures.
    """
    gate = constant(value)
    return (
        rule(_LSTM, gate, parameter="bias_ih*", part="f", label="forget gate, input bias"),
        rule(_LSTM, zeros(), parameter="bias_hh*", part="f", label="forget gate, hidden bias"),
    )


def chrono(max_steps: float) -> tuple[Rule, ...]:
    """Gates that start with memories of 1 to ``max_steps`` steps, evenly spread over the units.

    For an LSTM ``b_f = log U(1, max_steps − 1)`` and, with the same draws, ``b_i = −b_f``; the
    other biases are zero. For a GRU of torch, whose update gate z keeps ``z·h``,
    ``b_z = log U(1, max_steps − 1)``: one gate does both. As in `forget_bias` all of it is in
    ``bias_ih``, and ``bias_hh`` is zero.

    Args:
        max_steps: the longest dependency expected, more than 2.

    Returns:
        Rules to append to a recipe: ``recipe + chrono(784)``. They set every bias of the layers;
        rules for single gates do not go on top.

    Raises:
        ArgumentError: for a number that is not above 2.

    Example:
        >>> import fanin
        >>> cell = nn.LSTMCell(3, 100)
        >>> _ = fanin.initialize(cell, fanin.get_recipe("kaiming") + chrono(50), seed=0)
        >>> i, f, g, o = (cell.bias_ih + cell.bias_hh).chunk(4)
        >>> torch.equal(i, -f), bool(f.min() >= 0), bool(f.max() < 4)
        (True, True, True)

    Source: Tallec and Ollivier 2018, Can recurrent neural networks warp time?, arXiv:1804.11188.
    """
    check_numbers("chrono", max_steps=max_steps)
    if max_steps <= 2:
        raise ArgumentError(
            f"chrono: max_steps is above 2. Got {max_steps}. Pass the length of the sequences."
        )
    lstm = from_function(functools.partial(lstm_biases, max_steps=max_steps))
    gru = from_function(functools.partial(gru_biases, max_steps=max_steps))
    whole = Layout()  # both gates share their draws: the bias is one vector, not four parts
    return (
        rule(_LSTM, lstm, parameter="bias_ih*", layout=whole, label="chrono input bias"),
        rule(_GRU, gru, parameter="bias_ih*", layout=whole, label="chrono input bias"),
        rule((*_LSTM, *_GRU), zeros(), parameter="bias_hh*", label="chrono hidden bias"),
    )


def lstm_biases(bias: Tensor, *, generator: torch.Generator, max_steps: float) -> None:
    """Write log U(1, max_steps − 1) to the forget gate and its negative to the input gate."""
    input_gate, forget_gate, _, _ = bias.chunk(4)
    forget_gate.uniform_(1.0, max_steps - 1.0, generator=generator).log_()
    input_gate.copy_(-forget_gate)


def gru_biases(bias: Tensor, *, generator: torch.Generator, max_steps: float) -> None:
    """Write log U(1, max_steps − 1) to the update gate, the second of three."""
    bias.chunk(3)[1].uniform_(1.0, max_steps - 1.0, generator=generator).log_()
