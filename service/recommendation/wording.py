"""How recommendations speak of layers."""

from __future__ import annotations

from collections.abc import Sequence


def counted(layers: Sequence[str]) -> str:
    """The one layer's name, or how many there are."""
    return layers[0] if len(layers) == 1 else f"{len(layers)} layers"
