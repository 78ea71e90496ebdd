"""One Keras layer on its way into a spec: what flows in, and the layers that are added for it.

Keras keeps channels last, torch first. Images are carried channels first from the input on, so
that nothing has to be moved; sequences are carried as their first user wants them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.grammar.limits import MAX_LAYERS
from service.domain.keras.graph import KerasLayer, Untranslatable
from service.domain.keras.initializers import DepthwiseFans, Fans, UnknownInitializer, init_call
from service.domain.layers import LAYER_TYPES
from service.domain.layers.signature import BadArgument
from service.domain.layers.tensor import Misfit, Tensor


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
    notes: list[str] = field(default_factory=list)

    def free(self, name: str) -> str:
        """A name that no layer has, made of characters that a name may have."""
        plain = "".join(one if one.isascii() and one.isalnum() else "_" for one in name)[:60]
        plain = plain if plain[:1].isalpha() else f"layer_{plain}"
        number, free = 1, plain
        while free in self.names:
            number += 1
            free = f"{plain}_{number}"
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
        self.written.notes.append(f"keras: layer `{self.layer.name}`: {text}")

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
        self, name: str, default: Any, fan_in: float, fan_out: float, *, depthwise: bool = False
    ) -> dict[str, Any]:
        """The initializer in an argument, for a kernel with these fans as Keras counts them."""
        fans = (DepthwiseFans if depthwise else Fans)(fan_in, fan_out)
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
        if init:
            entry["init"] = dict(init)
        self.written.layers.append({**entry, "inputs": [one.name for one in inputs]})
        self.written.pointers.append(self.layer.pointer)
        self.flow = Flow(name, applied.output, self.flow.first if first is None else first)
