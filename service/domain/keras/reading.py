"""From the JSON of a Keras model to its uses of layers, in an order in which they can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.domain.grammar.faults import below
from service.domain.keras.calls import calls_in_order, references
from service.domain.keras.graph import INPUT, SEPARATOR, KerasGraph, KerasLayer, Untranslatable

MAX_LAYERS = 10_000
MAX_NESTING = 16
"""Models within models."""
MAX_READ = 2 * MAX_LAYERS
"""Entries read, one of a nested model once for every use of the model: 2 uses at each of 16 levels
would be 65,536 models."""
MODELS = ("Sequential", "Functional", "Model")


def layers_of(model: Mapping[str, Any]) -> KerasGraph:
    """Nested models are taken apart. Raises Untranslatable with pointers relative to the model."""
    if model.get("class_name") not in MODELS:
        raise Untranslatable(
            f"`class_name` is {model.get('class_name')!r}; a Sequential or functional model is "
            "wanted, as model.to_json() writes it",
            pointer="/class_name",
        )
    reading = _Reading()
    output = reading.model(_Place("", ""), model, None)
    return KerasGraph(_needed(reading.layers, output), tuple(reading.inputs), output)


def _needed(layers: Sequence[KerasLayer], output: str) -> tuple[KerasLayer, ...]:
    """Inputs, and what the output comes from: not the arithmetic of masks."""
    needed = {output}
    for layer in reversed(layers):
        if layer.key in needed:
            needed.update(layer.inputs)
    return tuple(one for one in layers if one.key in needed or one.class_name == INPUT)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a model or a layer stands."""

    prefix: str
    """Names of the models around it."""
    pointer: str
    """Of its object."""
    depth: int = 0


class _Reading:
    """The uses found so far."""

    def __init__(self) -> None:
        self.layers: list[KerasLayer] = []
        self.inputs: list[str] = []
        self._turns: dict[str, int] = {}
        self._read = 0

    def model(self, place: _Place, model: Mapping[str, Any], fed: tuple[str, ...] | None) -> str:
        """Read a model that gets what `fed` names; None: it is the whole, with inputs of its own.
        Returns the key of what it gives."""
        if place.depth > MAX_NESTING:
            raise Untranslatable(f"models may be nested {MAX_NESTING} deep", pointer=place.pointer)
        config = model.get("config")
        pointer = below(place.pointer, "config")
        entries = config.get("layers") if isinstance(config, dict) else config
        if not isinstance(entries, list) or not 0 < len(entries) <= MAX_LAYERS:
            raise Untranslatable("`layers` must be a list of layers", pointer=f"{pointer}/layers")
        self._read += len(entries)
        if self._read > MAX_READ:
            detail = f"its nested models have more than {MAX_READ} layers together"
            raise Untranslatable(detail, pointer=place.pointer)
        if isinstance(config, dict):
            inside = _Place(place.prefix, f"{pointer}/layers", place.depth)
        else:
            inside = _Place(place.prefix, pointer, place.depth)
        if model.get("class_name") == "Sequential" or not isinstance(config, dict):
            return self._chain(entries, inside, fed)
        return self._network(config, entries, inside, pointer, fed)

    def _chain(self, entries: list[Any], place: _Place, fed: tuple[str, ...] | None) -> str:
        above = fed or ()
        for index, entry in enumerate(entries):
            here = _Place(place.prefix, below(place.pointer, index), place.depth)
            is_input = isinstance(entry, dict) and entry.get("class_name") == INPUT
            if above and is_input:
                continue
            if not above and not is_input and not _is_model(entry):
                above = (self._given(entry, here),)
            above = (self._use(entry, here, above, {}),)
        if not above:
            raise Untranslatable("there is no layer in it", pointer=place.pointer)
        return above[0]

    def _given(self, entry: Any, place: _Place) -> str:
        """The input that the first layer of a chain says it takes."""
        _, config, pointer = _entry(entry, place.pointer)
        shape = config.get("batch_input_shape") or config.get("batch_shape")
        if shape is None:
            raise Untranslatable(
                "the model does not say what it takes: begin with keras.Input(shape), or "
                "build it before to_json()",
                pointer=pointer,
            )
        said = {"batch_shape": shape, "dtype": config.get("dtype", "float32")}
        return self._add(KerasLayer(INPUT, "keras_input", said, (), pointer))

    def _network(
        self,
        config: Mapping[str, Any],
        entries: list[Any],
        place: _Place,
        pointer: str,
        fed: tuple[str, ...] | None,
    ) -> str:
        keys: dict[tuple[str, int], str] = {}
        taken = [name for name, _ in references(config.get("input_layers"))]
        names = [_entry(one, below(place.pointer, n))[0] for n, one in enumerate(entries)]
        given = [name for name, one in zip(names, entries, strict=True) if _is_input(one)]
        if sorted(taken) != sorted(given):
            raise Untranslatable(
                f"`input_layers` names {taken}, the input layers are {given}",
                pointer=f"{pointer}/input_layers",
            )
        if fed is not None:
            if len(fed) != len(taken):
                detail = f"it takes {len(taken)} inputs but gets {len(fed)}"
                raise Untranslatable(detail, pointer=pointer)
            keys = {(name, 0): key for name, key in zip(taken, fed, strict=True)}
        for call in calls_in_order(entries, names, place.pointer):
            use = (names[call.entry], call.turn)
            if use in keys:
                continue
            here = _Place(place.prefix, below(place.pointer, call.entry), place.depth)
            inputs = tuple(keys[source] for source in call.sources)
            keys[use] = self._use(entries[call.entry], here, inputs, call.keywords)
        if fed is None:
            self.inputs = [keys[name, 0] for name in taken]
        ends = [*references(config.get("output_layers"))]
        if len(ends) != 1:
            raise Untranslatable(
                "models with several outputs are not supported", pointer=f"{pointer}/output_layers"
            )
        if ends[0] not in keys:
            raise Untranslatable(
                f"there is no layer {ends[0][0]!r}", pointer=f"{pointer}/output_layers"
            )
        return keys[ends[0]]

    def _use(
        self, entry: Any, place: _Place, inputs: tuple[str, ...], keywords: Mapping[str, Any]
    ) -> str:
        name, config, pointer = _entry(entry, place.pointer)
        if _is_model(entry):
            inside = _Place(f"{place.prefix}{name}{SEPARATOR}", place.pointer, place.depth + 1)
            return self.model(inside, entry, inputs or None)
        layer = KerasLayer(
            entry["class_name"], place.prefix + name, config, inputs, pointer, call=keywords
        )
        return self._add(layer)

    def _add(self, layer: KerasLayer) -> str:
        if len(self.layers) >= MAX_LAYERS:
            raise layer.refused(f"the model has more than {MAX_LAYERS} layers")
        turn = self._turns.get(layer.name, 0)
        self._turns[layer.name] = turn + 1
        counted = replace(layer, turn=turn)
        self.layers.append(counted)
        if layer.class_name == INPUT:
            self.inputs.append(counted.key)
        return counted.key


def _is_model(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("class_name") in MODELS


def _is_input(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("class_name") == INPUT


def _entry(entry: Any, pointer: str) -> tuple[str, Mapping[str, Any], str]:
    """Name, config and where the config stands."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise Untranslatable("a layer is an object with a class_name", pointer=pointer)
    config = entry.get("config")
    inside = below(pointer, "config")
    if isinstance(config, list) and _is_model(entry):  # Sequential of early versions
        config = {"name": entry.get("name", "sequential")}
    if not isinstance(config, dict):
        raise Untranslatable("a layer has a config", pointer=inside)
    name = entry.get("name") or config.get("name")
    if not isinstance(name, str):
        raise Untranslatable("a layer has a name", pointer=below(inside, "name"))
    return name, config, inside
