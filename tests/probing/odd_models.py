"""Models that do what few do: a row of docs/models.md each."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Ends(nn.Module):
    """Something in the middle, then a head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.head = nn.Linear(width, 3)


class Branches(Ends):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):  # noqa: SIM108 - a branch, as TorchScript keeps it
            y = self.fc(x)
        else:
            y = self.other(x)
        out: Tensor = self.head(torch.relu(y))
        return out


class Loops(Ends):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.relu(self.fc(x))
        out: Tensor = self.head(x)
        return out


class InPlace(Ends):
    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        y.add_(1.0)
        y.relu_()
        z = y.clone()
        z[:, 0] = 0.0
        out: Tensor = self.head(z)
        return out


class Counts(Ends):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1.0)
        out: Tensor = self.head(torch.relu(self.norm(self.fc(x))))
        return out


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.embedding(x).mean(1)))
        return out


class Spectrum(Ends):
    def __init__(self) -> None:
        super().__init__(5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.fft.rfft(self.fc(x)).abs())
        return out


class ComplexWeights(Ends):
    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.randn(8, 8, dtype=torch.cfloat) / 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head((self.fc(x).to(torch.cfloat) @ self.turn).abs())
        return out


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8, sparse=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.embedding(x).mean(1))
        return out


class Checkpoints(Ends):
    def forward(self, x: Tensor) -> Tensor:
        def inner(y: Tensor) -> Tensor:
            return torch.tanh(self.fc(y))

        out: Tensor = self.head(checkpoint(inner, x, use_reentrant=False))
        return out


class Frozen(Ends):
    def __init__(self) -> None:
        super().__init__()
        self.fc.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.fc(x)))
        return out


class IntegerWeights(Ends):
    def __init__(self) -> None:
        super().__init__()
        self.bits: Tensor
        self.register_buffer("bits", torch.randint(-127, 127, (8, 8), dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.fc(x) @ (self.bits.float() * 0.01)))
        return out


class Expanded(Ends):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 8).expand(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.fc(x) @ self.scale))
        return out


class NoGradients(Ends):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = torch.relu(self.fc(x))
        out: Tensor = self.head(y)
        return out


class Mapped(Ends):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.fc(x))
        return {"hidden": hidden, "logits": self.head(hidden)}


def quantized() -> nn.Module:
    """As torch.ao.quantization leaves it."""
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        changed: nn.Module = torch.ao.quantization.quantize_dynamic(module, {nn.Linear})
    return changed
