"""What a functional Keras model says about who takes what: `inbound_nodes`, one for every use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from service.domain.grammar.faults import below
from service.domain.keras.graph import Untranslatable

MASKS = ("mask", "query_mask", "value_mask", "key_mask")
"""Keyword arguments that Keras adds by itself behind mask_zero=True and Masking."""
Use = tuple[str, int]
"""A layer's name, and which use of it, from 0."""


@dataclass(frozen=True, slots=True)
class Call:
    """One use of an entry."""

    entry: int
    """Place in the list of layers."""
    turn: int
    """Which use of it, from 0."""
    sources: tuple[Use, ...]
    """What it takes."""
    keywords: Mapping[str, Any]
    """Its keyword arguments."""


def calls_in_order(entries: list[Any], names: list[str], pointer: str) -> Iterator[Call]:
    """Every use, those first that others take; else as they are listed."""
    calls = _calls(entries, names, pointer)
    waiting = {key: len(set(call.sources)) for key, call in calls.items()}
    users: dict[Use, list[Use]] = {}
    for key, call in calls.items():
        for source in dict.fromkeys(call.sources):
            users.setdefault(source, []).append(key)
    ready = sorted((call.entry, call.turn) for key, call in calls.items() if not waiting[key])
    done: set[Use] = set()
    while ready:
        entry, turn = heappop(ready)
        key = (names[entry], turn)
        done.add(key)
        yield calls[key]
        for user in users.get(key, ()):
            waiting[user] -= 1
            if not waiting[user]:
                heappush(ready, (calls[user].entry, calls[user].turn))
    for (name, _), call in calls.items():
        for missing, _turn in (one for one in call.sources if one not in done):
            detail = f"layer `{name}` takes `{missing}`, which does not come before it"
            raise Untranslatable(detail, pointer=below(pointer, call.entry, "inbound_nodes"))


def _calls(entries: list[Any], names: list[str], pointer: str) -> dict[Use, Call]:
    calls: dict[Use, Call] = {}
    for index, (entry, name) in enumerate(zip(entries, names, strict=True)):
        if (name, 0) in calls:
            detail = f"two layers are called `{name}`"
            raise Untranslatable(detail, pointer=below(pointer, index, "name"))
        nodes = entry.get("inbound_nodes") or []
        if not isinstance(nodes, list):
            where = below(pointer, index, "inbound_nodes")
            raise Untranslatable("`inbound_nodes` must be a list", pointer=where)
        for turn, node in enumerate(nodes or [None]):
            sources = tuple(references(_without_masks(node)))
            calls[name, turn] = Call(index, turn, sources, _keywords(node))
    return calls


def _without_masks(node: Any) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get("kwargs"), dict):
        return node
    kept = {name: said for name, said in node["kwargs"].items() if name not in MASKS}
    return {**node, "kwargs": kept}


def references(node: Any) -> Iterator[Use]:
    """The uses that a call names: Keras 3 by `keras_history`, Keras 2 as [name, use, 0, {}]."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if one.get("class_name") == "__keras_tensor__":
                name, turn, *_ = one["config"]["keras_history"]
                yield str(name), int(turn)
            else:
                waiting.extend(reversed(one.values()))
        elif isinstance(one, list):
            if len(one) >= 3 and isinstance(one[0], str) and type(one[1]) is int:
                yield one[0], one[1]
                one = one[3:]
            waiting.extend(reversed(one))


def _keywords(node: Any) -> Mapping[str, Any]:
    """Keras 3 has them apart, Keras 2 behind the first input."""
    if isinstance(node, dict):
        said = node.get("kwargs")
    else:
        first = node[0] if isinstance(node, list) and node else None
        said = first[3] if isinstance(first, list) and len(first) > 3 else None
    return said if isinstance(said, dict) else {}
