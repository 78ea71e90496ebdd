"""A GPT-2-sized model (124M parameters, T = 128) through the whole service, upload included.

    python -m benchmarks.large_model [--memory-mb 8192] [--seconds 180]

Starts a server of its own on a free loopback port, uploads the traced model in one call and prints
what the answer took, what it cost and what it says. Exit code 1 when the answer is not a verdict
or came too late.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import httpx2
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.performance.serving import server

STEPS = 128
VOCABULARY = 50257


class Block(nn.Module):
    """A pre-norm transformer block as in GPT-2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        split = self.attention(self.norm1(x)).view(batch, steps, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.projection(mixed.transpose(1, 2).reshape(batch, steps, width))
        hidden = functional.gelu(self.expand(self.norm2(x)), approximate="tanh")
        out: Tensor = x + self.contract(hidden)
        return out


class GPT2(nn.Module):
    """GPT-2 small with tied embeddings, initialized as its authors did (std .02, residual
    projections scaled by 1/√(2·layers))."""

    def __init__(
        self, width: int = 768, layers: int = 12, heads: int = 12, vocabulary: int = VOCABULARY
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(1024, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                last = name.endswith(("projection.weight", "contract.weight"))
                nn.init.normal_(parameter, std=0.02 / ((2 * layers) ** 0.5 if last else 1.0))

    def forward(self, indices: Tensor) -> Tensor:
        x = self.tokens(indices) + self.positions(torch.arange(indices.shape[1]))
        for block in self.blocks:
            x = block(x)
        return functional.linear(self.norm(x), self.tokens.weight)


def save(path: Path) -> None:
    """Trace and save it."""
    torch.manual_seed(0)
    example = torch.zeros(2, STEPS, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(GPT2(), example, check_trace=False), path)


def ask(address: str, model: Path, seconds: float) -> dict[str, Any]:
    """One multipart call, as a CI step would make it."""
    inputs = [{"shape": [STEPS], "dtype": "int64", "high": VOCABULARY}]
    with model.open("rb") as file:
        answer = httpx2.post(
            f"{address}/v1/analyses?wait={seconds:g}",
            files={"model": file},
            data={"request": json.dumps({"probe": {"inputs": inputs}})},
            timeout=seconds + 60,
        )
    body: dict[str, Any] = answer.json()
    return body


def main() -> int:
    """Build, upload, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--memory-mb", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=180)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "gpt2.pt"
        save(model)
        with server(folder, options.memory_mb) as running:
            began = time.perf_counter()
            body = ask(running.address, model, options.seconds)
            took = time.perf_counter() - began
        print(f"{model.stat().st_size / 1e6:.0f} MB uploaded and answered in {took:.1f} s")
    print(json.dumps({key: body.get(key) for key in ("status", "error", "notes", "cost", "model")}))
    diagnosis = body.get("diagnosis") or {}
    print(diagnosis.get("verdict"), "-", diagnosis.get("summary"))
    return 0 if diagnosis and took <= options.seconds else 1


if __name__ == "__main__":
    sys.exit(main())
