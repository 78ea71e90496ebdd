"""The gain of a layer taken apart: how much each part of its own path passes of the gradient."""

from __future__ import annotations

from collections.abc import Mapping

from service.probing.chains import (
    ACTIVATION,
    NORMALIZATION,
    OTHER,
    OWN_RESIDUAL,
    RESIDUAL,
    TOLD_APART,
    WEIGHT,
    Chain,
)

PARTS = (WEIGHT, ACTIVATION, NORMALIZATION, RESIDUAL)
UNEXPLAINED = "unexplained"
PREFIX = "gradient.gain_parts."
WORTH_NAMING = 0.05
"""Relative distance from 1 at which what is none of the parts (dropout, pooling, scaling) is
named."""
BRANCH = -1
"""In place of a part's number: where the data leaves for the weights, beside a skip."""


def factors(
    index: int,
    chain: Chain,
    norms: Mapping[tuple[int, int], float | None],
    at_entry: float | None,
    at_output: float | None,
) -> dict[str, float | None]:
    """What each kind of part multiplies the norm of the gradient by on its way back, by dotted
    statistic name; the product is at_entry / at_output. `norms`: on the way, by layer and part."""
    found: dict[str, float | None] = {}
    last = len(chain.parts) - 1
    before = norms.get((index, BRANCH)) if chain.branch_users else at_entry
    for number, part in enumerate(chain.parts):
        if part.kind == OWN_RESIDUAL:
            found[PREFIX + RESIDUAL] = _ratio(at_entry, norms.get((index, BRANCH)))
            continue
        after = at_output if number == last else norms.get((index, number))
        name = PREFIX + _named(part.kind)
        found[name] = _product(found.get(name, 1.0), _ratio(before, after))
        before = after
    return found


def gain_parts(means: Mapping[str, float | None]) -> dict[str, float | None] | None:
    """weight, activation, normalization, residual (None where a layer has no such part), and
    `unexplained` where the rest is more than `WORTH_NAMING` away from 1; None for layers that are
    no chain. `means`: statistics by dotted name."""
    found = {name.removeprefix(PREFIX): v for name, v in means.items() if name.startswith(PREFIX)}
    if not found:
        return None
    rest = found.pop(UNEXPLAINED, None)
    parts: dict[str, float | None] = {name: found.get(name) for name in PARTS}
    if rest is not None and abs(rest - 1.0) > WORTH_NAMING:
        parts[UNEXPLAINED] = rest
    return parts


def _named(kind: str) -> str:
    if kind in TOLD_APART:
        return NORMALIZATION
    return UNEXPLAINED if kind == OTHER else kind


def _ratio(below: float | None, above: float | None) -> float | None:
    return below / above if above and below is not None else None


def _product(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first * second
