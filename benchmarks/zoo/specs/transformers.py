"""Transformers and the mixer, as specs.

A spec has no parameters of its own beside its layers', no causal mask and no shared layers: there
are no embeddings of places and no class token (the tokens are averaged), GPT-2's blocks see the
whole text, and its head is not the embedding.
"""

from __future__ import annotations

import math
from typing import Any

from benchmarks.zoo.specs.layers import (
    ZEROS,
    Init,
    Layer,
    begun,
    group,
    joined,
    layer,
    normal,
    spec,
    truncated,
)
from benchmarks.zoo.tasks import CLASSES, TOKENS, WORDS

Spec = dict[str, Any]

WIDTH, BLOCKS = 32, 6


def _block(name: str, weights: Init, into_stream: Init, *, pre: bool) -> Layer:
    """A transformer block; `into_stream`: of what is added to the residual stream."""
    made = layer(
        "TransformerEncoderLayer",
        name,
        nhead=4,
        dim_feedforward=4 * WIDTH,
        activation="gelu",
        norm_first=pre,
    )
    init = {
        "self_attn.in_proj_weight": weights,
        "self_attn.out_proj.weight": into_stream,
        "linear1.weight": weights,
        "linear2.weight": into_stream,
        "linear1.bias": ZEROS,
        "linear2.bias": ZEROS,
    }
    return begun(made, init)


def language(*, gpt: bool) -> Spec:
    """Words in, a distribution over words at each place out; std .02, GPT-2 scales what is added
    to the stream by 1/√(2·blocks)."""
    std = normal(0.02)
    deep = normal(0.02 / math.sqrt(2 * BLOCKS)) if gpt else std
    embedding = layer("Embedding", "words", num_embeddings=TOKENS, embedding_dim=WIDTH)
    blocks = [_block(f"block{index}", std, deep, pre=gpt) for index in range(BLOCKS)]
    head = begun(layer("Linear", "head", out_features=TOKENS, bias=False), {"weight": std})
    norm = layer("LayerNorm", "norm")
    words = begun(embedding, {"weight": std})
    layers = [words, *blocks, norm, head] if gpt else [words, norm, *blocks, head]
    return spec([WORDS], layers, dtype="int64")


def _averaged(tokens: int) -> list[Layer]:
    """(tokens, features) → (features)."""
    return [
        layer("Unflatten", dim=1, unflattened_size=[1, tokens]),
        layer("AdaptiveAvgPool2d", output_size=[1, WIDTH]),
        layer("Flatten"),
    ]


def vit(*, zero_head: bool) -> Spec:
    """A row of pixels is a patch; timm's initialization, std .02."""
    std = truncated()
    blocks = [_block(f"block{index}", std, std, pre=True) for index in range(BLOCKS)]
    head = layer("Linear", "head", out_features=CLASSES)
    layers = [
        layer("Flatten", start_dim=1, end_dim=2),
        layer("Linear", "patch", out_features=WIDTH),
        *blocks,
        layer("LayerNorm"),
        *_averaged(16),
        begun(head, {"weight": ZEROS}) if zero_head else head,
    ]
    return spec([1, 16, 16], layers)


def mixer() -> Spec:
    """MLP-Mixer over the rows of the image (Tolstikhin et al. 2021): a 1×1 convolution with the
    places as channels mixes them; the head starts at zero, as in the paper."""
    across = [
        layer("LayerNorm", "norm1"),
        layer("Conv1d", "across1", out_channels=32, kernel_size=1),
        layer("GELU"),
        layer("Conv1d", "across2", out_channels=8, kernel_size=1),
        joined("Add", "mixed", ["across2", "input"]),
    ]
    within = [
        layer("LayerNorm", "norm2"),
        layer("Linear", "within1", out_features=64),
        layer("GELU"),
        layer("Linear", "within2", out_features=WIDTH),
        joined("Add", "sum", ["within2", "mixed"]),
    ]
    head = layer("Linear", "head", out_features=CLASSES)
    layers = [
        layer("Linear", "embed", out_features=WIDTH),
        group("block", [*across, *within], 4),
        layer("LayerNorm"),
        *_averaged(8),
        begun(head, {"weight": ZEROS, "bias": ZEROS}),
    ]
    return spec([8, 8], layers)
