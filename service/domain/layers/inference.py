"""Arguments that PyTorch's lazy modules, or anyone, can read off the input."""

from __future__ import annotations

from typing import Any

from service.domain.layers.signature import Infer
from service.domain.layers.tensor import Inputs


def last_size(position: int = 0) -> Infer:
    """Features: the size of the last dimension of one input."""
    return lambda inputs, _given: inputs[position].shape[-1]


def first_size() -> Infer:
    """Channels: the size of the dimension after the batch."""
    return lambda inputs, _given: inputs[0].shape[0]


def trailing_sizes() -> Infer:
    """normalized_shape: as many trailing sizes as were given, the last one when left out."""

    def infer(inputs: Inputs, given: Any) -> Any:
        shape = inputs[0].shape
        if isinstance(given, list | tuple):
            return type(given)(shape[-len(given) :])
        return shape[-1]

    return infer
