"""From a spec to the network it means: groups unrolled, names resolved, shapes followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.domain.architecture import Architecture, LayerNode, Sample
from service.domain.errors import ShapeMismatch, UnknownLayerType
from service.domain.grammar.faults import Faults, below
from service.domain.grammar.initialization import read_init
from service.domain.grammar.limits import MAX_INPUTS, MAX_LAYERS, MAX_NESTING, Budget
from service.domain.grammar.names import Scope, name_fault
from service.domain.grammar.parametrizations import read_parametrizations
from service.domain.grammar.sample import read_samples, with_ranges
from service.domain.layers import LAYER_TYPES
from service.domain.layers.kinds import Whole, shown
from service.domain.layers.layer_type import Applied, LayerType, Takes
from service.domain.layers.signature import BadArgument, hint, quoted
from service.domain.layers.tensor import Inputs, Misfit, Tensor

SPEC_FIELDS = ("kind", "input", "layers")
LAYER_OBJECTS = ("args", "init", "forward", "parametrizations")
LAYER_FIELDS = ("name", "type", "inputs", *LAYER_OBJECTS)
SHARING_FIELDS = ("name", "shares", "inputs")
GROUP_FIELDS = ("name", "repeat", "layers", "inputs")
REPEATS = Whole(1, MAX_LAYERS)

_ADVICE = {
    Takes.FLOATS.value: ": put an Embedding before it",
    Takes.INTEGERS.value: ': an input of `dtype` "int64" goes straight into it',
}
"""What to do about the wrong element type."""


def expand(spec: Mapping[str, Any]) -> Architecture:
    """See `service.domain.architecture.resolve`."""
    return _Expansion().of(spec)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a layer stands."""

    path: str
    """Its dotted name."""
    pointer: str
    """JSON pointer of its entry."""


class _Expansion:
    """One spec on its way to an architecture."""

    def __init__(self) -> None:
        self._faults = Faults()
        self._budget = Budget()
        self._nodes: dict[str, LayerNode] = {}
        self._samples: tuple[Sample, ...] = ()
        self._tensors: dict[str, Tensor | None] = {}
        """Every layer's output; None where a fault hides it."""
        self._paths: dict[str, str] = {}
        """Dotted paths of layers, groups and repetitions → the layer each stands for."""

    def of(self, spec: Mapping[str, Any]) -> Architecture:
        faults = self._faults
        faults.check_fields("", spec, SPEC_FIELDS, "a spec")
        if spec.get("kind", "spec") != "spec":
            faults.add("/kind", '`kind` of an architecture spec is "spec"')
        self._samples, tensors = read_samples(spec.get("input"), faults)
        self._tensors |= tensors
        outermost = Scope(self._samples[0].name)
        outermost.names |= {sample.name: sample.name for sample in self._samples}
        last = self._layers(spec.get("layers"), "/layers", outermost, 0)
        output = self._tensors[last]
        if output is not None and output.is_integer and last in self._nodes:
            faults.add("/layers", f"the network ends with integers (`{last}`), nothing is learnt")
        faults.raise_if_any()
        nodes = tuple(self._nodes.values())
        samples = with_ranges(self._samples, nodes, faults)
        return Architecture(samples, nodes, dict(spec))

    def _layers(self, layers: Any, pointer: str, scope: Scope, depth: int) -> str:
        """Expand one list; returns the layer it ends with."""
        if not isinstance(layers, list) or not layers:
            self._faults.add(pointer, "`layers` must be a list of at least one layer")
            return scope.above
        taken: set[str] = set()
        for index, entry in enumerate(layers):
            name = self._name(entry, index, below(pointer, index), taken)
            taken.add(name)
            place = _Place(scope.prefix + name, below(pointer, index))
            if isinstance(entry, dict) and "layers" in entry:
                end = self._group(entry, place, scope, depth + 1)
            else:
                end = self._layer(entry, place, scope)
            scope.names[name] = scope.above = self._paths[place.path] = end
        return scope.above

    def _name(self, entry: Any, index: int, pointer: str, taken: set[str]) -> str:
        name: Any = f"layer{index}"
        if isinstance(entry, dict) and "name" in entry:
            pointer = below(pointer, "name")
            wrong = name_fault(entry["name"], self._samples)
            if wrong:
                self._faults.add(pointer, wrong)
            else:
                name = entry["name"]
        if name in taken:
            self._faults.add(pointer, f"two layers of one list are called `{name}`")
        return str(name)

    def _group(self, entry: dict[str, Any], place: _Place, scope: Scope, depth: int) -> str:
        faults, pointer = self._faults, place.pointer
        if depth > MAX_NESTING:
            faults.stop(pointer, f"groups may be nested {MAX_NESTING} deep")
        faults.check_fields(pointer, entry, GROUP_FIELDS, "a group")
        sources = self._inputs(entry, pointer, scope, scope.above)
        if len(sources) > 1:
            faults.add(below(pointer, "inputs"), "a group takes one input")
        current = sources[0] if sources else scope.above
        layers, inside = entry["layers"], below(pointer, "layers")
        if "repeat" not in entry:
            return self._layers(layers, inside, Scope(current, f"{place.path}.", scope), depth)
        before = len(faults)
        for turn in range(self._repeats(entry["repeat"], pointer)):
            step = f"{place.path}.{turn}"
            current = self._layers(layers, inside, Scope(current, f"{step}.", scope), depth)
            self._paths[step] = current
            if len(faults) > before:  # the next repetition would say the same again
                break
        return current

    def _repeats(self, value: Any, pointer: str) -> int:
        if REPEATS.accepts(value):
            return int(value)
        detail = f"`repeat` must be {REPEATS.expects}, not {shown(value)}"
        self._faults.add(below(pointer, "repeat"), detail)
        return 1

    def _layer(self, entry: Any, place: _Place, scope: Scope) -> str:
        """Expand one layer; returns its path. A layer at fault leaves no node."""
        faults, pointer = self._faults, place.pointer
        self._tensors[place.path] = None
        self._stop_if_over(self._budget.begin_layer(), place)
        if not isinstance(entry, dict):
            faults.add(pointer, f"a layer must be an object, not {shown(entry)}")
            return place.path
        if "shares" in entry:
            self._again(entry, place, scope)
            return place.path
        before = len(faults)
        faults.check_fields(pointer, entry, LAYER_FIELDS, "a layer")
        layer_type = self._type(entry, pointer)
        by_itself = layer_type is not None and layer_type.reads_input
        sources = self._inputs(entry, pointer, scope, scope.incoming if by_itself else scope.above)
        self._stop_if_over(self._budget.connect(len(sources)), place)
        objects = [faults.object_at(entry, field, pointer) for field in LAYER_OBJECTS]
        said = [one for one in objects if one is not None]
        if layer_type is None or len(said) < len(LAYER_OBJECTS):
            return place.path
        args, init, forward, computed = said
        for fault in layer_type.signature.faults(args):
            self._bad_argument(fault, place)
        for fault in layer_type.call.faults(forward):
            self._bad_argument(fault, place, "forward")
        inputs = tuple(t for t in map(self._tensors.get, sources) if t is not None)
        if len(faults) > before or len(inputs) < len(sources):
            return place.path
        applied = self._apply(layer_type, args, inputs, sources, place)
        if applied is None or not self._can_call(
            layer_type, forward, applied, inputs, sources, place
        ):
            return place.path
        self._stop_if_over(self._budget.spend(applied), place)
        self._tensors[place.path] = applied.output
        calls = read_init(init, layer_type.name, applied.parameters, below(pointer, "init"), faults)
        for name in layer_type.must_init:
            if name not in calls and len(faults) == before:
                detail = f"torch has no default initialization for a {layer_type.name}: give `init`"
                faults.add(below(pointer, "init"), f"layer `{place.path}`: {detail}")
        self._nodes[place.path] = LayerNode(
            name=place.path,
            type=layer_type.name,
            args=applied.args,
            inputs=sources,
            init=calls,
            output_shape=applied.output.shape,
            output_dtype=applied.output.dtype,
            parameters=applied.parameters,
            pointer=pointer,
            forward={name: is_on for name, is_on in forward.items() if is_on},
            parametrizations=read_parametrizations(
                computed,
                layer_type,
                applied.args,
                applied.parameters,
                below(pointer, "parametrizations"),
                faults,
            ),
        )
        return place.path

    def _again(self, entry: dict[str, Any], place: _Place, scope: Scope) -> None:
        """Another use of an earlier layer. At fault it leaves no node."""
        faults, pointer = self._faults, place.pointer
        faults.check_fields(pointer, entry, SHARING_FIELDS, "a layer that shares another's")
        sources = self._inputs(entry, pointer, scope, scope.above)
        self._stop_if_over(self._budget.connect(len(sources)), place)
        owner = self._shared(entry["shares"], below(pointer, "shares"), scope)
        inputs = tuple(t for t in map(self._tensors.get, sources) if t is not None)
        if owner is None or not sources or len(inputs) < len(sources):
            return
        layer_type = LAYER_TYPES[owner.type]
        applied = self._apply(layer_type, owner.args, inputs, sources, place, given={})
        if applied is None or not self._can_call(
            layer_type, owner.forward, applied, inputs, sources, place
        ):
            return
        self._stop_if_over(self._budget.spend(replace(applied, parameters={})), place)
        self._tensors[place.path] = applied.output
        self._nodes[place.path] = replace(
            owner,
            name=place.path,
            inputs=sources,
            init={},
            output_shape=applied.output.shape,
            output_dtype=applied.output.dtype,
            parameters={},
            parametrizations={},
            pointer=pointer,
            shares=owner.name,
        )

    def _shared(self, name: Any, pointer: str, scope: Scope) -> LayerNode | None:
        """The layer that a name in `shares` stands for, which has parameters to share."""
        source = self._source(name, pointer, scope)
        node = self._nodes.get(source or "")
        if node is None:
            if source is not None and self._tensors[source] is not None:
                self._faults.add(pointer, f"{quoted(name)} is what comes in, not a layer")
            return None
        if node.name.rpartition(".")[2] != name.rpartition(".")[2]:
            self._faults.add(pointer, f"{quoted(name)} is a group: share its layers one by one")
            return None
        owner = self._nodes[node.shares or node.name]
        if not owner.parameters:
            self._faults.add(pointer, f"layer {quoted(name)} ({owner.type}) has no parameters")
            return None
        return owner

    def _can_call(
        self,
        layer_type: LayerType,
        forward: dict[str, Any],
        applied: Applied,
        inputs: Inputs,
        sources: tuple[str, ...],
        place: _Place,
    ) -> bool:
        try:
            layer_type.check_call(forward, applied.args, inputs)
        except BadArgument as fault:
            self._bad_argument(fault, place, "forward")
        except Misfit as misfit:
            self._misfit(misfit, {}, sources[misfit.position], place)
        else:
            return True
        return False

    def _stop_if_over(self, limit: str | None, place: _Place) -> None:
        if limit:
            detail = f"layer `{place.path}` takes the network over the limit of {limit}"
            self._faults.stop(place.pointer, detail)

    def _inputs(
        self, entry: dict[str, Any], pointer: str, scope: Scope, default: str
    ) -> tuple[str, ...]:
        """The layers that an entry takes its inputs from."""
        if "inputs" not in entry:
            return (default,)
        names, pointer = entry["inputs"], below(pointer, "inputs")
        if not isinstance(names, list) or not 0 < len(names) <= MAX_INPUTS:
            self._faults.add(pointer, f"`inputs` must be a list of 1 to {MAX_INPUTS} names")
            return ()
        found = (
            self._source(name, below(pointer, index), scope) for index, name in enumerate(names)
        )
        return tuple(source for source in found if source is not None)

    def _source(self, name: Any, pointer: str, scope: Scope) -> str | None:
        if not isinstance(name, str):
            self._faults.add(pointer, f"an input is a layer's name, not {shown(name)}")
            return None
        source = scope.find(name) or self._paths.get(name)
        if source is None:
            guess = hint(name, scope.visible())
            self._faults.add(pointer, f"no earlier layer is called {quoted(name)}{guess}")
        return source

    def _type(self, entry: dict[str, Any], pointer: str) -> LayerType | None:
        if "type" not in entry:
            self._faults.add(below(pointer, "type"), "`type` is missing")
            return None
        name = entry["type"]
        if isinstance(name, str) and name in LAYER_TYPES:
            return LAYER_TYPES[name]
        guess = hint(name, LAYER_TYPES) if isinstance(name, str) else ""
        detail = f"there is no layer type {shown(name)}{guess}"
        self._faults.add(below(pointer, "type"), detail, UnknownLayerType)
        return None

    def _apply(
        self,
        layer_type: LayerType,
        args: dict[str, Any],
        inputs: Inputs,
        sources: tuple[str, ...],
        place: _Place,
        given: dict[str, Any] | None = None,
    ) -> Applied | None:
        """`given`: the arguments that stand in this entry; all of them unless said otherwise."""
        if not layer_type.takes_inputs(len(inputs)):
            name = f"layer `{place.path}` ({layer_type.name})"
            detail = f"{name} takes {layer_type.inputs_in_words} inputs, not {len(inputs)}"
            self._faults.add(below(place.pointer, "inputs"), detail)
            return None
        try:
            return layer_type.apply(args, inputs)
        except BadArgument as fault:
            if given is None:
                self._bad_argument(fault, place)
            else:
                self._faults.add(place.pointer, f"layer `{place.path}`: {fault.detail}")
        except Misfit as misfit:
            known = args if given is None else given
            self._misfit(misfit, known, sources[misfit.position], place)
        return None

    def _bad_argument(self, fault: BadArgument, place: _Place, field: str = "args") -> None:
        pointer = below(place.pointer, field, *fault.steps)
        self._faults.add(pointer, f"layer `{place.path}`: {fault.detail}")

    def _misfit(self, misfit: Misfit, args: dict[str, Any], source: str, place: _Place) -> None:
        is_given = misfit.steps and misfit.steps[0] in args
        pointer = below(place.pointer, "args", *misfit.steps) if is_given else place.pointer
        detail = f"layer `{place.path}` takes {misfit.takes} but `{source}` gives {misfit.gives}"
        self._faults.add(pointer, detail + _ADVICE.get(misfit.takes, ""), ShapeMismatch)
