"""Models of real size as TorchScript through the whole service, upload included."""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import torch
from torch import Tensor, nn

from benchmarks.large_model import GPT2, VOCABULARY
from benchmarks.performance.models import resnet
from benchmarks.performance.serving import server
from benchmarks.performance.timing import table

TITLE = "Real size"
TEXT = """Traced in train mode, posted in one multipart call with `budget_seconds` 60 (the
default) and 8 GiB a child, one worker. Aims: ResNet-50 ≤ 60 s, the others ≤ 180 s, upload
included, and no model called unhealthy."""
WORDS = 128


class ViT(nn.Module):
    """ViT-B/16 (Dosovitskiy et al. 2021), initialized as timm does (std .02)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 768, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 768))
        self.places = nn.Parameter(torch.randn(1, 197, 768) * 0.02)
        self.body, self.norm = _encoder(norm_first=True), nn.LayerNorm(768)
        self.head = nn.Linear(768, 1000)
        _normal(self)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        token = self.token.expand(patches.shape[0], -1, -1)
        hidden = self.body(torch.cat([token, patches], 1) + self.places)
        logits: Tensor = self.head(self.norm(hidden)[:, 0])
        return logits


class Bert(nn.Module):
    """BERT-base with a head over words that shares their embedding (std .02)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30522, 768), nn.Embedding(512, 768)
        self.norm, self.body = nn.LayerNorm(768), _encoder(norm_first=False)
        _normal(self)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.words(x) + self.places(torch.arange(x.shape[1])))
        return nn.functional.linear(self.body(hidden), self.words.weight)


def _encoder(*, norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        768, 12, 3072, activation="gelu", batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)


def _normal(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.shape[0] > 1:
            nn.init.normal_(parameter, std=0.02)


@dataclass(frozen=True, slots=True)
class Large:
    """One row."""

    name: str
    build: Callable[[], nn.Module]
    input: dict[str, Any]
    seconds: float
    """Aimed at."""


def _words(count: int) -> dict[str, Any]:
    return {"shape": [WORDS], "dtype": "int64", "high": count}


IMAGE = {"shape": [3, 224, 224]}
LARGE = (
    Large("ResNet-50", lambda: resnet((3, 4, 6, 3), 1000, bottleneck=True, large=True), IMAGE, 60),
    Large("ViT-B/16", ViT, IMAGE, 180),
    Large("BERT-base, T 128", Bert, _words(30522), 180),
    Large("GPT-2 small, T 128", GPT2, _words(VOCABULARY), 180),
)


def section() -> str:
    """Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with server(folder, 8192) as running:
            rows = [_row(running.address, large, folder / "model.pt") for large in LARGE]
    head = ["model", "file, MB", "answer, s", "aim, s", "verdict", "peak, MiB", "cut"]
    return f"{TEXT}\n\n{table(head, rows)}"


def _row(address: str, large: Large, path: Path) -> list[str]:
    _save(large, path)
    request = {"probe": {"inputs": [large.input]}, "fresh": True}
    began = time.perf_counter()
    with path.open("rb") as file:
        answer = httpx2.post(
            f"{address}/v1/analyses?wait=300",
            files={"model": file},
            data={"request": json.dumps(request)},
            timeout=400,
        )
    took = time.perf_counter() - began
    told: dict[str, Any] = answer.json()
    diagnosis, cost = told.get("diagnosis") or {}, told.get("cost") or {}
    notes = [note for note in told.get("notes", ()) if note.startswith(("budget:", "memory:"))]
    return [
        large.name,
        f"{path.stat().st_size / 1e6:,.0f}",
        f"{took:.1f}",
        f"{large.seconds:g}",
        str(diagnosis.get("verdict") or told.get("error")),
        f"{cost.get('peak_memory_mb') or 0:,.0f}",
        "; ".join(note.partition(";")[0] for note in notes) or "nothing",
    ]


def _save(large: Large, path: Path) -> None:
    torch.manual_seed(0)
    shape = (2, *large.input["shape"])
    example = torch.zeros(shape, dtype=torch.int64) if "high" in large.input else torch.randn(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(large.build(), example, check_trace=False), path)
