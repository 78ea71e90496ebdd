"""Several recommendations as one list of edits, in which every parameter is drawn once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.recommendations import Recommendation
from service.recommendation.initialization import significant

Change = dict[str, Any]
"""A recommendation's kind, layers and change, as JSON."""
ORDER = (
    "initializer",
    "input_scaling",
    "regularization",
    "normalization",
    "activation",
    "residual",
    "recurrent_cell",
    "pretraining",
)
"""Kinds that change the model, least invasive first; edits are made in this order."""


def changes_model(recommendation: Recommendation) -> bool:
    """Whether it is an edit of the model; weight decay, a regularization too, is none."""
    return recommendation.kind in ORDER and "weight_decay" not in recommendation.change


def combined(chosen: Sequence[Recommendation]) -> tuple[Change, ...]:
    """As edits, least invasive first. What is drawn by several is drawn by the last of them; the
    last weights of a residual branch behind a new activation get that activation's gain times the
    branch's scale."""
    ordered = sorted(chosen, key=lambda one: ORDER.index(one.kind))
    changes = [{"layers": list(one.layers), **one.change, "kind": one.kind} for one in ordered]
    most = min((change["dropout"] for change in changes if "dropout" in change), default=1.0)
    changes = [_hiding(change, most) for change in changes]
    drawn: dict[str, Mapping[str, Any]] = {}
    done: list[Change] = []
    for change in changes:
        done.append(_scaled(change, drawn) if change["kind"] == "residual" else change)
        drawn |= {draw["parameter"]: draw for draw in done[-1].get("parameters", ())}
    return tuple(_once(change, drawn) for change in done)


def _hiding(change: Change, most: float) -> Change:
    """New cells hide no more between their layers than a lowered dropout allows."""
    cells = change.get("cell_args")
    if cells is None:
        return change
    lower = {name: {**args, "dropout": min(args["dropout"], most)} for name, args in cells.items()}
    return {**change, "cell_args": lower}


def _scaled(change: Change, drawn: Mapping[str, Mapping[str, Any]]) -> Change:
    scale, ends = change["branch_scale"], change.get("scaled", ())

    def draw(own: Mapping[str, Any]) -> Mapping[str, Any]:
        other = drawn.get(own["parameter"])
        if other is None or own["parameter"] not in ends or other.get("gain") is None:
            return own if other is None else dict(other)
        gain = other["gain"] * scale
        std = own["args"]["std"] * gain / own["gain"]
        return {**own, "args": {"std": significant(std)}, "gain": significant(gain)}

    return {**change, "parameters": [draw(own) for own in change["parameters"]]}


def _once(change: Change, drawn: Mapping[str, Mapping[str, Any]]) -> Change:
    """Without the draws that a later change replaces."""
    if "parameters" not in change:
        return change
    kept = [draw for draw in change["parameters"] if drawn[draw["parameter"]] is draw]
    return {**change, "parameters": kept}
