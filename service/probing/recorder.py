"""A recorded graph with taps in it, which shows every layer as it runs, forward and backward.

Taps are nodes inserted into a copy of the graph: they look at a tensor as it passes and hook its
gradient. The graph itself computes what it always computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor, fx, nn

from service.probing import operations
from service.probing.layering import Layer
from service.probing.recurrence import steps_of
from service.probing.stacking import stacked
from service.probing.trace import Recording
from service.probing.watch import Watch


class _Tap(nn.Module):
    """A node that shows a tensor to a function and passes on what it answers (or the tensor)."""

    def __init__(self, show: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__()
        self._show = show

    def forward(self, tensor: Tensor) -> Tensor:
        shown = self._show(tensor)
        return tensor if shown is None else shown


class Observed:
    """A recording with taps in it."""

    def __init__(
        self,
        recording: Recording,
        layers: tuple[Layer, ...],
        *,
        ranges: bool = False,
        side_by_side: bool = False,
    ) -> None:
        """`ranges`: whether the small elements of gradients are wanted, too; `side_by_side`: the
        module takes stacks, those of the parameters before the inputs. Raises CannotStack."""
        self.layers = layers
        self._side_by_side = side_by_side
        self.watch = Watch(layers, ranges=ranges, side_by_side=side_by_side)
        self._graph, self._root = fx.Graph(), nn.Module()
        self._tap(recording, layers)
        if side_by_side:
            self._graph = stacked(self._graph, list(recording.parameters))
        self.module = fx.GraphModule(self._root, self._graph)

    def _tap(self, recording: Recording, layers: tuple[Layer, ...]) -> None:
        copies: dict[fx.Node, fx.Node] = {}
        self._graph = fx.Graph()
        self._graph.output(self._graph.graph_copy(recording.module.graph, copies))
        self._root = sharing(recording.module)
        # Stacks are not written to.
        may_change = not self._side_by_side and _writes(recording.module.graph)
        self.watch.follow(layers, _inputs_from_outputs(layers), may_change=may_change)
        for layer in layers:
            self._tap_layer(layer, copies)
            self._tap_chain(layer, copies)
        for position, layer in enumerate(layers):
            self._tap_steps(layer, layers[position + 1 :], copies)

    def follow(self, path: tuple[Recording, tuple[Layer, ...]]) -> None:
        """The next batch takes another path: watch that one, layers matched by name."""
        recording, layers = path
        known = {layer.name: index for index, layer in enumerate(self.layers)}
        shared = tuple(
            replace(layer, index=known[layer.name]) for layer in layers if layer.name in known
        )
        self._tap(recording, shared)
        self.module = fx.GraphModule(self._root, self._graph)

    def _tap_layer(self, layer: Layer, copies: dict[fx.Node, fx.Node]) -> None:
        index = layer.index
        if layer.activation is not None:
            self._look(
                copies[layer.activation],
                f"saturation_{index}",
                lambda tensor: self.watch.saturation(index, tensor),
            )
        self._look(
            copies[layer.output], f"output_{index}", lambda tensor: self.watch.output(index, tensor)
        )
        if layer.entry is None or index in self.watch.entry_is_output:
            return
        source = copies[layer.entry]
        node = self._insert(
            source, f"entry_{index}", lambda tensor: self.watch.entry(index, tensor)
        )
        for user in layer.entry_users:
            copies[user].replace_input_with(source, node)

    def _tap_chain(self, layer: Layer, copies: dict[fx.Node, fx.Node]) -> None:
        """After the taps at the data input: the branch leaves from there."""
        chain, index = layer.chain, layer.index
        if chain is None or layer.entry is None:
            return
        for number, part in enumerate(chain.parts[:-1]):
            show = partial(self.watch.part, index, number)
            self._look(copies[part.end], f"part_{index}_{number}", show)
        if chain.branch_users:
            entry = copies[layer.entry]
            source = next((u for u in entry.users if u.target == f"_tap_entry_{index}"), entry)
            node = self._insert(
                source, f"branch_{index}", lambda tensor: self.watch.branch(index, tensor)
            )
            for user in chain.branch_users:
                copies[user].replace_input_with(source, node)

    def _tap_steps(
        self, layer: Layer, later: tuple[Layer, ...], copies: dict[fx.Node, fx.Node]
    ) -> None:
        steps = steps_of(layer, later)
        if steps is None or layer.entry is None:
            return
        index = layer.index
        entry = copies[layer.entry]
        source = next((user for user in entry.users if user.target == f"_tap_entry_{index}"), entry)
        node = self._insert(
            source, f"steps_entry_{index}", lambda tensor: self.watch.steps_entry(index, tensor)
        )
        for user in layer.entry_users:
            copies[user].replace_input_with(source, node)
        self._look(
            copies[steps.outputs],
            f"steps_{index}",
            lambda tensor: self.watch.steps(index, steps, tensor),
        )

    def _look(self, node: fx.Node, name: str, show: Callable[[Tensor], None]) -> None:
        self._insert(node, name, show)

    def _insert(self, node: fx.Node, name: str, show: Callable[[Tensor], Tensor | None]) -> fx.Node:
        self._root.add_module(f"_tap_{name}", _Tap(show))
        with self._graph.inserting_after(node):
            return self._graph.call_module(f"_tap_{name}", (node,))


def sharing(module: nn.Module) -> nn.Module:
    """A module with the same children, parameters and buffers: a copy would copy the tensors."""
    root = nn.Module()
    for name, child in module.named_children():
        root.add_module(name, child)
    for name, parameter in module.named_parameters(recurse=False):
        root.register_parameter(name, parameter)
    for name, buffer in module.named_buffers(recurse=False):
        root.register_buffer(name, buffer)
    return root


def _inputs_from_outputs(layers: tuple[Layer, ...]) -> dict[int, int]:
    """Layers whose data input is another layer's output that nobody else reads, and whose."""
    outputs = {layer.output: layer.index for layer in layers}
    return {
        layer.index: outputs[layer.entry]
        for layer in layers
        if layer.entry in outputs and set(layer.entry.users) == set(layer.entry_users)
    }


def _writes(graph: fx.Graph) -> bool:
    """Whether any operation writes into a tensor that depends on the input."""
    for node in graph.nodes:
        if not operations.writes(node):
            continue
        for argument, value in zip(node.target._schema.arguments, node.args, strict=False):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(value, fx.Node) and value.op != "get_attr":
                return True
    return False
