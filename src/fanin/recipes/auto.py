"""`auto`: scales solved for along the model's own computation."""

from __future__ import annotations

from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.planning import Recipe
from fanin.recipes.options import stated

__all__ = ["auto"]

_CHOICES = {
    "family": ("normal", "uniform", "orthogonal"),
    "residual": ("scaled", "sqrt_depth", "constant"),
    "balance": ("forward", "backward", "geometric"),
}


def auto(
    *,
    family: str = "normal",
    residual: str = "scaled",
    balance: str = "forward",
    head_std: float = 0.25,
) -> Recipe:
    """Every scale follows from what the model computes: layers keep the second moment at 1.

    The model is traced with example inputs, without computing anything, and moments are followed
    from operation to operation. A linear map that sums ``terms`` products with inputs of second
    moment q gets ``std = sqrt(target / (terms · q))``. The target is 1; what ends a residual
    branch, and what the model returns, have targets of their own. Biases are zero, norms the
    identity, the forget gates of an LSTM start at 1, and queries whose scores nothing divides are
    as small as the division would make them.

    Deep chains without norms have another target, the nearest to 1 at which a gradient's rms at
    most doubles or halves along the chain; where functions such as GELU make deviations grow, a
    share of the variance comes from random biases, so that they at most double too.

    Args:
        family: ``"normal"``, ``"uniform"``, or ``"orthogonal"``, which keeps lengths exactly, so
            that narrow and deep nets do not drift.
        residual: how a residual stream of N branches grows: ``"scaled"``: each branch adds 1/N of
            what the stream has, so that it ends below e times its first second moment;
            ``"sqrt_depth"``: each adds what the stream began with, so that its rms grows with the
            root of the depth; ``"constant"``: branches start at zero.
        balance: ``"forward"`` keeps outputs, ``"backward"`` divides by fan_out instead of fan_in
            and keeps gradients, ``"geometric"`` is the geometric mean of both.
        head_std: std of what linear maps return that nothing follows but the end of the model, or
            a loss: the first loss over V classes is ``ln V + head_std²/2``. Tables that are tied
            to such a map have it too.

    Returns:
        A recipe that needs ``example_inputs=``. It takes inputs to be of mean 0 and std 1.

    Raises:
        UnknownNameError: another family, law or balance.
        ArgumentError: a negative ``head_std``.

    Example:
        >>> import fanin, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        >>> plan = fanin.plan(model, "auto", seed=0, example_inputs=torch.ones(2, 64))
        >>> first, _, second, _ = (step.moments[1] for step in plan.steps)
        >>> round(second / first, 3) == round(fanin.gain("tanh"), 3)
        True

    Source: the variance of sums, as in He et al. 2015, arXiv:1502.01852; chains as in Schoenholz et
    al. 2017, arXiv:1611.01232, and Roberts, Yaida and Hanin 2021, arXiv:2106.10165, §5.
    """
    given = {"family": family, "residual": residual, "balance": balance}
    for option, value in given.items():
        if value not in _CHOICES[option]:
            raise UnknownNameError(
                f"auto: {option} is one of a closed list. Got {value!r}. "
                f"{one_of(str(value), _CHOICES[option])}"
            )
    if not head_std >= 0:
        raise ArgumentError(f"auto: head_std is a std. Got {head_std}. Pass 0 for a head of zeros.")
    from fanin.recipes.solving import Solver  # 0.1 s that other recipes need not wait for

    return Recipe(
        "auto",
        1,
        (),
        summary="scales from the model's own graph: every layer's second moment is 1",
        options=stated(auto, **given, head_std=head_std),
        derived=Solver(family, residual, balance, head_std),
    )
