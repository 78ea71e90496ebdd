"""From a spec to the network it means: groups unrolled, names resolved, shapes followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from service.domain.architecture import Architecture, InitCall, LayerNode
from service.domain.errors import ShapeMismatch, UnknownLayerType
from service.domain.grammar import limits
from service.domain.grammar.faults import Faults, below
from service.domain.grammar.initialization import assign
from service.domain.grammar.names import INPUT, Scope, name_fault
from service.domain.grammar.sample import read_sample
from service.domain.layers import LAYER_TYPES
from service.domain.layers.initializers import INITIALIZERS, DoesNotFit, Parameter
from service.domain.layers.kinds import Whole, shown
from service.domain.layers.layer_type import Applied, LayerType, Takes
from service.domain.layers.signature import BadArgument, hint, quoted
from service.domain.layers.tensor import Misfit, Shape, Tensor, elements

SPEC_FIELDS = ("kind", "input", "layers")
LAYER_FIELDS = ("name", "type", "args", "init", "inputs")
GROUP_FIELDS = ("name", "repeat", "layers", "inputs")
REPEATS = Whole(1, limits.MAX_LAYERS)


def expand(spec: Mapping[str, Any]) -> Architecture:
    """See `service.domain.architecture.resolve`."""
    return _Expansion(spec).architecture()


class _Expansion:
    """One spec on its way to an architecture."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec
        self._faults = Faults()
        self._nodes: list[LayerNode] = []
        self._count = 0
        self._tensors: dict[str, Tensor | None] = {}
        """Every layer's output; None where a fault hides it."""
        self._paths: dict[str, str] = {}
        """Dotted paths of layers, groups and repetitions → the layer each stands for."""
        self._parameters = 0
        self._parameter_tensors = 0

    def architecture(self) -> Architecture:
        faults = self._faults
        self._check_fields("", self._spec, SPEC_FIELDS, "a spec")
        if self._spec.get("kind", "spec") != "spec":
            faults.add("/kind", '`kind` of an architecture spec is "spec"')
        sample, high = read_sample(self._spec.get("input"), faults)
        self._tensors[INPUT] = sample
        last = self._layers(self._spec.get("layers"), "/layers", Scope(INPUT), 0)
        faults.raise_if_any()
        assert sample is not None
        self._check_result(last)
        return Architecture(
            sample.shape,
            sample.dtype,
            tuple(self._nodes),
            self._range(high) if sample.is_integer else None,
            dict(self._spec),
        )

    def _layers(self, layers: Any, pointer: str, scope: Scope, depth: int) -> str:
        """Expand one list; returns the layer it ends with."""
        if not isinstance(layers, list) or not layers:
            self._faults.add(pointer, "`layers` must be a list of at least one layer")
            return scope.above
        taken: set[str] = set()
        for index, entry in enumerate(layers):
            place = below(pointer, index)
            name = self._name(entry, index, place, taken)
            taken.add(name)
            if isinstance(entry, dict) and "layers" in entry:
                end = self._group(entry, name, place, scope, depth + 1)
            else:
                end = self._layer(entry, name, place, scope)
            scope.names[name] = scope.above = self._paths[scope.prefix + name] = end
        return scope.above

    def _name(self, entry: Any, index: int, place: str, taken: set[str]) -> str:
        if not isinstance(entry, dict) or "name" not in entry:
            name, where = f"layer{index}", place
        else:
            name, where = entry["name"], below(place, "name")
            wrong = name_fault(name)
            if wrong:
                self._faults.add(where, wrong)
                name = f"layer{index}"
        if name in taken:
            self._faults.add(where, f"two layers of one list are called `{name}`")
        return str(name)

    def _group(self, entry: dict[str, Any], name: str, place: str, scope: Scope, depth: int) -> str:
        if depth > limits.MAX_NESTING:
            self._faults.stop(place, f"groups may be nested {limits.MAX_NESTING} deep")
        self._check_fields(place, entry, GROUP_FIELDS, "a group")
        sources = self._inputs(entry, place, scope)
        if len(sources) != 1:
            self._faults.add(below(place, "inputs"), "a group takes one input")
        current = sources[0] if sources else scope.above
        inner, path = below(place, "layers"), scope.prefix + name
        if "repeat" not in entry:
            return self._layers(entry["layers"], inner, Scope(current, f"{path}.", scope), depth)
        repeat = entry["repeat"]
        if not REPEATS.accepts(repeat):
            detail = f"`repeat` must be {REPEATS.expects}, not {shown(repeat)}"
            self._faults.add(below(place, "repeat"), detail)
            repeat = 1
        before = len(self._faults)
        for turn in range(repeat):
            step = f"{path}.{turn}"
            current = self._layers(entry["layers"], inner, Scope(current, f"{step}.", scope), depth)
            self._paths[step] = current
            if len(self._faults) > before:
                break
        return current

    def _layer(self, entry: Any, name: str, place: str, scope: Scope) -> str:
        path = scope.prefix + name
        self._tensors[path] = None
        self._count += 1
        if self._count > limits.MAX_LAYERS:
            self._faults.stop(place, f"the network has more than {limits.MAX_LAYERS} layers")
        if not isinstance(entry, dict):
            self._faults.add(place, f"a layer must be an object, not {shown(entry)}")
            return path
        before = len(self._faults)
        self._check_fields(place, entry, LAYER_FIELDS, "a layer")
        sources = self._inputs(entry, place, scope)
        layer_type = self._type(entry, place)
        if layer_type is None:
            return path
        args = self._object(entry, "args", place)
        for fault in layer_type.signature.faults(args):
            self._argument_fault(place, path, fault)
        self._check_count(layer_type, sources, path, place, given="inputs" in entry)
        tensors = [self._tensors[source] for source in sources]
        known = tuple(tensor for tensor in tensors if tensor is not None)
        if len(self._faults) > before or len(known) < len(tensors):
            return path
        applied = self._apply(layer_type, args, known, sources, path, place)
        if applied is None:
            return path
        self._check_size(applied, path, place)
        init = self._init(entry, layer_type, applied.parameters, place)
        self._tensors[path] = applied.output
        self._nodes.append(
            LayerNode(
                path,
                layer_type.name,
                applied.args,
                sources,
                init,
                applied.output.shape,
                applied.output.dtype,
                applied.parameters,
                place,
            )
        )
        return path

    def _check_fields(
        self, pointer: str, entry: Mapping[str, Any], fields: tuple[str, ...], what: str
    ) -> None:
        for field in entry:
            if field not in fields:
                detail = f"{what} has no field {quoted(field)}{hint(field, fields)}"
                self._faults.add(below(pointer, field), detail)

    def _object(self, entry: dict[str, Any], field: str, place: str) -> dict[str, Any]:
        value = entry.get(field, {})
        if isinstance(value, dict):
            return value
        self._faults.add(below(place, field), f"`{field}` must be an object, not {shown(value)}")
        return {}

    def _inputs(self, entry: dict[str, Any], place: str, scope: Scope) -> tuple[str, ...]:
        """The layers an entry takes its inputs from."""
        if "inputs" not in entry:
            return (scope.above,)
        names, pointer = entry["inputs"], below(place, "inputs")
        if not isinstance(names, list) or not 0 < len(names) <= limits.MAX_INPUTS:
            detail = f"`inputs` must be a list of 1 to {limits.MAX_INPUTS} names"
            self._faults.add(pointer, detail)
            return (scope.above,)
        found = []
        for index, name in enumerate(names):
            source = self._source(name, scope)
            if source is None:
                self._unknown_input(below(pointer, index), name, scope)
            else:
                found.append(source)
        return tuple(found)

    def _source(self, name: Any, scope: Scope) -> str | None:
        if not isinstance(name, str):
            return None
        return scope.find(name) or self._paths.get(name)

    def _unknown_input(self, pointer: str, name: Any, scope: Scope) -> None:
        if isinstance(name, str):
            guess = hint(name, scope.visible())
            self._faults.add(pointer, f"no earlier layer is called {quoted(name)}{guess}")
        else:
            self._faults.add(pointer, f"an input is a layer's name, not {shown(name)}")

    def _type(self, entry: dict[str, Any], place: str) -> LayerType | None:
        if "type" not in entry:
            self._faults.add(below(place, "type"), "`type` is missing")
            return None
        name = entry["type"]
        if isinstance(name, str) and name in LAYER_TYPES:
            return LAYER_TYPES[name]
        if isinstance(name, str):
            detail = f"there is no layer type {quoted(name)}{hint(name, LAYER_TYPES)}"
        else:
            detail = f"`type` must be the name of a layer type, not {shown(name)}"
        self._faults.add(below(place, "type"), detail, UnknownLayerType)
        return None

    def _check_count(
        self, layer_type: LayerType, sources: tuple[str, ...], path: str, place: str, *, given: bool
    ) -> None:
        counts = layer_type.input_counts
        if (counts is None and len(sources) >= 2) or (
            counts is not None and len(sources) in counts
        ):
            return
        wanted = " or ".join(map(str, counts)) if counts else "two or more"
        detail = f"layer `{path}` ({layer_type.name}) takes {wanted} inputs, not {len(sources)}"
        self._faults.add(below(place, "inputs") if given else place, detail)

    def _apply(
        self,
        layer_type: LayerType,
        args: dict[str, Any],
        inputs: tuple[Tensor, ...],
        sources: tuple[str, ...],
        path: str,
        place: str,
    ) -> Applied | None:
        try:
            return layer_type.apply(args, inputs)
        except BadArgument as fault:
            self._argument_fault(place, path, fault)
        except Misfit as misfit:
            source = sources[misfit.position]
            detail = f"layer `{path}` takes {misfit.takes} but `{source}` gives {misfit.gives}"
            pointer = below(place, "args", misfit.argument) if misfit.argument in args else place
            self._faults.add(pointer, detail + _advice(misfit), ShapeMismatch)
        return None

    def _argument_fault(self, place: str, path: str, fault: BadArgument) -> None:
        pointer = below(place, "args", *fault.argument.split("/"))
        self._faults.add(pointer, f"layer `{path}`: {fault.detail}")

    def _check_size(self, applied: Applied, path: str, place: str) -> None:
        shape = applied.output.shape
        if elements(shape) > limits.MAX_ELEMENTS or len(shape) > limits.MAX_DIMENSIONS:
            self._stop_at_limit(path, place, f"{limits.MAX_ELEMENTS} numbers per sample")
        self._parameters += sum(map(elements, applied.parameters.values()))
        self._parameter_tensors += len(applied.parameters)
        if self._parameters > limits.MAX_PARAMETERS:
            self._stop_at_limit(path, place, f"{limits.MAX_PARAMETERS} parameters")
        if self._parameter_tensors > limits.MAX_PARAMETER_TENSORS:
            self._stop_at_limit(path, place, f"{limits.MAX_PARAMETER_TENSORS} parameter tensors")

    def _stop_at_limit(self, path: str, place: str, limit: str) -> NoReturn:
        self._faults.stop(place, f"layer `{path}` takes the network over its limit of {limit}")

    def _init(
        self,
        entry: dict[str, Any],
        layer_type: LayerType,
        parameters: dict[str, Shape],
        place: str,
    ) -> dict[str, InitCall]:
        asked = self._object(entry, "init", place)
        pointer = below(place, "init")
        if len(asked) > limits.MAX_INIT_KEYS:
            self._faults.stop(pointer, f"`init` may have {limits.MAX_INIT_KEYS} keys")
        calls = {key: self._init_call(below(pointer, key), asked[key]) for key in asked}
        chosen, unmatched = assign(asked, parameters)
        for key in unmatched:
            known = hint(key, parameters) or f"; it has {', '.join(parameters) or 'none'}"
            detail = f"no parameter of {layer_type.name} starts with {quoted(key)}{known}"
            self._faults.add(below(pointer, key), detail)
        init = {}
        for name, key in chosen.items():
            call = calls[key]
            if call is None:
                continue
            try:
                parameter = Parameter(layer_type.name, name, parameters[name])
                INITIALIZERS[call.name].check_fit(call.args, parameter)
            except DoesNotFit as fault:
                self._faults.add(below(pointer, key), str(fault))
                calls[key] = None
            init[name] = call
        return init

    def _init_call(self, pointer: str, value: Any) -> InitCall | None:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            self._faults.add(pointer, 'an initialization is an object like {"name": "zeros_"}')
            return None
        before = len(self._faults)
        self._check_fields(pointer, value, ("name", "args"), "an initialization")
        initializer = INITIALIZERS.get(value["name"])
        if initializer is None:
            known = hint(value["name"], INITIALIZERS)
            detail = f"torch.nn.init has no function {quoted(value['name'])}{known}"
            self._faults.add(below(pointer, "name"), detail)
            return None
        args = self._object(value, "args", pointer)
        for fault in initializer.signature.faults(args):
            self._faults.add(below(pointer, "args", fault.argument), fault.detail)
        return InitCall(initializer.name, dict(args)) if len(self._faults) == before else None

    def _check_result(self, last: str) -> None:
        output = self._tensors[last]
        if output is not None and output.is_integer:
            detail = f"the network ends with integers (`{last}`): nothing can be learnt from them"
            self._faults.stop("/layers", detail)

    def _range(self, given: int | None) -> int:
        """End of the input's range: as given, or the smallest table of an Embedding."""
        embeddings = [
            node for node in self._nodes if LAYER_TYPES[node.type].takes is Takes.INTEGERS
        ]
        smallest = min(embeddings, key=lambda node: int(node.args["num_embeddings"]))
        rows = int(smallest.args["num_embeddings"])
        if given is not None and given > rows:
            detail = (
                f"layer `{smallest.name}` has {rows} embeddings, "
                f"but the input goes up to {given - 1}"
            )
            self._faults.stop("/input/high", detail)
        return given if given is not None else rows


def _advice(misfit: Misfit) -> str:
    if misfit.takes == Takes.FLOATS.value:
        return ": put an Embedding before it"
    if misfit.takes == Takes.INTEGERS.value:
        return ': give the input `dtype` "int64"'
    return ""
