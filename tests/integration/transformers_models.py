"""Small models of the transformers package, built from configurations, as the files people send."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from service.domain.probe_plan import InputPlan

HIDDEN: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
VOCABULARY = 99
BATCH = 16
"""Samples a file is made with: normalization over a batch of two would be another network."""
WORDS: dict[str, Any] = {"vocab_size": VOCABULARY, "use_cache": False}
TOKENS = InputPlan((16,), "int64", high=VOCABULARY)
IMAGE, SOUND = InputPlan((3, 32, 32)), InputPlan((800,))


@dataclass(frozen=True, slots=True)
class Known:
    """One architecture of the package."""

    model: str
    """Class."""
    config: Mapping[str, Any]
    """Of the class's own configuration."""
    inputs: Mapping[str, InputPlan]
    """By the names of its forward."""


IMAGES = {"pixel_values": IMAGE}
TEXT = {"input_ids": TOKENS}
KNOWN: dict[str, Known] = {
    "BERT": Known("BertForSequenceClassification", WORDS | HIDDEN | {"num_labels": 5}, TEXT),
    "DistilBERT": Known(
        "DistilBertForSequenceClassification",
        {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64,
         "num_labels": 5},
        TEXT,
    ),
    "GPT-2": Known("GPT2LMHeadModel", WORDS | {"n_embd": 32, "n_layer": 2, "n_head": 2}, TEXT),
    "Llama": Known("LlamaForCausalLM", WORDS | HIDDEN | {"num_key_value_heads": 2}, TEXT),
    "T5": Known(
        "T5ForConditionalGeneration",
        WORDS | {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
        TEXT | {"decoder_input_ids": InputPlan((12,), "int64", high=VOCABULARY)},
    ),
    "ViT": Known(
        "ViTForImageClassification",
        HIDDEN | {"image_size": 32, "patch_size": 8, "num_labels": 5},
        IMAGES,
    ),
    "ConvNeXt": Known(
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 2, 1], "num_labels": 5},
        IMAGES,
    ),
    "ResNet": Known(
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic",
         "num_labels": 5},
        IMAGES,
    ),
    "MobileNetV2": Known(
        "MobileNetV2ForImageClassification",
        {"depth_multiplier": 0.5, "image_size": 32, "num_labels": 5}
        # As in the paper's own code; the package's default is 0.8.
        | {"classifier_dropout_prob": 0.2},
        IMAGES,
    ),
    "Wav2Vec2": Known(
        "Wav2Vec2ForSequenceClassification",
        HIDDEN
        | {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3)}
        | {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16}
        | {"num_conv_pos_embedding_groups": 2, "num_labels": 5, "classifier_proj_size": 16}
        | {"layerdrop": 0.0, "apply_spec_augment": False},
        {"input_values": SOUND},
    ),
}  # fmt: skip


def build(name: str, **settings: Any) -> nn.Module:
    """At its own initialization, in training mode; `settings` of its configuration besides."""
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    known = KNOWN[name]
    torch.manual_seed(0)
    model_class = getattr(transformers, known.model)
    config_class = model_class.config_class
    model: nn.Module = model_class(config_class(**{**known.config, **settings}))
    return model.train()


def example(name: str) -> dict[str, Tensor]:
    """A batch, by the names of forward."""
    return {
        key: torch.randint(0, plan.high, (BATCH, *plan.shape))
        if plan.high is not None
        else torch.randn(BATCH, *plan.shape)
        for key, plan in KNOWN[name].inputs.items()
    }


class Logits(nn.Module):
    """The same, from tensors to a tensor: what torch.jit.trace can follow."""

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def as_exported_program(name: str, **settings: Any) -> bytes:
    """What docs/exporting.md shows."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = example(name)
        batch = {key: {0: torch.export.Dim.AUTO} for key in given}
        program = torch.export.export(build(name, **settings), (), given, dynamic_shapes=batch)
        torch.export.save(program, file)
    return file.getvalue()


def as_torchscript(name: str, **settings: Any) -> bytes:
    """What docs/exporting.md shows."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = example(name)
        model = Logits(build(name, **settings), given)
        traced = torch.jit.trace(model, tuple(given.values()), check_trace=False)
        torch.jit.save(traced, file)
    return file.getvalue()


FORMS = {"torchscript": as_torchscript, "exported_program": as_exported_program}
