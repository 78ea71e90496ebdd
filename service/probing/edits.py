"""Changes applied to a recorded model, keyed by layer: the same for every format.

An edit puts torch.nn modules into a copy of the recorded graph, or draws parameters anew; the
result is a model like any other, which is recorded again. Parameters that are not named are shared
with the original, so nothing is copied and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from service.domain.errors import ChangeRefused
from service.domain.layers import LAYER_TYPES
from service.domain.layers.initializers import INITIALIZERS
from service.probing import operations
from service.probing.layering import Layer
from service.probing.loaders.loaded import LoadedModel
from service.probing.loaders.spec import forget_gate_
from service.probing.recorder import sharing
from service.probing.trace import Recording

Change = Mapping[str, Any]
"""A recommendation's kind, layers and change, as JSON."""
NORMALIZATIONS = frozenset(
    {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "RMSNorm"}
)


@dataclass(frozen=True, slots=True)
class Redraw:
    """A new initialization of one parameter."""

    parameter: str
    function: str
    args: dict[str, Any]

    def __call__(self, parameter: Tensor) -> None:
        """Draw it, from torch's generator."""
        if self.function == "forget_gate_":
            forget_gate_(parameter, **self.args)
            return
        getattr(nn.init, self.function)(parameter, **self.args)


def edited(
    model: LoadedModel,
    recording: Recording,
    layers: tuple[Layer, ...],
    changes: tuple[Change, ...],
) -> LoadedModel:
    """The model as changed, parameters shared. Raises ChangeRefused where that cannot be."""
    surgery = _Surgery(recording, layers)
    for change in changes:
        surgery.apply(change)
    return surgery.result(model)


class _Surgery:
    def __init__(self, recording: Recording, layers: tuple[Layer, ...]) -> None:
        self.recording = recording
        self.layers = {layer.name: layer for layer in layers}
        self.copies: dict[fx.Node, fx.Node] = {}
        self.graph = fx.Graph()
        output = self.graph.graph_copy(recording.module.graph, self.copies)
        self.graph.output(output)
        self.root = sharing(recording.module)
        self.added: dict[str, nn.Module] = {}
        self.redraws: list[Redraw] = []

    def apply(self, change: Change) -> None:
        """One change."""
        edit: Callable[[Change], None] | None = {
            "initializer": self._initialize,
            "activation": self._replace_activations,
            "normalization": self._normalize,
            "residual": self._add_skips,
        }.get(str(change.get("kind")))
        if edit is None:
            raise ChangeRefused(f"a change of kind {change.get('kind')!r} is no edit of the model")
        edit(change)

    def result(self, model: LoadedModel) -> LoadedModel:
        """The changed model; its seeds draw what the original's draw, and the redraws."""
        module = fx.GraphModule(self.root, self.graph)
        parameters, buffers = dict(model.parameters), dict(model.buffers)
        for name, added in self.added.items():
            added.to(next(iter(parameters.values())).dtype if parameters else torch.float32)
            parameters |= {f"{name}.{own}": p for own, p in added.named_parameters()}
            buffers |= {f"{name}.{own}": b for own, b in added.named_buffers()}
        redraws = tuple(self.redraws)

        def fresh() -> dict[str, Tensor]:
            drawn = model.fresh() if model.fresh is not None else {}
            for redraw in redraws:
                value = drawn.get(redraw.parameter)
                drawn[redraw.parameter] = value = _like(value, parameters[redraw.parameter])
                redraw(value)
            return {name: value.detach() for name, value in drawn.items()}

        return replace(
            model,
            module=module,
            parameters=parameters,
            buffers=buffers,
            fresh=fresh if redraws or model.fresh is not None else None,
            redrawn=bool(redraws),
        )

    def _initialize(self, change: Change) -> None:
        for draw in change.get("parameters", ()):
            name, function = str(draw.get("parameter")), str(draw.get("initializer"))
            if name not in self.recording.parameters:
                raise ChangeRefused(f"the model has no parameter {name!r}")
            if function not in INITIALIZERS:
                raise ChangeRefused(f"torch.nn.init has no function {function!r}")
            redraw = Redraw(name, function, dict(draw.get("args", {})))
            with torch.random.fork_rng(devices=[]):
                redraw(torch.empty_like(self.recording.parameters[name]))
            self.redraws.append(redraw)

    def _replace_activations(self, change: Change) -> None:
        made = _activation(str(change.get("activation")), change.get("activation_args", {}))
        for layer in self._named(change):
            node = _nonlinearity(layer)
            if node is None:
                raise ChangeRefused(f"layer {layer.name} has no activation to replace")
            answer = operations.first_tensor(node)
            self._put(f"{_plain(layer.name)}_activation", made(), answer, _argument(node))
        self._initialize(change)

    def _normalize(self, change: Change) -> None:
        for entry in change.get("layers", ()):
            if not isinstance(entry, Mapping):
                raise ChangeRefused("a normalization names what it follows, its type and args")
            kind, name = str(entry.get("type")), str(entry.get("after"))
            if kind not in NORMALIZATIONS:
                raise ChangeRefused(f"{kind!r} is no normalization")
            node = _weighed(self._layer(name))
            module = getattr(nn, kind)(**entry.get("args", {}))
            self._put(f"{_plain(name)}_norm", module, node, node)

    def _add_skips(self, change: Change) -> None:
        scale = float(change.get("branch_scale", 1.0))
        for layer in self._named(change):
            entry, output = layer.entry, layer.output
            if entry is None or entry.meta["shape"] != output.meta["shape"]:
                raise ChangeRefused(f"layer {layer.name} does not keep the shape of its input")
            after, readers = self.copies[output], list(self.copies[output].users)
            with self.graph.inserting_after(after):
                scaled = self.graph.call_function(torch.mul, (after, scale))
            with self.graph.inserting_after(scaled):
                joined = self.graph.call_function(torch.add, (self.copies[entry], scaled))
            _redirect(readers, after, joined)

    def _put(self, name: str, module: nn.Module, node: fx.Node, source: fx.Node) -> None:
        """A module that reads `source`, in place of what `node` gave."""
        self.root.add_module(name, module)
        self.added[name] = module
        old, readers = self.copies[node], list(self.copies[node].users)
        with self.graph.inserting_after(old):
            new = self.graph.call_module(name, (self.copies[source],))
        _redirect(readers, old, new)
        if source is not node:
            _erase(self.graph, old)

    def _named(self, change: Change) -> list[Layer]:
        return [self._layer(str(name)) for name in change.get("layers", ())]

    def _layer(self, name: str) -> Layer:
        if name not in self.layers:
            raise ChangeRefused(f"there is no layer {name!r}")
        return self.layers[name]


def _activation(name: str, args: Mapping[str, Any]) -> Callable[[], nn.Module]:
    known = LAYER_TYPES.get(name)
    if known is None or known.category != "activation" or not hasattr(nn, name):
        raise ChangeRefused(f"{name!r} is no activation of torch.nn")

    def made() -> nn.Module:
        module: nn.Module = getattr(nn, name)(**args)
        return module

    return made


def _nonlinearity(layer: Layer) -> fx.Node | None:
    """The node that ends the layer's activation."""
    return next((node for node in layer.nodes if operations.nonlinearity_of(node)), None)


def _argument(node: fx.Node) -> fx.Node:
    """What an activation is applied to; of x / (1 + |x|) and x − tanh(x) it stands first."""
    argument = node.args[0]
    if not isinstance(argument, fx.Node):
        raise ChangeRefused("the activation's input was not recorded")
    return argument


def _weighed(layer: Layer) -> fx.Node:
    """Where the layer's weights have been applied, its bias too, before anything else."""
    if layer.head is None:
        raise ChangeRefused(f"layer {layer.name} has no weights")
    node = layer.head
    while len(node.users) == 1:
        user = next(iter(node.users))
        is_bias = operations.name_of(user) == "add" and _is_bias(user, node)
        if user not in layer.nodes or not (is_bias or operations.only_moves(user)):
            break
        node = user
    return node


def _is_bias(add: fx.Node, data: fx.Node) -> bool:
    return all(source is data or source.op == "get_attr" for source in add.all_input_nodes)


def _redirect(readers: list[fx.Node], old: fx.Node, new: fx.Node) -> None:
    for reader in readers:
        reader.replace_input_with(old, new)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """A node nobody reads any more, and those that only it read."""
    if node.users or node.op != "call_function":
        return
    sources = list(node.all_input_nodes)
    graph.erase_node(node)
    for source in sources:
        if not _writes(source):
            _erase(graph, source)


def _writes(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _like(drawn: Tensor | None, parameter: Tensor) -> Tensor:
    return drawn.detach() if drawn is not None else torch.empty_like(parameter).detach()
