"""Weights as a safetensors file (https://github.com/huggingface/safetensors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from safetensors.torch import save
from torch import Tensor


def write(file: IO[bytes], state: Mapping[str, Tensor]) -> int:
    """Write tensors by name, row-major; returns the file's size in bytes.

    The library makes the file in memory, once the size of the model: opening one by its path is
    what a sealed child cannot do."""
    seen: set[int] = set()
    size = file.write(save({name: _alone(tensor, seen) for name, tensor in state.items()}))
    file.flush()
    return size


def _alone(tensor: Tensor, seen: set[int]) -> Tensor:
    """Contiguous, in memory that no other tensor of the file is in: the format has no sharing."""
    dense = tensor.detach().cpu().contiguous()
    place = dense.untyped_storage().data_ptr()
    if place in seen:
        return dense.clone()
    seen.add(place)
    return dense
