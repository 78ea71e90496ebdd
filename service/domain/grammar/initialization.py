"""The `init` of a layer: which parameter each key means, and whether its function fits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from service.domain.architecture import InitCall
from service.domain.grammar.faults import Faults, below
from service.domain.grammar.limits import MAX_INIT_KEYS
from service.domain.layers.initializers import INITIALIZERS, DoesNotFit, Parameter
from service.domain.layers.signature import hint, quoted
from service.domain.layers.tensor import Shape

FIELDS = ("name", "args")


def read_init(
    asked: Mapping[str, Any],
    layer_type: str,
    parameters: Mapping[str, Shape],
    pointer: str,
    faults: Faults,
) -> dict[str, InitCall]:
    """The call that initializes each parameter which a key means, in the parameters' order.

    `pointer` is where `asked` stands; what is wrong is noted in `faults`.
    """
    if len(asked) > MAX_INIT_KEYS:
        faults.stop(pointer, f"`init` may have {MAX_INIT_KEYS} keys")
    calls = {key: _call(value, below(pointer, key), faults) for key, value in asked.items()}
    chosen, unmatched = assign(asked, parameters)
    for key in unmatched:
        known = hint(key, parameters) or f"; it has {', '.join([*parameters][:8]) or 'none'}"
        detail = f"no parameter of {layer_type} starts with {quoted(key)}{known}"
        faults.add(below(pointer, key), detail)
    init = {}
    for name, key in chosen.items():
        call = calls[key]
        if call is None:
            continue
        try:
            parameter = Parameter(layer_type, name, parameters[name])
            INITIALIZERS[call.name].check_fit(call.args, parameter)
        except DoesNotFit as fault:
            faults.add(below(pointer, key), str(fault))
            calls[key] = None  # one fault a key is enough
        init[name] = call
    return init


def assign(keys: Collection[str], parameters: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The key of every parameter that one matches, in the parameters' order, and the keys that
    match none.

    A key is a parameter's name or the start of one; inside a composed layer it may also begin
    after any dot (linear1.weight, weight). A key that is a whole name means those parameters
    alone: weight_ih_l1 is not weight_ih_l10. The longest key wins, of equally long ones the one
    that begins further left.
    """
    tails = {name: list(_tails(name)) for name in parameters} if keys else {}
    matches = {key: _matching(key, tails) for key in keys}
    chosen: dict[str, str] = {}
    for name in tails:
        fitting = [key for key in keys if name in matches[key]]
        if fitting:
            chosen[name] = max(fitting, key=lambda key: (len(key), -matches[key][name]))
    return chosen, [key for key in keys if not matches[key]]


def _tails(name: str) -> Iterator[str]:
    """The name, and what is left of it after each dot."""
    yield name
    for position, character in enumerate(name):
        if character == ".":
            yield name[position + 1 :]


def _matching(key: str, tails: Mapping[str, list[str]]) -> dict[str, int]:
    """Parameters that a key means → after how many dots it begins."""
    whole = {name: ends.index(key) for name, ends in tails.items() if key in ends}
    if whole or not key:
        return whole
    begun = {name: [end.startswith(key) for end in ends] for name, ends in tails.items()}
    return {name: starts.index(True) for name, starts in begun.items() if True in starts}


def _call(value: Any, pointer: str, faults: Faults) -> InitCall | None:
    if not isinstance(value, dict):
        faults.add(pointer, 'an initialization is an object like {"name": "zeros_"}')
        return None
    before = len(faults)
    faults.check_fields(pointer, value, FIELDS, "an initialization")
    name = value.get("name")
    if not isinstance(name, str) or name not in INITIALIZERS:
        known = (
            f"{quoted(name)}{hint(name, INITIALIZERS)}" if isinstance(name, str) else "without name"
        )
        faults.add(below(pointer, "name"), f"torch.nn.init has no function {known}")
        return None
    args = faults.object_at(value, "args", pointer)
    if args is None:
        return None
    for fault in INITIALIZERS[name].signature.faults(args):
        faults.add(below(pointer, "args", *fault.steps), fault.detail)
    return InitCall(name, dict(args)) if len(faults) == before else None
