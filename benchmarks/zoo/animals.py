"""Who lives in the zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from benchmarks.zoo import tasks
from benchmarks.zoo.modules import convolutional, plain, transformers
from benchmarks.zoo.specs import convolutional as convolutional_specs
from benchmarks.zoo.specs import plain as plain_specs
from benchmarks.zoo.specs import transformers as transformer_specs
from benchmarks.zoo.tasks import FLAT, IMAGE, SEQUENCE, TEXT, Rows
from service.domain.probe_plan import InputPlan


@dataclass(frozen=True, slots=True)
class Animal:
    """One network of the zoo."""

    build: Callable[[], nn.Module]
    """At its usual initialization."""
    spec: Callable[[], dict[str, Any]]
    """The same as an architecture spec."""
    inputs: InputPlan
    """What it takes."""
    task: Callable[[Tensor, Tensor], Rows]
    """What it is trained on: (pixels, digit) → inputs and targets."""
    loss: str = "cross_entropy"
    """A name of service.probing.losses."""
    spec_lacks: str = ""
    """What the grammar of specs cannot say of it."""


ZOO: Mapping[str, Animal] = MappingProxyType(
    {
        "perceptron": Animal(plain.perceptron, plain_specs.perceptron, FLAT, tasks.flat),
        "resnet": Animal(
            lambda: convolutional.resnet(zero=False),
            lambda: convolutional_specs.resnet(zero=False),
            IMAGE,
            tasks.image,
        ),
        "resnet_zero": Animal(
            lambda: convolutional.resnet(zero=True),
            lambda: convolutional_specs.resnet(zero=True),
            IMAGE,
            tasks.image,
        ),
        "vgg_bn": Animal(convolutional.vgg, convolutional_specs.vgg, IMAGE, tasks.image),
        "vit": Animal(
            transformers.ViT,
            lambda: transformer_specs.vit(zero_head=False),
            IMAGE,
            tasks.image,
            spec_lacks="class token, embedding of places: the tokens, rows of pixels, are averaged",
        ),
        "vit_zero_head": Animal(
            lambda: transformers.ViT(zero_head=True),
            lambda: transformer_specs.vit(zero_head=True),
            IMAGE,
            tasks.image,
            spec_lacks="class token, embedding of places: the tokens, rows of pixels, are averaged",
        ),
        "bert": Animal(
            lambda: transformers.Language(gpt=False),
            lambda: transformer_specs.language(gpt=False),
            TEXT,
            tasks.words,
            spec_lacks="embedding of places",
        ),
        "gpt2": Animal(
            lambda: transformers.Language(gpt=True),
            lambda: transformer_specs.language(gpt=True),
            TEXT,
            tasks.words,
            spec_lacks="causal mask, embedding of places, head tied to the embedding",
        ),
        "convnext": Animal(
            convolutional.convnext,
            convolutional_specs.convnext,
            IMAGE,
            tasks.image,
            spec_lacks="LayerNorm over channels alone: over channels and places (GroupNorm of 1)",
        ),
        "mobilenet": Animal(
            convolutional.mobilenet, convolutional_specs.mobilenet, IMAGE, tasks.image
        ),
        "unet": Animal(
            lambda: convolutional.UNet(1),
            lambda: convolutional_specs.unet(1),
            IMAGE,
            tasks.same_image,
            "mse",
        ),
        "unet_segmentation": Animal(
            lambda: convolutional.UNet(3), lambda: convolutional_specs.unet(3), IMAGE, tasks.ink
        ),
        "segmentation": Animal(
            convolutional.segmentation, convolutional_specs.segmentation, IMAGE, tasks.ink
        ),
        "lstm": Animal(
            lambda: plain.Recurrent(nn.LSTM),
            lambda: plain_specs.recurrent("LSTM"),
            SEQUENCE,
            tasks.rows,
        ),
        "gru": Animal(
            lambda: plain.Recurrent(nn.GRU),
            lambda: plain_specs.recurrent("GRU"),
            SEQUENCE,
            tasks.rows,
        ),
        "mixer": Animal(transformers.Mixer, transformer_specs.mixer, SEQUENCE, tasks.rows),
        "regression": Animal(plain.regression, plain_specs.regression, FLAT, tasks.amount, "mse"),
        "autoencoder": Animal(
            plain.autoencoder, plain_specs.autoencoder, FLAT, tasks.itself, "mse"
        ),
        "lora": Animal(
            plain.lora,
            plain_specs.lora,
            FLAT,
            tasks.flat,
            spec_lacks="frozen parameters: the layers that are corrected learn as well",
        ),
    }
)
"""By name."""
