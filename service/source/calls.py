"""Calls in a source text: constructors of torch.nn, functions of torch.nn.init."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from service.domain.architecture import InitCall, LayerNode
from service.domain.layers import LAYER_TYPES
from service.domain.layers.signature import REQUIRED
from service.source.own_classes import OWN_CLASSES


def construction(layer_type: str, args: Mapping[str, Any]) -> str:
    """nn.Linear(64, 10, bias=False): by position what has no default, the rest by name.

    Nothing is computed in place, as the model was measured without."""
    known = LAYER_TYPES[layer_type].arguments
    given = [one for one in known if one.name in args and one.name != "inplace"]
    written: list[str] = []
    for argument in given:
        value = literal(args[argument.name])
        by_position = argument.default is REQUIRED and argument is known[len(written)]
        written.append(value if by_position else f"{argument.name}={value}")
    return f"{class_name(layer_type)}({', '.join(written)})"


def class_name(layer_type: str) -> str:
    """As the source names it: what torch.nn lacks is a class of its own there."""
    return layer_type if layer_type in OWN_CLASSES else f"nn.{layer_type}"


def initializations(node: LayerNode, attribute: str) -> Iterable[str]:
    """The call that fills each parameter which does not keep PyTorch's default."""
    for parameter, call in node.init.items():
        yield _initialization(f"{attribute}.{_path(parameter)}", call, node.parameters[parameter])


def parametrizations(node: LayerNode, attribute: str) -> Iterable[str]:
    """The call that makes each weight a computed one, once it was initialized."""
    for parameter, how in node.parametrizations.items():
        args = "".join(f", {name}={literal(value)}" for name, value in how.args.items())
        yield f'nn.utils.parametrizations.{how.name}({attribute}, "{parameter}"{args})'


def _initialization(target: str, call: InitCall, shape: tuple[int, ...]) -> str:
    if call.name == "forget_gate_":
        # torch orders the gates of an LSTM: input, forget, cell, output.
        quarter = shape[0] // 4
        rows = f"{target}.detach()[{quarter}:{2 * quarter}]"
        return f"nn.init.constant_({rows}, {literal(call.args.get('val', 1.0))})"
    args = "".join(f", {name}={literal(value)}" for name, value in call.args.items())
    return f"nn.init.{call.name}({target}{args})"


def _path(parameter: str) -> str:
    """layers.0.linear1.weight → layers[0].linear1.weight."""
    first, *rest = parameter.split(".")
    return first + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in rest)


def literal(value: Any) -> str:
    """A JSON value as Python has it; lists are tuples, layers are constructed."""
    if isinstance(value, list | tuple):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, Mapping):
        return construction(value["type"], value.get("args", {}))
    return repr(value)
