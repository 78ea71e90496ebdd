"""Perceptrons and recurrent members, as modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.tasks import CLASSES


def perceptron() -> nn.Module:
    """Three hidden layers at PyTorch's default."""
    layers: list[nn.Module] = []
    for given in (64, 64, 64):
        layers += [nn.Linear(given, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, CLASSES))


def regression() -> nn.Module:
    """A small perceptron with one real output."""
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )


def autoencoder() -> nn.Module:
    """64 numbers through 8 and back."""
    encoder = [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)]
    return nn.Sequential(*encoder, nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))


class Recurrent(nn.Module):
    """The last step of a recurrent network, and a head."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.rnn = cell(8, 32, 2, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.rnn(x)
        y: Tensor = self.head(hidden[:, -1])
        return y


class LoRA(nn.Module):
    """A linear layer with a low-rank correction that starts at zero (Hu et al. 2022)."""

    def __init__(self, given: int, wanted: int) -> None:
        super().__init__()
        self.base = nn.Linear(given, wanted)
        self.base.requires_grad_(requires_grad=False)
        self.a = nn.Parameter(torch.empty(4, given))
        self.b = nn.Parameter(torch.zeros(wanted, 4))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + functional.linear(functional.linear(x, self.a), self.b)
        return y


def lora() -> nn.Module:
    """Corrections to the hidden layers of a frozen perceptron, and a new head."""
    hidden = [LoRA(64, 64), nn.ReLU(), LoRA(64, 64), nn.ReLU(), LoRA(64, 64), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(64, CLASSES))
