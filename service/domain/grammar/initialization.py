"""Which parameter each key of `init` means."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator


def assign(keys: Collection[str], parameters: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The key of every parameter that one matches, in the parameters' order, and the keys that
    match none.

    A key is a parameter's name or the start of one; inside a composed layer it may also begin
    after any dot (linear1.weight, weight). A key that is a whole name means those parameters
    alone: weight_ih_l1 is not weight_ih_l10. The longest key wins, of equally long ones the one
    that begins further left.
    """
    tails = {name: list(_tails(name)) for name in parameters}
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


def _matching(key: str, tails: dict[str, list[str]]) -> dict[str, int]:
    """Parameters that a key means → after how many dots it begins."""
    whole = {name: ends.index(key) for name, ends in tails.items() if key in ends}
    if whole or not key:
        return whole
    return {
        name: place
        for name, ends in tails.items()
        for place, end in reversed(list(enumerate(ends)))
        if end.startswith(key)
    }
