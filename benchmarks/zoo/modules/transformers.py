"""Transformers and the mixer, as modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.tasks import CLASSES, TOKENS, WORDS


class Attention(nn.Module):
    """Multi-head self-attention out of plain operations."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        y: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return y


class Block(nn.Module):
    """A transformer block, normalized before (GPT-2, ViT) or after (BERT) each branch."""

    def __init__(self, width: int, *, pre: bool, causal: bool) -> None:
        super().__init__()
        self.pre = pre
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, 4, causal=causal)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.1)

    def mix(self, x: Tensor) -> Tensor:
        """The feed-forward branch."""
        y: Tensor = self.drop(self.fc2(functional.gelu(self.fc1(x))))
        return y

    def forward(self, x: Tensor) -> Tensor:
        if self.pre:
            x = x + self.drop(self.attention(self.norm1(x)))
            return x + self.mix(self.norm2(x))
        x = self.norm1(x + self.drop(self.attention(x)))
        y: Tensor = self.norm2(x + self.mix(x))
        return y


class Language(nn.Module):
    """Words in, a distribution over words at each place out."""

    def __init__(self, *, gpt: bool, width: int = 32, blocks: int = 6) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(TOKENS, width), nn.Embedding(WORDS, width)
        self.blocks = nn.ModuleList(Block(width, pre=gpt, causal=gpt) for _ in range(blocks))
        self.embedded = nn.Identity() if gpt else nn.LayerNorm(width)
        self.norm = nn.LayerNorm(width) if gpt else nn.Identity()
        self.head = nn.Linear(width, TOKENS, bias=False)
        self.register_buffer("index", torch.arange(WORDS))
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                deep = gpt and name.endswith(("proj.weight", "fc2.weight"))
                # GPT-2 scales what is added to the stream by 1/√(2·blocks).
                nn.init.normal_(parameter, 0, 0.02 / (math.sqrt(2 * blocks) if deep else 1.0))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if gpt:
            self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embedded(self.words(x) + self.places(self.index))
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.head(self.norm(hidden))
        return logits


class ViT(nn.Module):
    """Patches, a class token, pre-normalized blocks (timm's initialization, std .02)."""

    def __init__(self, width: int = 32, blocks: int = 6, *, zero_head: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, pre=True, causal=False) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if zero_head:
            nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.patch(x).flatten(2).transpose(1, 2)
        token = self.token.expand(patches.shape[0], -1, -1)
        hidden = self.blocks(torch.cat([token, patches], 1) + self.places)
        logits: Tensor = self.head(self.norm(hidden)[:, 0])
        return logits


class MixerBlock(nn.Module):
    """Mixes places, then features (Tolstikhin et al. 2021)."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = nn.Sequential(nn.Linear(places, 32), nn.GELU(), nn.Linear(32, places))
        self.within = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        y: Tensor = x + self.within(self.norm2(x))
        return y


class Mixer(nn.Module):
    """MLP-Mixer over the rows of the image; its head starts at zero, as in the paper."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.blocks = nn.Sequential(*(MixerBlock(8, width) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.blocks(self.embed(x))).mean(1))
        return y
