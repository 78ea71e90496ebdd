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
from service.domain.recommendations import module_name
from service.probing import operations, projections
from service.probing.cells import maker, sweep
from service.probing.dropout import dropouts
from service.probing.layering import Layer
from service.probing.loaders.loaded import LoadedModel
from service.probing.loaders.spec import forget_gate_
from service.probing.recorder import sharing
from service.probing.recurrence import steps_of
from service.probing.trace import INPUT_PREFIX, Recording

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
        """Draw it, from torch's generator. The gates that forget_gate_ does not set become 0: what
        they were may be the trouble."""
        if self.function == "forget_gate_":
            forget_gate_(nn.init.zeros_(parameter), **self.args)
            return
        getattr(nn.init, self.function)(parameter, **self.args)


def edited(
    model: LoadedModel,
    recording: Recording,
    layers: tuple[Layer, ...],
    changes: tuple[Change, ...],
) -> LoadedModel:
    """The model as changed, parameters shared; its module is the recording's own where nothing but
    initial values changes. Raises ChangeRefused where that cannot be."""
    cuts = any(change.get("kind") != "initializer" for change in changes)
    surgery = _Surgery(recording, layers, cuts=cuts)
    for change in changes:
        surgery.apply(change)
    return surgery.result(model)


class _Surgery:
    def __init__(self, recording: Recording, layers: tuple[Layer, ...], *, cuts: bool) -> None:
        """`cuts`: whether operations change, for which the graph is copied."""
        self.recording = recording
        self.layers = {layer.name: layer for layer in layers}
        self.cuts = cuts
        self.copies: dict[fx.Node, fx.Node] = {}
        self.graph = fx.Graph()
        if cuts:
            self.graph.output(self.graph.graph_copy(recording.module.graph, self.copies))
            self.root = sharing(recording.module)
        self.added: dict[str, nn.Module] = {}
        """By the path that their parameters are named by."""
        self.cells: dict[str, Callable[[], nn.Module]] = {}
        """Of the added ones, those that start from random values, drawn for every seed; by the same
        path."""
        self.redraws: dict[str, Redraw] = {}

    def apply(self, change: Change) -> None:
        """One change."""
        edit: Callable[[Change], None] | None = {
            "initializer": self._initialize,
            "activation": self._replace_activations,
            "normalization": self._normalize,
            "residual": self._add_skips,
            "recurrent_cell": self._exchange_cells,
            "input_scaling": self._scale_input,
            "regularization": self._hide_less,
        }.get(str(change.get("kind")))
        if edit is None:
            raise ChangeRefused(f"a change of kind {change.get('kind')!r} is no edit of the model")
        edit(change)

    def result(self, model: LoadedModel) -> LoadedModel:
        """The changed model; its seeds draw what the original's draw, and the redraws."""
        module = fx.GraphModule(self.root, self.graph) if self.cuts else self.recording.module
        gone = self._no_longer_read() if self.cuts else set()
        parameters = {name: p for name, p in model.parameters.items() if name not in gone}
        buffers = dict(model.buffers)
        for name, added in self.added.items():
            added.to(next(iter(parameters.values()), torch.empty(0)))
            parameters |= {f"{name}.{own}": p for own, p in added.named_parameters()}
            buffers |= {f"{name}.{own}": b for own, b in added.named_buffers()}
        redraws = [redraw for redraw in self.redraws.values() if redraw.parameter in parameters]
        cells = dict(self.cells)

        def fresh() -> dict[str, Tensor]:
            drawn = model.fresh() if model.fresh is not None else {}
            drawn = {name: value for name, value in drawn.items() if name not in gone}
            for name, made in cells.items():
                drawn |= {f"{name}.{own}": value for own, value in made().named_parameters()}
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
            fresh=fresh if redraws or cells or model.fresh is not None else None,
            redrawn=bool(redraws or cells),
        )

    def _no_longer_read(self) -> set[str]:
        """Parameters that an exchanged layer left behind."""
        before = {n.meta["name"] for n in self.recording.module.graph.nodes if n.op == "get_attr"}
        return before - {n.meta["name"] for n in self.graph.nodes if n.op == "get_attr"}

    def _initialize(self, change: Change) -> None:
        for draw in change.get("parameters", ()):
            name, function = str(draw.get("parameter")), str(draw.get("initializer"))
            parameter = self._parameter(name)
            if function not in INITIALIZERS:
                raise ChangeRefused(f"torch.nn.init has no function {function!r}")
            redraw = Redraw(name, function, dict(draw.get("args", {})))
            with torch.random.fork_rng(devices=[]):
                redraw(_blank(parameter))
            self.redraws[name] = redraw

    def _replace_activations(self, change: Change) -> None:
        made = _activation(str(change.get("activation")), change.get("activation_args", {}))
        for layer in self._named(change):
            node = _nonlinearity(layer)
            if node is None:
                raise ChangeRefused(f"layer {layer.name} has no activation to replace")
            answer = operations.first_tensor(node)
            # What it is applied to now: a normalization may stand there since.
            source = _argument(self.copies[node])
            self._put(f"{module_name(layer.name)}_activation", made(), answer, source)
        self._initialize(change)

    def _normalize(self, change: Change) -> None:
        for entry in change.get("layers", ()):
            if not isinstance(entry, Mapping):
                raise ChangeRefused("a normalization names what it follows, its type and args")
            name = str(entry.get("after"))
            node = _weighed(self._layer(name))
            self._put(f"{module_name(name)}_norm", _normalization(entry), node, self.copies[node])

    def _parameter(self, name: str) -> Tensor:
        """Of the modules added, or of the model."""
        owner, _, own = name.rpartition(".")
        if owner in self.cells:
            return self.added[owner].get_parameter(own)
        if name not in self.recording.parameters:
            raise ChangeRefused(f"the model has no parameter {name!r}")
        return self.recording.parameters[name]

    def _add_skips(self, change: Change) -> None:
        begins, maps = change.get("begins", {}), change.get("projections", {})
        for layer in self._named(change):
            entry, output = self._layer(str(begins.get(layer.name, layer.name))).entry, layer.output
            if entry is None:
                raise ChangeRefused(f"layer {layer.name} reads nothing that could be added")
            after, readers = self.copies[output], list(self.copies[output].users)
            around = self.copies[entry]
            if layer.name in maps:
                around = self._projected(maps[layer.name], entry, output)
            elif entry.meta["shape"] != output.meta["shape"]:
                raise ChangeRefused(f"layer {layer.name} does not keep the shape of its input")
            with self.graph.inserting_after(after):
                joined = self.graph.call_function(torch.add, (after, around))
            _redirect(readers, after, joined)
            self.copies[output] = joined
        self._initialize(change)

    def _projected(self, wanted: Mapping[str, Any], entry: fx.Node, output: fx.Node) -> fx.Node:
        """A linear map of what a block reads, to the shape of what the block gives."""
        name = str(wanted.get("name"))
        if not name.isidentifier() or name in self.added or hasattr(self.root, name):
            raise ChangeRefused(f"{name!r} is no name for another module")
        made = projections.maker(wanted, entry.meta["shape"], output.meta["shape"])
        self._add(name, made(), name)
        self.cells[name] = made
        with self.graph.inserting_before(self.copies[output]):
            return self.graph.call_module(name, (self.copies[entry],))

    def _exchange_cells(self, change: Change) -> None:
        ordered = list(self.layers.values())
        for layer in self._named(change):
            steps = steps_of(layer, ordered[ordered.index(layer) + 1 :])
            if steps is None or layer.entry is None:
                raise ChangeRefused(
                    f"layer {layer.name} is no recurrent layer over whole sequences"
                )
            made = maker(change, layer.name, steps.time_dim)
            old, owner = self.copies[steps.outputs], layer.parameters[0].rpartition(".")[0]
            name = f"{module_name(layer.name)}_cell"
            self._add(name, made(), owner)
            self.cells[owner] = made
            with self.graph.inserting_before(old):
                new = self.graph.call_module(name, (self.copies[layer.entry],))
            _redirect(list(old.users), old, new)
            self.copies[steps.outputs] = new
            sweep(self.graph, old, [self.copies[node] for node in layer.nodes])
            if set(layer.parameters) - self._no_longer_read():
                raise ChangeRefused(f"more than the outputs of {layer.name} is used")
        self._initialize(change)

    def _scale_input(self, change: Change) -> None:
        entry, number = change.get("normalization", {}), int(change.get("input", 0))
        wanted = f"{INPUT_PREFIX}{number}"
        node = next((n for n in self.copies if n.op == "placeholder" and n.target == wanted), None)
        if node is None or not node.meta["dtype"].is_floating_point:
            raise ChangeRefused(f"the model has no input {number} of floating-point numbers")
        self._put("input_norm", _normalization(entry), node, self.copies[node])

    def _hide_less(self, change: Change) -> None:
        most = change.get("dropout")
        if not isinstance(most, int | float) or not 0.0 <= most < 1.0:
            raise ChangeRefused(f"dropout is a probability below 1, not {most!r}")
        higher = [one for one in dropouts(self.recording.module.graph) if one.p > most]
        if not higher:
            raise ChangeRefused(f"no dropout was recorded that hides more than {most:g}")
        for one in higher:
            one.hide(float(most), self.copies)

    def _put(self, name: str, module: nn.Module, node: fx.Node, source: fx.Node) -> None:
        """A module that reads `source`, a node of the copy, in place of what `node` gave."""
        while name in self.added:
            name += "_"
        self._add(name, module, name)
        old, readers = self.copies[node], list(self.copies[node].users)
        with self.graph.inserting_after(old):
            new = self.graph.call_module(name, (source,))
        _redirect(readers, old, new)
        self.copies[node] = new
        if source is not old:
            _erase(self.graph, old)

    def _add(self, name: str, module: nn.Module, path: str) -> None:
        """A module of the graph, its parameters named by `path`."""
        self.root.add_module(name, module)
        self.added[path] = module

    def _named(self, change: Change) -> list[Layer]:
        return [self._layer(str(name)) for name in change.get("layers", ())]

    def _layer(self, name: str) -> Layer:
        if name not in self.layers:
            raise ChangeRefused(f"there is no layer {name!r}")
        return self.layers[name]


def _normalization(entry: Mapping[str, Any]) -> nn.Module:
    kind = str(entry.get("type"))
    if kind not in NORMALIZATIONS:
        raise ChangeRefused(f"{kind!r} is no normalization")
    module: nn.Module = getattr(nn, kind)(**entry.get("args", {}))
    return module


def _activation(name: str, args: Mapping[str, Any]) -> Callable[[], nn.Module]:
    known = LAYER_TYPES.get(name)
    fits = name == "Identity" or (known is not None and known.category == "activation")
    if not fits or not hasattr(nn, name):
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
        if not operations.writes(source):
            _erase(graph, source)


def _like(drawn: Tensor | None, parameter: Tensor) -> Tensor:
    if drawn is not None:
        return drawn.detach()
    return _blank(parameter)


def _blank(parameter: Tensor) -> Tensor:
    """To be drawn into, in 32 bits at least: torch.nn.init has not everything for 16."""
    dtype = parameter.dtype if parameter.dtype.itemsize >= 4 else torch.float32
    return torch.empty_like(parameter, dtype=dtype, device="cpu").detach()
