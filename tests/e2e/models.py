"""Writes the TorchScript files that the gate is tried on: `python models.py FOLDER`. A process of
its own, so that the tests themselves never hold torch."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn


class Raising(nn.Module):
    """Its own code raises."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() > 0:
            raise ValueError("this model does not work")
        out: Tensor = self.fc(x)
        return out


def sick() -> nn.Module:
    """Thirty sigmoid layers."""
    body = [module for _ in range(30) for module in (nn.Linear(64, 64), nn.Sigmoid())]
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 64), *body, nn.Linear(64, 10))


def healthy() -> nn.Module:
    """A small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def write(folder: Path) -> None:
    """healthy.pt, sick.pt, raising.pt."""
    torch.manual_seed(0)
    example = torch.zeros(2, 3, 32, 32)
    for build in (sick, healthy):
        torch.jit.trace(build(), example).save(str(folder / f"{build.__name__}.pt"))
    torch.jit.script(Raising()).save(str(folder / "raising.pt"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
