"""What flows between layers, and the error of two that do not fit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
"""Sizes of one sample: the batch dimension, which comes first, is left out."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What one layer hands to the next."""

    shape: Shape
    """Per sample."""
    dtype: str = "float32"
    """float32, int64 or int32."""

    @property
    def is_integer(self) -> bool:
        return self.dtype.startswith("int")


Inputs = tuple[Tensor, ...]


class Misfit(Exception):
    """Arguments and inputs that do not fit each other."""

    def __init__(
        self,
        takes: str,
        gives: str,
        *,
        argument: str = "",
        position: int = 0,
        within: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"takes {takes} but gets {gives}")
        self.takes = takes
        """What the layer wants; follows "layer `fc2` takes "."""
        self.gives = gives
        """What it gets; follows "but `fc1` gives "."""
        self.steps = (*within, argument) if argument else within
        """The argument that says otherwise, after the way to it through a layer that is itself an
        argument; empty when it is the layer as such."""
        self.position = position
        """Which of the inputs."""


def listed(shape: Iterable[int]) -> str:
    """A shape in a message: [3, 32, 32]."""
    return "[" + ", ".join(map(str, shape)) + "]"


def elements(shape: Iterable[int]) -> int:
    """Numbers in a tensor of these sizes."""
    return math.prod(shape)


def per_side(value: Any, count: int) -> tuple[Any, ...]:
    """A value given once for all spatial sides, or a list of one per side, as one per side."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * count
