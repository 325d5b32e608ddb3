"""How many blocks a model has, told from the lists around a parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from torch import nn

from fanin.errors import PlanError
from fanin.model import Site, module_type
from fanin.model.wrappers import wrapped_attribute

__all__ = ["num_blocks"]


def num_blocks(site: Site) -> int:
    """The length of the one list of blocks around a parameter.

    A list is a `nn.ModuleList` or `nn.Sequential`, a block what in it has modules of its own. All
    lists around the parameter agree, each holds blocks of one type, and the model has no others of
    that type. Anything else would be a guess: stages of blocks, blocks of experts, two stacks, and
    the blocks of a part of a model.

    Raises:
        PlanError: where they do not agree, where there is none, and for a part of a model.
    """
    lists = list(_lists(site))
    lengths = {length for length, _ in lists}
    if len(lengths) == 1 and 0 not in lengths and not site.in_part:
        return lengths.pop()
    found = f"lists of {', and of '.join(words for _, words in lists)}" if lists else "no list"
    if site.in_part:
        found += ", in a part of a model (prefix= says so),"
    raise PlanError(
        "gpt2: the std of residual projections comes from the number of blocks, which a config "
        f"states or one list of blocks shows. Got no config, and {found} around {site.name!r}. "
        "Say gpt2(num_layers=12), with the number of the whole model."
    )


def _lists(site: Site) -> Iterator[tuple[int, str]]:
    """The length of each list of blocks, 0 where that is not their number; and in words."""
    everywhere = Counter(map(module_type, site.parents[0].modules()))
    for parent, child in pairwise(site.parents):
        if not isinstance(parent, nn.ModuleList | nn.Sequential) or _is_layer(child):
            continue
        here = Counter(module_type(_bare(each)) for each in parent if not _is_layer(each))
        is_one_type = len(here) == 1 and all(everywhere[kind] == n for kind, n in here.items())
        words = (
            f"{n} {kind.__name__}" + (f" (of {everywhere[kind]})" if everywhere[kind] > n else "")
            for kind, n in here.items()
        )
        yield here.total() if is_one_type else 0, " and ".join(words)


def _is_layer(module: nn.Module) -> bool:
    """Whether a module has none of its own; those that compute a parametrized weight aside."""
    return _bare(module)._modules.keys() <= {"parametrizations"}


def _bare(module: nn.Module) -> nn.Module:
    """What is inside of wrappers."""
    while (attribute := wrapped_attribute(module)) is not None:
        module = module.get_submodule(attribute)
    return module
