"""The `parametrizations` of a layer: which of its weights are computed, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.architecture import Parametrization
from service.domain.grammar.faults import Faults, below
from service.domain.layers.layer_type import LayerType
from service.domain.layers.parametrization import PARAMETRIZATIONS, PARAMETRIZED
from service.domain.layers.signature import BadArgument, hint, quoted
from service.domain.layers.tensor import Shape

FIELDS = ("name", "args")


def read_parametrizations(
    asked: Mapping[str, Any],
    layer_type: LayerType,
    args: Mapping[str, Any],
    parameters: Mapping[str, Shape],
    pointer: str,
    faults: Faults,
) -> dict[str, Parametrization]:
    """By parameter. `pointer` is where `asked` stands; what is wrong is noted in `faults`."""
    found = {}
    for key, value in asked.items():
        here = below(pointer, key)
        if layer_type.category not in PARAMETRIZED:
            faults.add(here, f"the parameters of {layer_type.name} cannot be parametrized")
        elif args.get("max_norm") is not None:
            faults.add(here, "`max_norm` rewrites the weight, which would be a computed one")
        elif key not in parameters:
            known = hint(key, parameters) or f"; it has {', '.join(parameters) or 'none'}"
            faults.add(here, f"{layer_type.name} has no parameter {quoted(key)}{known}")
        elif (read := _read(value, parameters[key], here, faults)) is not None:
            found[key] = read
    return found


def _read(value: Any, shape: Shape, pointer: str, faults: Faults) -> Parametrization | None:
    if not isinstance(value, dict):
        faults.add(pointer, 'a parametrization is an object like {"name": "weight_norm"}')
        return None
    before = len(faults)
    faults.check_fields(pointer, value, FIELDS, "a parametrization")
    name = value.get("name")
    if not isinstance(name, str) or name not in PARAMETRIZATIONS:
        what = quoted(name) if isinstance(name, str) else "without name"
        detail = f"there is no parametrization {what}; there are {', '.join(PARAMETRIZATIONS)}"
        faults.add(below(pointer, "name"), detail)
        return None
    args = faults.object_at(value, "args", pointer)
    if args is None:
        return None
    kind = PARAMETRIZATIONS[name]
    wrong = kind.signature.faults(args)
    if not wrong:
        try:
            kind.stored(shape, kind.signature.complete(args))
        except BadArgument as misfit:
            wrong = [misfit]
    for fault in wrong:
        faults.add(below(pointer, "args", *fault.steps), fault.detail)
    return Parametrization(name, dict(args)) if len(faults) == before else None
