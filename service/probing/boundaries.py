"""Where a layer's data goes in and comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from service.probing import operations
from service.probing.regions import OUTSIDE, Cut

OUTPUT = "output"
"""The node that gives the model's answer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a layer's data goes in."""

    node: fx.Node | None
    """The data input; None when no gradient can reach one."""
    users: tuple[fx.Node, ...] = ()
    """The layer's own operations that read it."""
    leading: tuple[fx.Node, ...] = ()
    """From the layer's weights back to `users`: the normalization or activation that leads in."""


def output_of(cut: Cut, index: int) -> fx.Node:
    """The last node that everything leaving the layer comes from or is."""
    nodes = cut.regions[index].nodes
    tensors = {node: None for node in nodes if operations.is_result(node)}
    exits = _exits(cut, index)
    if len(exits) <= 1:
        return _batch_first(cut, exits[0] if exits else next(reversed(tensors)), index)
    candidates = [node for node in nodes[: nodes.index(exits[0]) + 1] if node in tensors]
    for candidate in reversed(candidates):
        below = _descendants(cut, candidate, index)
        if all(node in below for node in exits):
            return _batch_first(cut, candidate, index)
    return _batch_first(cut, exits[-1], index)


def entry_of(cut: Cut, index: int, outputs: Sequence[fx.Node]) -> Entry:
    """The data input, given every layer's output."""
    head = cut.regions[index].heads[0]
    read = next((node for node in head.all_input_nodes if _enters(cut, node, index)), None)
    if read is None:
        return Entry(None)
    region = cut.region_of[read]
    stop = outputs[region] if region != OUTSIDE else None
    own = _leading_in(cut, index, region)
    path: list[fx.Node] = []
    node = read
    # What stands between a residual stream and the branch that begins here (pre-norm,
    # pre-activation) belongs to the branch, when nobody else reads it.
    while node is not stop and node in own:
        sources = [source for source in node.all_input_nodes if source in cut.data]
        if len(sources) != 1 or cut.region_of[sources[0]] != region:
            break
        path.append(node)
        node = sources[0]
    if node is not stop:
        # Where several ways lead in, as from the steps that a loop takes one by one, the data
        # goes in where they part.
        while path and not _may_enter(node, path[-1], own):
            node = path.pop()
    # What the model answers with is no operation of a layer, even where it is the layer's input.
    users = [user for user in node.users if user.op != OUTPUT]
    if path:
        return Entry(node, tuple(user for user in users if user in own), tuple(path))
    return Entry(node, tuple(user for user in users if cut.region_of.get(user) == index))


def _may_enter(node: fx.Node, following: fx.Node, own: set[fx.Node]) -> bool:
    """Only a tensor can be what goes in, not the several results of one operation."""
    return "shape" in node.meta and (operations.only_moves(following) or _parts(node, own))


def _leading_in(cut: Cut, index: int, region: int) -> set[fx.Node]:
    """What of a region only this layer reads, however many ways lead in: each direction of a
    recurrent layer arranges the same steps for itself."""
    found: set[fx.Node] = set()
    for node in reversed(cut.nodes_of(region)):
        if all(u in found or cut.region_of.get(u) == index or not u.users for u in node.users):
            found.add(node)
    return found


def _parts(node: fx.Node, own: set[fx.Node]) -> bool:
    """Several ways lead in from here; an operation with several results is as many."""
    ways = (1 if "shape" in user.meta else len(user.users) for user in node.users if user in own)
    return sum(ways) > 1


def _enters(cut: Cut, node: fx.Node, index: int) -> bool:
    if node not in cut.data or cut.region_of[node] == index:
        return False
    dtype = node.meta.get("dtype")
    return dtype is not None and (dtype.is_floating_point or dtype.is_complex)


def _exits(cut: Cut, index: int) -> list[fx.Node]:
    return [
        node
        for node in cut.regions[index].nodes
        if "shape" in node.meta
        and any(
            cut.region_of.get(user, OUTSIDE) != index or user.op == OUTPUT for user in node.users
        )
    ]


def _batch_first(cut: Cut, node: fx.Node, index: int) -> fx.Node:
    """The same elements before they were reshaped so that samples no longer come first."""
    seen = node
    while not _samples_first(cut, seen) and operations.only_moves(seen):
        source = seen.all_input_nodes[0]
        if cut.region_of.get(source) != index:
            break
        seen = source
    return seen if _samples_first(cut, seen) else node


def _samples_first(cut: Cut, node: fx.Node) -> bool:
    shape: tuple[int, ...] = node.meta.get("shape", ())
    return bool(shape) and shape[0] == cut.batch


def _descendants(cut: Cut, node: fx.Node, index: int) -> set[fx.Node]:
    found = {node}
    for other in cut.regions[index].nodes:
        if any(source in found for source in other.all_input_nodes):
            found.add(other)
    return found
