"""`Products`: which zeros multiply what other parameters give, as the graph of a pass shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

__all__ = ["Products", "products"]


@dataclass(frozen=True, slots=True)
class Products:
    """What zeros are factors of.

    Args:
        added: zeros that do no more than add to something else: a position table, a mask token.
            Whatever is 0 behind them is so for another reason.
        factors: for each parameter that the graph shows, the zeros that multiply what it gives.
    """

    added: frozenset[str] = frozenset()
    factors: Mapping[str, frozenset[str]] = field(default_factory=dict)


def products(
    roots: Sequence[Tensor], parameters: Mapping[str, Tensor], zeros: Collection[str]
) -> Products:
    """Read the graph behind a loss or outputs.

    A zero is followed from its leaf towards the roots until it is added to something; on the way
    it multiplies whatever else goes into a node. Operations that are not known count as products.

    Args:
        roots: with their graph.
        parameters: leaves that ask for a gradient, by name.
        zeros: the names of those that are 0.
    """
    order = _roots_first([root.grad_fn for root in roots if root.grad_fn is not None])
    users: dict[Node, list[tuple[Node, int]]] = {}
    for node in order:
        for place, (below, _) in enumerate(node.next_functions):
            if below is not None:
                users.setdefault(below, []).append((node, place))
    leaves = {name: get_gradient_edge(tensor).node for name, tensor in parameters.items()}
    gates: dict[tuple[Node, int], set[str]] = {}
    added = set()
    for name in zeros:
        factor_of = [*_products(leaves[name], users)]
        if leaves[name] in users and not factor_of:
            added.add(name)
        for node, place in factor_of:
            for other in range(len(node.next_functions)):
                if other != place:
                    gates.setdefault((node, other), set()).add(name)
    behind: dict[Node, set[str]] = {}
    for node in order:
        for place, (below, _) in enumerate(node.next_functions):
            if below is not None:
                zeros_above = behind.get(node, set()) | gates.get((node, place), set())
                behind.setdefault(below, set()).update(zeros_above)
    found = {name: frozenset(behind[leaf]) for name, leaf in leaves.items() if leaf in users}
    return Products(frozenset(added), found)


# Names as torch's nodes have them, without their number.
_SUMS = frozenset({"AddBackward", "SubBackward"})
_BIASED = frozenset({"AddmmBackward", "AddmvBackward", "AddbmmBackward", "BaddbmmBackward"})
_JOINS = frozenset({"CatBackward", "StackBackward", "WhereBackward", "CopySlices"})


def _roots_first(roots: Sequence[Node]) -> list[Node]:
    """Every node after all that use it."""
    done: list[Node] = []
    seen: set[Node] = set()
    pending: list[tuple[Node, bool]] = [(root, False) for root in roots]
    while pending:
        node, is_left = pending.pop()
        if is_left:
            done.append(node)
        elif node not in seen:
            seen.add(node)
            pending.append((node, True))
            pending += [(below, False) for below, _ in node.next_functions if below is not None]
    return done[::-1]


def _products(
    leaf: Node, users: Mapping[Node, list[tuple[Node, int]]]
) -> Iterator[tuple[Node, int]]:
    """The nodes in which a leaf, or what became of it, is multiplied, and as which input."""
    pending, seen = [*users.get(leaf, ())], set()
    while pending:
        node, place = pending.pop()
        kind = node.name().rpartition("::")[2].rstrip("0123456789")
        if (node, place) in seen or kind in _SUMS or (kind in _BIASED and place == 0):
            continue
        seen.add((node, place))
        if len(node.next_functions) > 1 and kind not in _JOINS:
            yield node, place
        pending += users.get(node, ())
