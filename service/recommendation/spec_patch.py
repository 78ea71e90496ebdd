"""RFC 6902 operations on the submitted spec; None where the change cannot be said there."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import jsonpatch

from service.domain.architecture import Architecture, resolve
from service.domain.expanded import expanded, expanded_names
from service.recommendation.initialization import Draw
from service.recommendation.spec_editing import CannotSay, Editing, Operation

Patch = tuple[Operation, ...]
Called = Callable[[str], str]
"""From a layer's name in the submitted network to its name in the spec at hand."""


def applied(spec: Mapping[str, Any], operations: Iterable[Mapping[str, Any]]) -> Architecture:
    """The submitted spec after the operations, resolved. Raises InvalidRequest, and jsonpatch's
    own errors where an operation does not fit the spec."""
    return resolve(jsonpatch.apply_patch(dict(spec), [dict(one) for one in operations]))


def edited(
    architecture: Architecture, edit: Callable[[Editing, Called], None]
) -> tuple[Editing, Called]:
    """The submitted spec after an edit that names layers by `Called`.

    Where it cannot be said on the spec as it is written (groups nested to the limit, names that
    would change their meaning), the network is written out first, layer by layer. Raises CannotSay
    where it cannot be said at all."""
    uses = _uses(architecture)

    def as_submitted(name: str) -> str:
        return uses.get(name, name)

    try:
        editing = Editing(architecture.submitted)
        edit(editing, as_submitted)
        return editing, as_submitted
    except CannotSay:
        editing = Editing(architecture.submitted)
        written = expanded(architecture)
        if len(architecture.inputs) > 1:  # their names may have become others
            editing.do("replace", "/input", written["input"])
        editing.do("replace", "/layers", written["layers"])
        names = expanded_names(architecture)

        def called(name: str) -> str:
            submitted = as_submitted(name)
            return names.get(submitted, submitted)

        edit(editing, called)
        return editing, called


def _uses(architecture: Architecture) -> dict[str, str]:
    """What the recorded graph calls the further uses of a shared layer → what the spec does."""
    found, counts = {}, dict.fromkeys((node.name for node in architecture.layers), 1)
    for node in architecture.layers:
        if node.shares is not None:
            counts[node.shares] += 1
            found[f"{node.shares}#{counts[node.shares]}"] = node.name
    return found


def initialize(architecture: Architecture, draws: Iterable[Draw]) -> Patch | None:
    """Set the `init` of every layer that a draw concerns, what else it says kept."""
    calls = {draw.parameter: (draw.function, draw.args) for draw in draws}
    return _patch(architecture, lambda editing, called: redraw(editing, called, calls))


def insert_after(
    architecture: Architecture, layers: Mapping[str, Mapping[str, Any]], ending: str = "norm"
) -> Patch | None:
    """Put a new layer behind each named one, called as that one and `ending`."""

    def edit(editing: Editing, called: Called) -> None:
        editing.insert_after({called(name): new for name, new in layers.items()}, ending)

    return _patch(architecture, edit)


def redraw(
    editing: Editing, called: Called, calls: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> None:
    """Set the `init` of parameters, which are named as in the submitted network. Raises
    CannotSay for those of no layer."""
    names = {node.name for node in editing.architecture.layers}
    wanted: dict[str, dict[str, Any]] = {}
    for parameter, (function, args) in calls.items():
        owner, key = owner_of(parameter, called, names)
        wanted.setdefault(owner, {})[key] = {"name": function, "args": dict(args)}
    editing.initialize(wanted)


def owner_of(parameter: str, called: Called, known: Container[str]) -> tuple[str, str]:
    """The layer of the spec at hand that has a parameter, and what it is called within; `known`:
    names of its layers. Raises CannotSay."""
    owner, dot, key = parameter.rpartition(".")
    while dot:
        if called(owner) in known:
            return called(owner), key
        owner, dot, part = owner.rpartition(".")
        key = f"{part}.{key}"
    raise CannotSay(f"no layer has the parameter {parameter}")


def _patch(architecture: Architecture, edit: Callable[[Editing, Called], None]) -> Patch | None:
    try:
        editing, _ = edited(architecture, edit)
        return tuple(editing.operations)
    except CannotSay:
        return None
