"""One Keras layer on its way into a spec: what flows in, and the layers that are added for it.

Keras keeps channels last, torch first. Images are carried channels first from the input on, so
that nothing has to be moved; sequences are carried as their first user wants them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from service.domain.grammar.faults import below
from service.domain.grammar.limits import MAX_LAYERS
from service.domain.keras.graph import SEPARATOR, WITHIN, KerasLayer, Untranslatable
from service.domain.keras.initializers import Fans, OwnFans, UnknownInitializer, init_call
from service.domain.keras.penalties import penalties
from service.domain.layers import LAYER_TYPES
from service.domain.layers.signature import BadArgument
from service.domain.layers.tensor import Misfit, Tensor

_PLAIN = {SEPARATOR: WITHIN}


@dataclass(frozen=True, slots=True)
class Flow:
    """What a layer hands on."""

    name: str
    """The spec's layer that it comes from."""
    tensor: Tensor
    """Shape as the spec has it, per sample."""
    first: bool = False
    """Channels come first; meaningless for vectors."""


@dataclass(slots=True)
class Written:
    """The spec so far."""

    layers: list[dict[str, Any]] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)
    """Of each layer, the Keras layer it was made for."""
    names: set[str] = field(default_factory=lambda: {"input"})
    uses: dict[str, int] = field(default_factory=dict)
    """How often a name was asked for, where more than once."""
    owned: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Of each Keras layer, what its first use wrote that has parameters."""
    said: dict[str, dict[str, None]] = field(default_factory=dict)
    """What could not be translated → the Keras layers that it is said of, in order."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The same, a line each."""
        return tuple(f"keras: {_listed([*names])}: {text}" for text, names in self.said.items())

    def free(self, name: str) -> str:
        """A name that no layer has, made of characters that a name may have."""
        kept = (one if one.isascii() and one.isalnum() else _PLAIN.get(one, "_") for one in name)
        plain = "".join(kept)[:60]
        plain = plain if plain[:1].isalpha() else f"layer_{plain}"
        free = plain
        while free in self.names:
            self.uses[plain] = self.uses.get(plain, 1) + 1
            free = f"{plain}_{self.uses[plain]}"
        self.names.add(free)
        return free


class Step:
    """The translation of one layer."""

    def __init__(
        self, layer: KerasLayer, inputs: Sequence[Flow], written: Written, *, keras_2: bool
    ) -> None:
        self.layer = layer
        self.inputs = tuple(inputs)
        self.flow = inputs[0]
        """What was handed in, then what the layers added so far give."""
        self.keras_2 = keras_2
        self.written = written
        self._shared = 0
        """Layers with parameters that a later use has written."""
        for penalty in penalties(layer.config):
            self.note(penalty)

    def within(self, class_name: str, config: Mapping[str, Any], *steps: str) -> Step:
        """The same place for a layer that is an argument of this one; afterwards its `flow`
        has to be taken over."""
        layer = replace(
            self.layer,
            class_name=class_name,
            config=config,
            pointer=below(self.layer.pointer, *steps),
        )
        return Step(layer, (self.flow,), self.written, keras_2=self.keras_2)

    def option(self, name: str, default: Any) -> Any:
        """An argument of the layer."""
        return self.layer.config.get(name, default)

    def refused(self, detail: str, *steps: str) -> Untranslatable:
        """An error that names the layer and points at an argument."""
        return self.layer.refused(detail, *steps)

    def whole(self, name: str, default: Any = None) -> int:
        """An argument that is a positive integer."""
        value = self.option(name, default)
        if type(value) is not int or value < 1:
            raise self.refused(f"`{name}` must be a positive integer, not {value!r}", name)
        return value

    def sides(self, name: str, count: int, default: Any = 1) -> list[int]:
        """An argument with an integer for each side."""
        value = self.option(name, default)
        values = [value] * count if type(value) is int else value
        if not (
            isinstance(values, list | tuple)
            and len(values) == count
            and all(type(one) is int and 0 < one < 2**20 for one in values)
        ):
            raise self.refused(f"`{name}` must be {count} positive integers, not {value!r}", name)
        return list(values)

    def note(self, text: str) -> None:
        """Say what could not be translated and changes little."""
        self.written.said.setdefault(text, {})[self.layer.shown] = None

    @property
    def channel_dim(self) -> int:
        """Keras's last axis, in torch's counting with the batch."""
        return 1 if self.flow.first or len(self.flow.tensor.shape) == 1 else -1

    def dim(self, axis: Any, field: str) -> int:
        """A Keras axis, which counts the batch, as torch's dimension here."""
        rank = len(self.flow.tensor.shape)
        place = axis + rank + 1 if type(axis) is int and axis < 0 else axis
        if type(place) is not int or not 0 < place <= rank:
            raise self.refused(f"the axis {axis!r} is not supported", field)
        if not self.flow.first or self.channels_first_in_keras:
            return place
        return 1 if place == rank else place + 1

    @property
    def channels_first_in_keras(self) -> bool:
        """Whether the model itself was written so."""
        return bool(self.option("data_format", None) == "channels_first")

    def init(
        self, name: str, default: Any, fan_in: float, fan_out: float, *, own_fans: bool = False
    ) -> dict[str, Any]:
        """The initializer in an argument, for a kernel with these fans as Keras counts them;
        `own_fans`: torch counts others."""
        fans = (OwnFans if own_fans else Fans)(fan_in, fan_out)
        try:
            return init_call(self.option(name, default), fans)
        except UnknownInitializer as error:
            raise self.refused(str(error), name) from error

    def add(
        self,
        layer_type: str,
        args: Mapping[str, Any],
        init: Mapping[str, Any] | None = None,
        *,
        suffix: str = "",
        first: bool | None = None,
    ) -> None:
        """One layer of the spec after what flows now; `first`: how its output lies, if that
        changes."""
        self.join(layer_type, args, (self.flow,), init, suffix=suffix, first=first)

    def join(
        self,
        layer_type: str,
        args: Mapping[str, Any],
        inputs: Sequence[Flow],
        init: Mapping[str, Any] | None = None,
        *,
        suffix: str = "",
        first: bool | None = None,
        forward: Mapping[str, bool] | None = None,
    ) -> None:
        """The same after several."""
        if len(self.written.layers) >= MAX_LAYERS:
            raise self.refused(f"the network has more than {MAX_LAYERS} layers")
        kind = LAYER_TYPES[layer_type]
        try:
            for fault in kind.signature.faults(dict(args)):
                raise fault
            applied = kind.apply(dict(args), tuple(one.tensor for one in inputs))
        except BadArgument as fault:
            raise self.refused(fault.detail) from fault
        except Misfit as misfit:
            raise self.refused(f"it takes {misfit.takes} but gets {misfit.gives}") from misfit
        name = self.written.free(f"{self.layer.name}_{suffix}" if suffix else self.layer.name)
        entry: dict[str, Any] = {"name": name, "type": layer_type, "args": dict(args)}
        if forward:
            entry["forward"] = dict(forward)
        if init:
            entry["init"] = dict(init)
        if applied.parameters:
            entry = self._own_or_shared(entry)
        self.written.layers.append({**entry, "inputs": [one.name for one in inputs]})
        self.written.pointers.append(self.layer.pointer)
        self.flow = Flow(name, applied.output, self.flow.first if first is None else first)

    def _own_or_shared(self, entry: dict[str, Any]) -> dict[str, Any]:
        """What is written of a layer with parameters: later uses share those of the first."""
        if self.option("trainable", True) is False:
            self.note("trainable=False: it is measured and trained like any other")
        if self.option("lora_rank", None):
            self.note("lora_rank is left out: the kernel itself is measured and trained")
        owned = self.written.owned.setdefault(self.layer.name, [])
        if not self.layer.turn:
            owned.append(entry)
            return entry
        first = owned[self._shared] if self._shared < len(owned) else {}
        self._shared += 1
        if any(first.get(name) != entry[name] for name in ("type", "args")):
            raise self.refused(
                "it is used again on an input of another kind, which a spec cannot say"
            )
        if first.get("forward") != entry.get("forward"):
            raise self.refused("it is used again with another mask, which a spec cannot say")
        return {"name": entry["name"], "shares": first["name"]}


def _listed(names: Sequence[str]) -> str:
    """`a`; or `a`, `b`, … (12)."""
    if len(names) == 1:
        return f"layer `{names[0]}`"
    few = ", ".join(f"`{name}`" for name in names[:3])
    return f"layers {few}" + (f" … ({len(names)})" if len(names) > 3 else "")
