"""What a short training needs of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from service.probing.devices import CPU


class Trainable(Protocol):
    """A model that can be trained and put back."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Leaf tensors that require grad, updated in place."""

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Tensors that forward itself may change, such as running means."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """The output for one batch of the recorded size."""

    def reset(self) -> None:
        """Give parameters and buffers their initial values back."""


def device_of(model: Trainable) -> torch.device:
    """Where it computes."""
    return next((value.device for value in model.parameters.values()), CPU)
