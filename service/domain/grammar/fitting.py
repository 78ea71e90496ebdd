"""Whether a layer fits what it gets: its type applied to its inputs, and what is wrong in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.errors import ShapeMismatch
from service.domain.grammar.faults import below
from service.domain.grammar.network import Network, Place
from service.domain.layers.layer_type import Applied, LayerType, Takes
from service.domain.layers.signature import BadArgument
from service.domain.layers.tensor import Inputs, Misfit

_ADVICE = {
    Takes.FLOATS.value: ": put an Embedding before it",
    Takes.INTEGERS.value: ': an input of `dtype` "int64" goes straight into it',
}
"""What to do about the wrong element type."""


@dataclass(frozen=True, slots=True)
class Use:
    """A type with its arguments and switches, where it stands and what it gets."""

    type: LayerType
    args: dict[str, Any]
    forward: dict[str, Any]
    inputs: Inputs
    sources: tuple[str, ...]
    """The layers that the inputs come from."""
    place: Place
    given: Mapping[str, Any]
    """The arguments that stand in this entry: faults point at them."""


def fitted(network: Network, use: Use) -> Applied | None:
    """The layer applied to its inputs, counted against the limits; None when it does not fit,
    which is noted."""
    if not use.type.takes_inputs(len(use.inputs)):
        name = f"layer `{use.place.path}` ({use.type.name})"
        detail = f"{name} takes {use.type.inputs_in_words} inputs, not {len(use.inputs)}"
        network.faults.add(below(use.place.pointer, "inputs"), detail)
        return None
    try:
        applied = use.type.apply(use.args, use.inputs)
    except BadArgument as fault:
        _bad_application(network, fault, use)
        return None
    except Misfit as misfit:
        _misfit(network, misfit, use, use.given)
        return None
    return applied if _can_be_called(network, use, applied) else None


def _can_be_called(network: Network, use: Use, applied: Applied) -> bool:
    try:
        use.type.check_call(use.forward, applied.args, use.inputs)
    except BadArgument as fault:
        bad_argument(network, fault, use.place, "forward")
    except Misfit as misfit:
        _misfit(network, misfit, use, {})
    else:
        return True
    return False


def _bad_application(network: Network, fault: BadArgument, use: Use) -> None:
    """A layer used again has no arguments of its own to point at."""
    if use.given is use.args:
        bad_argument(network, fault, use.place)
    else:
        network.faults.add(use.place.pointer, f"layer `{use.place.path}`: {fault.detail}")


def bad_argument(network: Network, fault: BadArgument, place: Place, field: str = "args") -> None:
    """Note what is wrong with an argument, or with a switch of `forward`."""
    pointer = below(place.pointer, field, *fault.steps)
    network.faults.add(pointer, f"layer `{place.path}`: {fault.detail}")


def _misfit(network: Network, misfit: Misfit, use: Use, given: Mapping[str, Any]) -> None:
    is_given = misfit.steps and misfit.steps[0] in given
    place, source = use.place, use.sources[misfit.position]
    pointer = below(place.pointer, "args", *misfit.steps) if is_given else place.pointer
    detail = f"layer `{place.path}` takes {misfit.takes} but `{source}` gives {misfit.gives}"
    network.faults.add(pointer, detail + _ADVICE.get(misfit.takes, ""), ShapeMismatch)
