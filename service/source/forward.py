"""The body of `forward`: one statement a layer, as a person would write it.

What only the next layer reads is called x; what is read later, or more than once, has its layer's
name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from service.domain.architecture import Architecture, LayerNode
from service.domain.layers import LAYER_TYPES

RESERVED = frozenset({"x", "inputs", "self", "nn", "torch", "Tensor"})
"""Names that mean something else in `forward`."""
GIVES_TUPLE = frozenset({"RNN", "LSTM", "GRU", "LSTMCell", "MultiheadAttention"})
"""Modules that return a tuple, of which the network passes on the first element."""

WITHOUT_MODULE: Mapping[str, Callable[[Sequence[str], LayerNode], str]] = {
    "Add": lambda values, _node: " + ".join(values),
    "Multiply": lambda values, _node: " * ".join(values),
    "MatMul": lambda values, _node: " @ ".join(values),
    "Concat": lambda values, node: f"torch.cat(({', '.join(values)}), {node.args.get('dim', 1)})",
    "LastStep": lambda values, _node: f"{values[0]}[:, -1]",
    "Scale": lambda values, node: _scaled(values[0], **node.args),
    "Exponential": lambda values, _node: f"{values[0]}.exp()",
    "Squareplus": lambda values, _node: "torch.lerp({0}, ({0} * {0} + 4).sqrt(), 0.5)".format(
        *values
    ),
    "SparsePlus": lambda values, _node: (
        "torch.where({0}.abs() < 1, ({0} + 1).square() / 4, {0}.clamp_min(0))".format(*values)
    ),
}
"""Types of a spec that are an expression in PyTorch."""


def _scaled(value: str, factor: float = 1.0, offset: float = 0.0) -> str:
    return f"{value} * {factor!r} + {offset!r}"


class Forward:
    """The variables of one network, and the statements that fill them."""

    def __init__(self, architecture: Architecture) -> None:
        self._nodes = architecture.layers
        self._reads = _readers(self._nodes)
        self._names = self._variables()
        self._names |= self._arguments(architecture)
        self.arguments = [f"{self._names[one.name]}: Tensor" for one in architecture.inputs]
        """Of `forward`, in order."""

    def statements(self) -> Iterable[str]:
        """Line by line, the last one returns."""
        *before, last = self._nodes
        for node in before:
            if self._reads.get(node.name):
                yield f"{self._target(node)} = {self._value(node)}"
            elif node.type not in WITHOUT_MODULE:
                # Nobody reads it, but it may draw random numbers or keep statistics.
                yield self._value(node)
        if _gives_tuple(last):
            yield f"{self._target(last)} = {self._value(last)}"
            yield f"return {self._names[last.name]}"
        else:
            yield f"return {self._value(last)}"

    def _arguments(self, architecture: Architecture) -> dict[str, str]:
        """Inputs by name → what `forward` calls them."""
        if len(architecture.inputs) == 1:
            return {"input": "x" if self._reads.get("input", []) in ([], [0]) else "inputs"}
        taken = RESERVED | {node.name for node in self._nodes} | {*self._names.values()}
        names = {}
        for sample in architecture.inputs:
            name = sample.name
            while name in taken:
                name += "_"
            taken |= {name}
            names[sample.name] = name
        return names

    def _variables(self) -> dict[str, str]:
        taken = RESERVED | {node.name for node in self._nodes}
        names = {}
        for place, node in enumerate(self._nodes):
            name = node.name
            if self._reads.get(node.name, []) in ([], [place + 1]):
                name = "x"
            elif name in RESERVED:
                while name in taken:
                    name += "_"
                taken |= {name}
            names[node.name] = name
        return names

    def _target(self, node: LayerNode) -> str:
        name = self._names[node.name]
        return f"{name}, _" if _gives_tuple(node) else name

    def _value(self, node: LayerNode) -> str:
        values = [self._names[source] for source in node.inputs]
        if node.type in WITHOUT_MODULE:
            return WITHOUT_MODULE[node.type](values, node)
        if node.type == "MultiheadAttention" and len(values) == 1:
            values *= 3  # query, key and value
        return f"self.{node.shares or node.name}({', '.join((*values, *_masks(node, values)))})"


def _masks(node: LayerNode, values: Sequence[str]) -> Iterable[str]:
    """Every switch of the call with its mask."""
    for switch in node.forward:
        mask = LAYER_TYPES[node.type].masks[switch]
        steps = f"{values[mask.steps]}.shape[1]"
        yield f"{mask.argument}=nn.Transformer.generate_square_subsequent_mask({steps})"
        yield f"{switch}=True"


def _readers(nodes: Sequence[LayerNode]) -> dict[str, list[int]]:
    """Source → places of the layers that read it, once for each input."""
    found: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        for source in dict.fromkeys(node.inputs):
            found.setdefault(source, []).append(place)
    return found


def _gives_tuple(node: LayerNode) -> bool:
    return node.type in GIVES_TUPLE or bool(node.args.get("return_indices"))
