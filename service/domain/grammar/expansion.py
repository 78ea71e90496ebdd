"""From a spec to the network it means: groups unrolled, names given, layers read one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.architecture import Architecture
from service.domain.grammar.faults import below
from service.domain.grammar.layer import read_layer
from service.domain.grammar.limits import MAX_LAYERS, MAX_NESTING
from service.domain.grammar.names import Scope, name_fault
from service.domain.grammar.network import Network, Place
from service.domain.grammar.sample import read_samples, with_ranges
from service.domain.grammar.sharing import read_sharing
from service.domain.layers.kinds import Whole, shown

SPEC_FIELDS = ("kind", "input", "layers")
GROUP_FIELDS = ("name", "repeat", "layers", "inputs")
REPEATS = Whole(1, MAX_LAYERS)


def expand(spec: Mapping[str, Any]) -> Architecture:
    """See `service.domain.architecture.resolve`."""
    return _Expansion().of(spec)


class _Expansion:
    """One spec on its way to an architecture."""

    def __init__(self) -> None:
        self._network = Network()
        self._faults = self._network.faults

    def of(self, spec: Mapping[str, Any]) -> Architecture:
        faults, network = self._faults, self._network
        faults.check_fields("", spec, SPEC_FIELDS, "a spec")
        if spec.get("kind", "spec") != "spec":
            faults.add("/kind", '`kind` of an architecture spec is "spec"')
        network.samples, tensors = read_samples(spec.get("input"), faults)
        network.tensors |= tensors
        outermost = Scope(network.samples[0].name)
        outermost.names |= {sample.name: sample.name for sample in network.samples}
        last = self._layers(spec.get("layers"), "/layers", outermost, 0)
        output = network.tensors[last]
        if output is not None and output.is_integer and last in network.nodes:
            faults.add("/layers", f"the network ends with integers (`{last}`), nothing is learnt")
        faults.raise_if_any()
        nodes = tuple(network.nodes.values())
        samples = with_ranges(network.samples, nodes, faults)
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
            place = Place(scope.prefix + name, below(pointer, index))
            if isinstance(entry, dict) and "layers" in entry:
                end = self._group(entry, place, scope, depth + 1)
            else:
                end = self._layer(entry, place, scope)
            scope.names[name] = scope.above = self._network.paths[place.path] = end
        return scope.above

    def _name(self, entry: Any, index: int, pointer: str, taken: set[str]) -> str:
        name: Any = f"layer{index}"
        if isinstance(entry, dict) and "name" in entry:
            pointer = below(pointer, "name")
            wrong = name_fault(entry["name"], self._network.samples)
            if wrong:
                self._faults.add(pointer, wrong)
            else:
                name = entry["name"]
        if name in taken:
            self._faults.add(pointer, f"two layers of one list are called `{name}`")
        return str(name)

    def _group(self, entry: dict[str, Any], place: Place, scope: Scope, depth: int) -> str:
        faults, pointer = self._faults, place.pointer
        if depth > MAX_NESTING:
            faults.stop(pointer, f"groups may be nested {MAX_NESTING} deep")
        faults.check_fields(pointer, entry, GROUP_FIELDS, "a group")
        sources = self._network.inputs(entry, pointer, scope, scope.above)
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
            self._network.paths[step] = current
            if len(faults) > before:  # the next repetition would say the same again
                break
        return current

    def _repeats(self, value: Any, pointer: str) -> int:
        if REPEATS.accepts(value):
            return int(value)
        detail = f"`repeat` must be {REPEATS.expects}, not {shown(value)}"
        self._faults.add(below(pointer, "repeat"), detail)
        return 1

    def _layer(self, entry: Any, place: Place, scope: Scope) -> str:
        """Expand one layer; returns its path."""
        network = self._network
        network.tensors[place.path] = None
        network.stop_if_over(network.budget.begin_layer(), place)
        if not isinstance(entry, dict):
            self._faults.add(place.pointer, f"a layer must be an object, not {shown(entry)}")
        elif "shares" in entry:
            read_sharing(network, entry, place, scope)
        else:
            read_layer(network, entry, place, scope)
        return place.path
