"""Watches a recorded graph run: statistics of every layer, forward and backward.

Taps are nodes inserted into a copy of the graph: they look at a tensor as it passes and hook its
gradient. The graph itself computes what it always computed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, fx, nn

from service.probing import reductions
from service.probing.chains import BATCH_NORM
from service.probing.figures import Gradient, Norm, Output, Outside
from service.probing.gain_parts import PathWatch
from service.probing.gathering import Gathering
from service.probing.layering import Layer
from service.probing.recurrence import Steps, memory_norms, step_norms, steps_of
from service.probing.trace import Recording

NORM = Norm()


@dataclass(slots=True)
class LayerRecord:
    """What one layer showed over the batches of one seed; one entry per batch."""

    numbers: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    """By dotted statistic name."""
    nonfinite_activation: int = 0
    nonfinite_gradient: int = 0
    active: list[Tensor] = field(default_factory=list)
    """1 for units that were nonzero, else 0, (units,) per batch."""
    sample_gains: list[Tensor] = field(default_factory=list)
    """Gain per sample, (B,) float64 per batch; not finite where no gradient arrived."""
    output_shape: tuple[int, ...] = ()
    memory: tuple[float | None, ...] = ()
    """See TimeSteps; of the first batch."""
    step_gradients: tuple[float | None, ...] = ()
    """Likewise."""

    def so_far(self) -> LayerRecord:
        """A copy that further batches leave as it is."""
        numbers = {name: list(values) for name, values in self.numbers.items()}
        return replace(
            self,
            numbers=defaultdict(list, numbers),
            active=list(self.active),
            sample_gains=list(self.sample_gains),
        )


class Watch:
    """Collects the statistics of one seed's batches."""

    def __init__(self, layers: tuple[Layer, ...], *, ranges: bool = False) -> None:
        self.layers = layers
        self.ranges = ranges
        self._gradients = Gradient(ranges)
        self.records = [LayerRecord() for _ in layers]
        self._at_output: dict[int, Tensor] = {}
        self._at_entry: dict[int, Tensor] = {}
        self._norm_at_output: dict[int, float | None] = {}
        self._norm_at_entry: dict[int, float | None] = {}
        self._steps_entry: dict[int, Tensor] = {}
        self.gathering = Gathering()
        self.paths = PathWatch(self.gathering)
        self._may_change = False
        self.entry_is_output: dict[int, int] = {}
        """Layers whose data input is another layer's output that nobody else reads."""
        self._readers: dict[int, list[int]] = {}
        """The same the other way round."""

    def follow(
        self, layers: tuple[Layer, ...], entry_is_output: dict[int, int], *, may_change: bool
    ) -> None:
        """What passes from now on comes from these layers; `may_change`: operations write into
        tensors that were seen before."""
        self.entry_is_output = entry_is_output
        self._may_change = may_change
        self._readers = {}
        for reader, source in entry_is_output.items():
            self._readers.setdefault(source, []).append(reader)
        self.paths.chains = {layer.index: layer.chain for layer in layers if layer.chain}

    def output(self, index: int, tensor: Tensor) -> None:
        """A layer's output passes."""
        layer, record = self.layers[index], self.records[index]
        record.output_shape = tuple(tensor.shape)
        several = tensor.ndim > 1
        reduction = Output(layer.unit_dim if several else -1, several)
        then = partial(self._forward, index, reduction, tensor.shape)
        self.gathering.add(reduction, tensor, then, at_once=self._may_change)
        for reader in self._readers.get(index, ()):
            self._enters(reader, tensor.detach())
        if tensor.requires_grad:
            tensor.register_hook(partial(self._backward, index))

    def saturation(self, index: int, tensor: Tensor) -> None:
        """The output of a layer's activation passes."""
        region = self.layers[index].flat_region
        if region is not None:
            shares = self.records[index].numbers["activation.saturated_fraction"]
            outside = Outside(*region)
            self.gathering.add(
                outside,
                tensor,
                lambda row: shares.append(outside.read(row)),
                at_once=self._may_change,
            )

    def entry(self, index: int, tensor: Tensor) -> Tensor:
        """A layer's data input passes; a view of its own, so that its gradient is the layer's
        alone where others read the same tensor."""
        own = tensor.view_as(tensor)
        chain = self.paths.chains.get(index)
        numbers = self.records[index].numbers
        if chain is not None and tensor.is_floating_point() and "input.rms" not in numbers:
            self.gathering.add(
                NORM, tensor, partial(_note_rms, numbers, tensor.numel()), at_once=self._may_change
            )
        self._enters(index, tensor.detach())
        if own.requires_grad:
            own.register_hook(partial(self._arrives, index))
        return own

    def steps_entry(self, index: int, tensor: Tensor) -> Tensor:
        """A recurrent layer's data input passes; a view of its own, where going back ends."""
        self._steps_entry[index] = own = tensor.view_as(tensor)
        return own

    def steps(self, index: int, where: Steps, outputs: Tensor) -> None:
        """The outputs of all of a recurrent layer's time steps pass; once per seed is enough."""
        record, entry = self.records[index], self._steps_entry.pop(index)
        if record.memory or not entry.requires_grad:
            return
        record.memory = memory_norms(outputs, entry, where)

        def arrives(gradient: Tensor) -> None:
            record.step_gradients = step_norms(gradient, where.time_dim)

        entry.register_hook(arrives)

    def finish_batch(self) -> None:
        """After the backward pass: read the numbers, and turn the gradients' norms into gains."""
        self.gathering.read()
        for layer, record in zip(self.layers, self.records, strict=True):
            source = self.entry_is_output.get(layer.index)
            norms, samples = (
                (self._norm_at_entry, self._at_entry)
                if source is None
                else (self._norm_at_output, self._at_output)
            )
            at = layer.index if source is None else source
            above, below = self._norm_at_output.get(layer.index), norms.get(at)
            gain = below / above if above and below is not None else None
            record.numbers["gradient.gain"].append(gain)
            for name, factor in self.paths.factors(layer.index, below, above).items():
                record.numbers[name].append(factor)
            tops, bottoms = self._at_output.get(layer.index), samples.get(at)
            if tops is not None and bottoms is not None and tops.shape == bottoms.shape:
                record.sample_gains.append(bottoms / tops)
        for seen in (self._at_output, self._at_entry, self._norm_at_output, self._norm_at_entry):
            seen.clear()
        self.paths.clear()

    def _forward(self, index: int, reduction: Output, shape: torch.Size, row: Tensor) -> None:
        """The numbers of a layer's output have come."""
        record, seen = self.records[index], reduction.read(row, shape)
        rms = _rms(seen.norms.norm, shape.numel())
        record.nonfinite_activation += seen.norms.nonfinite
        numbers = record.numbers
        numbers["activation.mean"].append(seen.mean)
        numbers["activation.std"].append(seen.std)
        numbers["activation.rms"].append(rms)
        numbers["activation.abs_max"].append(seen.abs_max)
        numbers["activation.zero_fraction"].append(seen.zero_fraction)
        numbers["activation.correlation"].append(seen.correlation)
        record.active.append(seen.active)
        for reader in self._readers.get(index, ()):
            if reader in self.paths.chains and "input.rms" not in self.records[reader].numbers:
                self.records[reader].numbers["input.rms"].append(rms)

    def _enters(self, index: int, value: Tensor) -> None:
        """What theory asks of a layer's data input; once per seed is enough."""
        chain, numbers = self.paths.chains.get(index), self.records[index].numbers
        if chain is None or BATCH_NORM not in chain.kinds or not value.is_floating_point():
            return
        if "input.std" not in numbers:
            by_channel = self.layers[index].op.startswith("conv")
            self.gathering.ask(
                reductions.unit_std(value, by_channel=by_channel),
                lambda std: numbers["input.std"].append(_finite(float(std))),
            )

    def _backward(self, index: int, gradient: Tensor) -> None:
        count = gradient.numel()
        self.gathering.add(self._gradients, gradient, partial(self._gradient, index, count))

    def _gradient(self, index: int, count: int, row: Tensor) -> None:
        """The numbers of the gradient at a layer's output have come."""
        record, seen = self.records[index], self._gradients.read(row)
        record.nonfinite_gradient += seen.norms.nonfinite
        numbers = record.numbers
        numbers["gradient.rms"].append(_rms(seen.norms.norm, count))
        numbers["gradient.norm"].append(seen.norms.norm)
        numbers["gradient.abs_max"].append(seen.abs_max)
        numbers["gradient.zero_fraction"].append(seen.zero_fraction)
        numbers["gradient.underflow_fraction_fp16"].append(seen.underflow_fraction)
        if self.ranges:
            numbers["gradient.small"].append(seen.small)
        self._norm_at_output[index] = seen.norms.norm
        if seen.norms.norm is not None:
            self._at_output[index] = seen.norms.rows

    def _arrives(self, index: int, gradient: Tensor) -> None:
        def then(row: Tensor) -> None:
            seen = NORM.read(row)
            self._norm_at_entry[index] = seen.norm
            if seen.norm is not None:
                self._at_entry[index] = seen.rows

        self.gathering.add(NORM, gradient, then)


def _note_rms(numbers: dict[str, list[float | None]], count: int, row: Tensor) -> None:
    numbers["input.rms"].append(_rms(NORM.read(row).norm, count))


def _rms(norm: float | None, count: int) -> float | None:
    return None if norm is None else norm / math.sqrt(max(count, 1))


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


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
        self, recording: Recording, layers: tuple[Layer, ...], *, ranges: bool = False
    ) -> None:
        """`ranges`: whether the small elements of gradients are wanted, too."""
        self.layers = layers
        self.watch = Watch(layers, ranges=ranges)
        self._tap(recording, layers)

    def _tap(self, recording: Recording, layers: tuple[Layer, ...]) -> None:
        copies: dict[fx.Node, fx.Node] = {}
        self._graph = fx.Graph()
        self._graph.output(self._graph.graph_copy(recording.module.graph, copies))
        self._root = sharing(recording.module)
        self.watch.follow(
            layers, _inputs_from_outputs(layers), may_change=_writes(recording.module.graph)
        )
        for layer in layers:
            self._tap_layer(layer, copies)
            self._tap_chain(layer, copies)
        for position, layer in enumerate(layers):
            self._tap_steps(layer, layers[position + 1 :], copies)
        self.module = fx.GraphModule(self._root, self._graph)

    def restart(self) -> list[LayerRecord]:
        """A new seed begins: fresh records, which the next batches fill."""
        self.watch.records = [LayerRecord() for _ in self.layers]
        return self.watch.records

    def follow(self, path: tuple[Recording, tuple[Layer, ...]]) -> None:
        """The next batch takes another path: watch that one, layers matched by name."""
        recording, layers = path
        known = {layer.name: index for index, layer in enumerate(self.layers)}
        shared = tuple(
            replace(layer, index=known[layer.name]) for layer in layers if layer.name in known
        )
        self._tap(recording, shared)

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
            show = partial(self.watch.paths.end, index, number)
            self._look(copies[part.end], f"part_{index}_{number}", show)
        if chain.branch_users:
            entry = copies[layer.entry]
            source = next((u for u in entry.users if u.target == f"_tap_entry_{index}"), entry)
            node = self._insert(
                source, f"branch_{index}", lambda tensor: self.watch.paths.branch(index, tensor)
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
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable:
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(value, fx.Node) and value.op != "get_attr":
                return True
    return False
