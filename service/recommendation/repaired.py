"""The submitted spec after several changes: as a patch, written out, and what became of its names.

The changes are those that the probe made in the recorded graph; here the same is said on the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.domain.architecture import Architecture, LayerNode
from service.domain.expanded import expanded, expanded_names
from service.domain.layers import LAYER_TYPES
from service.domain.recommendations import module_name
from service.recommendation.spec_editing import CannotSay, Editing, has_state
from service.recommendation.spec_patch import Called, Patch, edited, redraw
from service.recommendation.spec_structure import (
    BEGINS_A_LAYER,
    INPUT_NORM,
    add_skips,
    exchange_cells,
    normalize_input,
)

Change = Mapping[str, Any]
"""A recommendation's kind, layers and change, as JSON."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A spec with its changes."""

    patch: Patch
    """RFC 6902 operations on the submitted spec."""
    spec: dict[str, Any]
    """Expanded (contract, "patched_spec")."""
    names: dict[str, str]
    """From modules with a state in the changed graph, the submitted ones and those added, to layers
    of `spec`: body.0.conv → body_0_conv."""


def repaired(architecture: Architecture, changes: Sequence[Change]) -> Repaired | None:
    """The spec after all of the changes; None where one cannot be said on a spec."""
    added: dict[str, str] = {}

    def edit(editing: Editing, called: Called) -> None:
        added.clear()
        for change in changes:
            say = _SAID.get(str(change.get("kind")))
            if say is None:
                raise CannotSay(f"a change of kind {change.get('kind')!r}")
            added.update(say(editing, called, change))

    try:
        editing, called = edited(architecture, edit)
        after = editing.architecture
    except CannotSay:
        return None
    names = expanded_names(after)
    stateful = (node.name for node in architecture.layers if has_state(node))
    known = {name: called(name) for name in stateful} | added
    return Repaired(
        patch=tuple(editing.operations),
        spec=expanded(after),
        names={module: names[layer] for module, layer in known.items()},
    )


def patch_of(architecture: Architecture | None, change: Change) -> Patch | None:
    """One change as a patch; None for files and where it cannot be said."""
    said = None if architecture is None else repaired(architecture, [change])
    return said.patch if said else None


def _initialize(editing: Editing, called: Called, change: Change) -> dict[str, str]:
    calls = {
        str(draw["parameter"]): (str(draw["initializer"]), draw.get("args", {}))
        for draw in change.get("parameters", ())
    }
    redraw(editing, called, calls)
    return {}


def _normalize(editing: Editing, called: Called, change: Change) -> dict[str, str]:
    wanted = {str(one["after"]): one for one in change["layers"]}
    new = editing.insert_after(
        {
            called(name): {"type": one["type"], "args": dict(one.get("args", {}))}
            for name, one in wanted.items()
        },
        "norm",
    )
    return {f"{module_name(name)}_norm": new[called(name)] for name in wanted}


def _replace_activations(editing: Editing, called: Called, change: Change) -> dict[str, str]:
    following = Following(editing.architecture, str(change["replaces"]))
    new = (str(change["activation"]), change.get("activation_args", {}))
    found = {name: following.activation_of(called(str(name))) for name in change["layers"]}
    editing.retype(dict.fromkeys(found.values(), new))
    _initialize(editing, called, change)
    return {f"{module_name(name)}_activation": layer for name, layer in found.items()}


def _add_skips(editing: Editing, called: Called, change: Change) -> dict[str, str]:
    begins = {called(str(last)): called(str(a)) for last, a in change.get("begins", {}).items()}
    shortcuts = {called(str(last)): one for last, one in change.get("projections", {}).items()}
    new = add_skips(editing, [called(str(name)) for name in change["layers"]], begins, shortcuts)
    added = {str(shortcuts[last]["name"]): layer for last, layer in new.items()}
    _initialize(editing, lambda name: added.get(name) or called(name), change)
    return added


def _exchange_cells(editing: Editing, called: Called, change: Change) -> dict[str, str]:
    exchange_cells(editing, [called(str(name)) for name in change["layers"]], str(change["cell"]))
    return _initialize(editing, called, change)


def _normalize_input(editing: Editing, _called: Called, change: Change) -> dict[str, str]:
    name = normalize_input(editing, change["normalization"], int(change.get("input", 0)))
    return {INPUT_NORM: name}


def _hide_less(editing: Editing, _called: Called, change: Change) -> dict[str, str]:
    """Every dropout that hides more, those within composed and recurrent layers too."""
    most = float(change["dropout"])
    hiding: dict[str, dict[str, Any]] = {}
    for node in editing.architecture.layers:
        kind = LAYER_TYPES[node.type]
        name = "p" if kind.category == "dropout" else "dropout"
        if kind.signature.complete(node.args).get(name, 0.0) > most:
            hiding[node.name] = {name: most}
    editing.argue(hiding)
    return {}


def _keep(_editing: Editing, _called: Called, _change: Change) -> dict[str, str]:
    """The spec stays as it is: the weights carry the change."""
    return {}


_SAID: dict[str, Callable[[Editing, Called, Change], dict[str, str]]] = {
    "initializer": _initialize,
    "normalization": _normalize,
    "activation": _replace_activations,
    "residual": _add_skips,
    "recurrent_cell": _exchange_cells,
    "input_scaling": _normalize_input,
    "regularization": _hide_less,
    "pretraining": _keep,
}
"""How each kind of change is said; each returns the modules it adds to the graph, by the layers
they are in the spec."""


class Following:
    """Finds the activation behind a layer."""

    def __init__(self, architecture: Architecture, wanted: str) -> None:
        """`wanted`: its class in torch.nn."""
        self._wanted = wanted
        self._readers: dict[str, list[LayerNode]] = {}
        for node in architecture.layers:
            for source in node.inputs:
                self._readers.setdefault(source, []).append(node)

    def activation_of(self, name: str) -> str:
        """The first one of the wanted type before the next weights. Raises CannotSay."""
        coming, seen = list(self._readers.get(name, ())), set()
        while coming:
            node = coming.pop(0)
            if node.type == self._wanted:
                return node.name
            if node.name not in seen and LAYER_TYPES[node.type].category not in BEGINS_A_LAYER:
                seen.add(node.name)
                coming += self._readers.get(node.name, ())
        raise CannotSay(f"no {self._wanted} follows {name}")
