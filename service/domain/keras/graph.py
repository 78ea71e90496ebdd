"""The layers of a Keras model and what each takes, in the order they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.errors import InvalidRequest
from service.domain.grammar.faults import below

MAX_LAYERS = 10_000


class Untranslatable(InvalidRequest):
    """Something of a Keras model that a spec cannot express."""

    title = "Keras model cannot be translated"


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """One layer."""

    class_name: str
    name: str
    config: Mapping[str, Any]
    """The arguments it was made with."""
    inputs: tuple[str, ...]
    """Names of layers before it; empty: it is the input."""
    pointer: str
    """Where its config stands, relative to the Keras model."""

    def refused(self, detail: str, *steps: str) -> Untranslatable:
        """An error that names the layer and points at an argument."""
        said = f"layer `{self.name}` ({self.class_name}): {detail}"
        return Untranslatable(said, pointer=below(self.pointer, *steps))


def layers_of(model: Mapping[str, Any]) -> tuple[tuple[KerasLayer, ...], str]:
    """Layers, the input first, and the name of the one that the model ends with.

    Raises Untranslatable with pointers relative to the model.
    """
    kind, config = model.get("class_name"), model.get("config")
    if kind not in ("Sequential", "Functional", "Model"):
        raise Untranslatable(
            f"`class_name` is {kind!r}; a Sequential or functional model is wanted, as "
            "model.to_json() writes it",
            pointer="/class_name",
        )
    entries = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_LAYERS:
        raise Untranslatable("`layers` must be a list of layers", pointer="/config/layers")
    pointer = "/config/layers" if isinstance(config, dict) else "/config"
    if kind == "Sequential" or not isinstance(config, dict):
        layers = tuple(_chain(entries, pointer))
        return layers, layers[-1].name
    layers = tuple(_network(entries, pointer))
    known = {layer.name for layer in layers}
    _only(config.get("input_layers"), known, "/config/input_layers", "inputs")
    return layers, _only(config.get("output_layers"), known, "/config/output_layers", "outputs")


def _chain(entries: list[Any], pointer: str) -> Iterator[KerasLayer]:
    above = ""
    for index, entry in enumerate(entries):
        layer = _layer(entry, below(pointer, index), (above,) if above else ())
        shape = layer.config.get("batch_input_shape") or layer.config.get("batch_shape")
        if not above and layer.class_name != "InputLayer":
            if shape is None:
                raise Untranslatable(
                    "the model does not say what it takes: begin with keras.Input(shape), or "
                    "build it before to_json()",
                    pointer=layer.pointer,
                )
            yield KerasLayer(
                "InputLayer",
                "keras_input",
                {"batch_shape": shape, "dtype": layer.config.get("dtype", "float32")},
                (),
                layer.pointer,
            )
            layer = _layer(entry, below(pointer, index), ("keras_input",))
        above = layer.name
        yield layer


def _network(entries: list[Any], pointer: str) -> Iterator[KerasLayer]:
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        place = below(pointer, index)
        nodes = entry.get("inbound_nodes", []) if isinstance(entry, dict) else []
        layer = _layer(entry, place, ())
        if len(nodes) > 1:
            raise layer.refused("it is used more than once; shared layers are not supported")
        inputs = tuple(_sources(nodes[0])) if nodes else ()
        missing = [name for name in inputs if name not in seen]
        if missing:
            detail = f"it takes `{missing[0]}`, which does not stand before it"
            raise Untranslatable(detail, pointer=below(place, "inbound_nodes"))
        seen.add(layer.name)
        yield KerasLayer(layer.class_name, layer.name, layer.config, inputs, layer.pointer)


def _layer(entry: Any, pointer: str, inputs: tuple[str, ...]) -> KerasLayer:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise Untranslatable("a layer is an object with a class_name", pointer=pointer)
    config = entry.get("config")
    if not isinstance(config, dict):
        raise Untranslatable("a layer has a config", pointer=below(pointer, "config"))
    name = entry.get("name") or config.get("name")
    if not isinstance(name, str):
        raise Untranslatable("a layer has a name", pointer=below(pointer, "config", "name"))
    return KerasLayer(entry["class_name"], name, config, inputs, below(pointer, "config"))


def _sources(node: Any) -> Iterator[str]:
    """Layers that a call names: Keras 3 by `keras_history`, Keras 2 as [name, 0, 0, {}]."""
    waiting = [node]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, dict):
            if one.get("class_name") == "__keras_tensor__":
                yield str(one["config"]["keras_history"][0])
            else:
                waiting = [*one.values(), *waiting]
        elif isinstance(one, list):
            if len(one) >= 3 and isinstance(one[0], str) and isinstance(one[1], int):
                yield one[0]
            else:
                waiting = [*one, *waiting]


def _only(said: Any, known: set[str], pointer: str, what: str) -> str:
    """The one layer of ["name", 0, 0] or [["name", 0, 0]]."""
    found = [said] if isinstance(said, list) and said and isinstance(said[0], str) else said
    if not isinstance(found, list) or len(found) != 1:
        raise Untranslatable(f"models with several {what} are not supported", pointer=pointer)
    name = found[0][0] if isinstance(found[0], list) and found[0] else None
    if name not in known:
        raise Untranslatable(f"there is no layer {name!r}", pointer=pointer)
    return str(name)
