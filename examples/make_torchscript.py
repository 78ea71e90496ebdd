"""Writes the seed cases that a spec cannot say as TorchScript files.

    python examples/make_torchscript.py FOLDER

writes identity_stack_1_5.pt, identity_stack_0_5.pt and logistic_map.pt.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

DEPTH, WIDTH = 20, 10


class LogisticMap(nn.Module):
    """f(x) = 3.5·x·(1 - x), six times: no parameters, a gradient to the input all the same."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1) within 0 … 1 → the same shape and range."""
        for _ in range(6):
            x = 3.5 * x * (1.0 - x)
        return x


def identity_stack(factor: float) -> nn.Sequential:
    """Twenty linear layers without bias, each W = factor·I: 19 of them stand between the first
    layer's output and the last's, so the gradient changes factor¹⁹-fold."""
    layers = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(factor * torch.eye(WIDTH))
    return nn.Sequential(*layers)


def write(folder: Path) -> None:
    """All of them, into an existing folder."""
    models = {
        "identity_stack_1_5": identity_stack(1.5),
        "identity_stack_0_5": identity_stack(0.5),
        "logistic_map": LogisticMap(),
    }
    with warnings.catch_warnings():
        # TorchScript is deprecated, and still what many deploy.
        warnings.simplefilter("ignore")
        for name, model in models.items():
            torch.jit.script(model).save(str(folder / f"{name}.pt"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
