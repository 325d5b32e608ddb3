"""Sinusoidal representation networks: ``sin(ω·(W·x + b))`` after every linear layer."""

from __future__ import annotations

from torch import nn

from fanin.errors import ArgumentError
from fanin.fills import derived
from fanin.initializers import Initializer, uniform, variance_scaling
from fanin.initializers.initializer import check_numbers
from fanin.model import Site
from fanin.planning import Recipe, rule
from fanin.recipes.options import stated
from fanin.recipes.torch_default import torch_default

__all__ = ["siren"]


def siren(*, omega: float = 30.0) -> Recipe:
    """The first linear layer U(±1/n), the others U(±sqrt(6/n)/ω), n the number of inputs.

    The first is the first `nn.Linear` in the model's order; a head without a sine is like the
    others. Biases, and whatever else there is, are as torch's constructors make them (U(±1/sqrt(n))
    for a linear layer), as in the authors' code. ``omega`` must be that of the forward pass.

    Args:
        omega: the factor inside of the hidden sines, positive.

    Returns:
        A recipe for models of torch's modules.

    Raises:
        ArgumentError: an omega that is no positive number.

    Example:
        >>> import fanin
        >>> model = nn.Sequential(nn.Linear(2, 6), nn.Linear(6, 3))
        >>> [round(step.fill.high, 4) for step in fanin.plan(model, siren(), seed=0).steps[::2]]
        [0.5, 0.0333]

    Source: Sitzmann et al. 2020, arXiv:2006.09661, section 3.2 and appendix 1.5; the authors'
        siren, modules.py.
    """
    check_numbers("siren", omega=omega)
    if omega <= 0:
        raise ArgumentError(f"siren: omega is positive. Got {omega}. The paper uses 30.")
    # U(±sqrt(6/n)/ω) has the variance 2 / (ω²·n).
    hidden = variance_scaling(2.0 / omega**2, distribution="uniform")
    return Recipe(
        "siren",
        1,
        (
            *torch_default().rules,
            rule(nn.Linear, hidden, parameter="weight", label="sine layer"),
            rule(first_linear_weight, first_bound, label="first sine layer"),
        ),
        summary="U(±1/n) first, then U(±sqrt(6/n)/ω), for sine networks (Sitzmann et al. 2020)",
        options=stated(siren, omega=omega),
    )


def first_linear_weight(site: Site) -> bool:
    """Whether the parameter is the weight of the model's first linear layer."""
    if site.attribute != "weight" or not isinstance(site.module, nn.Linear):
        return False
    first = next(module for module in site.parents[0].modules() if isinstance(module, nn.Linear))
    return site.module is first


def first_bound(site: Site) -> Initializer:
    """U(±1/n)."""
    fan_in = site.tensor.shape[1]
    bound = derived(1 / fan_in) if fan_in else 0.0
    return uniform(low=-bound, high=bound)
