"""Several passes as one: a recorded graph rewritten so that every tensor is a stack of theirs.

A recorded operation knows the shapes of one pass. Here each is exchanged for one that takes a stack
(P, …), P passes over networks of the same form, each with parameters and a batch of its own, and
answers with a stack (`stacked_operations`). Only operations are exchanged for which that is known
to be the same arithmetic; a graph with any other, or one that draws, is not stacked. What writes
into a tensor that an operation has made is exchanged for what makes a new one; what counts in a
buffer that nobody reads is left out.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from service.probing.operations import writes
from service.probing.stacked_operations import BUFFERS, BY_ELEMENT, RULES, lifted

PARAMETER_PREFIX = "parameter_"
"""Placeholders of the stacks of parameters are parameter_0 …, before those of the inputs."""


class CannotStack(Exception):
    """A graph holds an operation that is not known to work on stacks."""


def stacked(graph: fx.Graph, parameters: Sequence[str]) -> fx.Graph:
    """The graph over stacks: takes one (P, …) for each of these parameters, in their order, and for
    each input; answers with one. Modules that are called are shown stacks. Raises CannotStack."""
    return _Stacker(parameters).copied(graph)


class _Stacker:
    def __init__(self, parameters: Sequence[str]) -> None:
        self._graph = fx.Graph()
        self._parameters = {
            name: self._graph.placeholder(f"{PARAMETER_PREFIX}{index}")
            for index, name in enumerate(parameters)
        }
        self._copies: dict[fx.Node, fx.Node] = {}
        self._stacks: set[fx.Node] = set()
        """Those that have become stacks."""

    def copied(self, graph: fx.Graph) -> fx.Graph:
        for node in graph.nodes:
            # Of several results those that nobody reads need not be there.
            if (node.users or node.target is not operator.getitem) and not _only_counts(node):
                self._copies[node] = self._copy(node)
        return self._graph

    def _copy(self, node: fx.Node) -> fx.Node:
        if node.op == "get_attr" and node.meta.get("name") in self._parameters:
            self._stacks.add(node)
            return self._parameters[node.meta["name"]]
        if node.op == "get_attr" or not any(one in self._stacks for one in node.all_input_nodes):
            if node.op == "placeholder":
                self._stacks.add(node)
            elif node.op in ("output", "call_module") or writes(node) or _draws(node):
                raise CannotStack(str(node.target))
            return self._graph.node_copy(node, self._copies.__getitem__)
        self._stacks.add(node)
        if node.op in ("output", "call_module") or node.target is operator.getitem:
            return self._graph.node_copy(node, self._copies.__getitem__)
        if _draws(node):
            raise CannotStack(str(node.target))
        return self._written(node) if writes(node) else self._exchanged(node)

    def _written(self, node: fx.Node) -> fx.Node:
        """Element by element into what an operation made that no view shows: a new tensor, which
        those read who come later."""
        into, instead = node.args[0], _out_of_place(node)
        if not isinstance(into, fx.Node) or into not in self._stacks or not _is_fresh(into):
            raise CannotStack(str(node.target))
        if instead is None:
            raise CannotStack(str(node.target))
        made = self._by_element(node)
        made.target = instead
        self._copies[into] = made
        return made

    def _exchanged(self, node: fx.Node) -> fx.Node:
        if torch.Tag.pointwise in getattr(node.target, "tags", ()) or node.target in BY_ELEMENT:
            return self._by_element(node)
        rule, buffers = RULES.get(node.target), BUFFERS.get(node.target, frozenset())
        arguments = _by_name(node)
        given = [v for k, v in arguments.items() if k not in buffers]
        stacks: list[fx.Node] = []
        fx.map_arg(given, stacks.append)
        if rule is None or not all(one in self._stacks for one in stacks):
            raise CannotStack(str(node.target))
        mapped = fx.map_arg(arguments, self._copies.__getitem__)
        return self._graph.call_function(rule, (), mapped)

    def _by_element(self, node: fx.Node) -> fx.Node:
        """The same operation; operands of fewer dimensions than the result get them behind the
        first, since sizes are matched from the last."""
        rank = len(node.meta["shape"]) if "shape" in node.meta else None

        def operand(one: fx.Node) -> fx.Node:
            copy = self._copies[one]
            if rank is None or one not in self._stacks or len(_shape(one)) == rank:
                return copy
            return self._graph.call_function(lifted, (copy, rank))

        return self._graph.node_copy(node, operand)


def _shape(node: fx.Node) -> Sequence[int]:
    """Of one pass; a tap's is that of what it is shown."""
    while "shape" not in node.meta:
        node = node.all_input_nodes[0]
    found: Sequence[int] = node.meta["shape"]
    return found


def _draws(node: fx.Node) -> bool:
    """Whether it draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _only_counts(node: fx.Node) -> bool:
    """Whether it writes into a buffer alone, as num_batches_tracked of a batch normalization is
    counted up, which nobody reads; buffers are what they were after every pass."""
    if not writes(node) or node.users or len(node.all_input_nodes) != 1:
        return False
    (buffer,) = node.all_input_nodes
    return buffer.op == "get_attr" and len(buffer.users) == 1


def _out_of_place(node: fx.Node) -> Any:
    """What answers with what this writes, add for add_; None where no such operation goes element
    by element."""
    schema: Any = getattr(node.target, "_schema", None)
    namespace, name = schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    found = getattr(packet, schema.overload_name or "default", None)
    by_element = torch.Tag.pointwise in getattr(found, "tags", ()) and name.endswith("_")
    return found if by_element else None


def _is_fresh(node: fx.Node) -> bool:
    """Whether it is memory of its own that is written to once, and nobody has it by another name:
    neither a view nor seen through one."""

    def shows(one: fx.Node) -> bool:
        schema = getattr(one.target, "_schema", None)
        if one.op != "call_function" or schema is None:
            return one.op != "call_module" or bool(one.users)
        return any(answer.alias_info is not None for answer in schema.returns)

    writers = [user for user in node.users if writes(user)]
    others = [user for user in node.users if not writes(user)]
    return len(writers) == 1 and not shows(node) and not any(map(shows, others))


def _by_name(node: fx.Node) -> dict[str, Any]:
    """The operation's arguments, those left out included."""
    found = {}
    schema: Any = getattr(node.target, "_schema", None)
    for place, argument in enumerate(schema.arguments):
        if place < len(node.args):
            found[argument.name] = node.args[place]
        elif argument.name in node.kwargs:
            found[argument.name] = node.kwargs[argument.name]
        elif argument.has_default_value():
            found[argument.name] = argument.default_value
    if "self" in found:
        found["stack"] = found.pop("self")
    return found
