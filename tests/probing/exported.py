"""Modules as exported programs (.pt2)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

ANY = torch.export.Dim("batch")


def exported(
    module: nn.Module,
    example: tuple[Tensor, ...],
    dynamic_shapes: Any = None,
    *,
    decomposed: bool = False,
    kwargs: Mapping[str, Any] | None = None,
) -> io.BytesIO:
    """The file torch.export.save writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module, example, dict(kwargs or {}), dynamic_shapes=dynamic_shapes
        )
        if decomposed:
            program = program.run_decompositions()
        file = io.BytesIO()
        torch.export.save(program, file)
    file.seek(0)
    return file


class Network(nn.Module):
    """A convolutional net with BatchNorm and dropout, over (3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(144, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.drop(torch.relu(self.bn(self.conv(x))).flatten(1)))
        return y


class Recurrent(nn.Module):
    """Tokens (6,) through an LSTM to the last step's classes; the embedding is the head, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        steps, _ = self.lstm(self.embedding(tokens))
        y: Tensor = self.head(steps[:, -1])
        return y


class Transformer(nn.Module):
    """Tokens (T,) with fixed places, weights (T,), a region without gradients, a dict as answer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(13, 8)
        self.places: Tensor
        self.register_buffer("places", torch.randn(1, 20, 8), persistent=False)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor, weights: Tensor) -> dict[str, Tensor]:
        x = self.embedding(tokens) + self.places[:, : tokens.shape[1]]
        with torch.no_grad():
            scale = x.std()
        x = self.encoder(x / scale * weights[..., None])
        return {"logits": self.head(x.mean(1)), "scale": scale}
