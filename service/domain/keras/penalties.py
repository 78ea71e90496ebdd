"""Regularizers and constraints of a Keras layer. They change the loss or the steps, not the
network, so that a spec has no place for them: they are told, with the weight decay that is the
same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def penalties(config: Mapping[str, Any]) -> Iterator[str]:
    """What is left out, a line for each argument."""
    for name, said in config.items():
        if said and name.endswith("_regularizer"):
            yield f"{name}{_shown(said)} is left out of the loss{_as_decay(name, said)}"
        elif said and name.endswith("_constraint"):
            yield f"{name}{_shown(said)} is left out of the steps"


def _shown(said: Any) -> str:
    """L2(l2=0.01)."""
    if isinstance(said, str):
        return f" {said[:40]}"
    if not (isinstance(said, dict) and isinstance(said.get("class_name"), str)):
        return ""
    numbers = [f"{name}={value:g}" for name, value in _numbers(said).items()]
    return f" {said['class_name'][:40]}({', '.join(numbers)})"


def _as_decay(name: str, said: Any) -> str:
    """λ·Σw² in the loss adds 2λw to the gradient, as torch.optim.SGD's weight_decay 2λ does."""
    decay = 2 * float(_numbers(said).get("l2", 0.0))
    if not decay or name == "activity_regularizer":
        return ""
    return f"; its l2 is weight_decay={decay:g} of SGD for these weights"


def _numbers(said: Any) -> dict[str, float]:
    config = said.get("config") if isinstance(said, dict) else None
    found = config.items() if isinstance(config, dict) else ()
    return {
        str(name)[:20]: value
        for name, value in found
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
