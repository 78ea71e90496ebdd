"""Transformer layers. Samples are (time, features)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from service.domain.layers.attention import (
    ATTENTION,
    AXES,
    BATCH_FIRST,
    DROPOUT,
    affine,
    attention_parameters,
    below,
    check_heads,
    check_time,
)
from service.domain.layers.inference import last_size
from service.domain.layers.kinds import Choice, Flag, Nested, Real, Whole, optional
from service.domain.layers.layer_type import CausalMask, LayerType, same_shape
from service.domain.layers.normalization import LAYER_NORM, RMS_NORM
from service.domain.layers.recurrent import MAX_LAYERS
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Shape

_DEPTH = Whole(1, MAX_LAYERS)


def _same_width(args: Args, inputs: Inputs) -> Shape:
    """Target and memory have the same features; the output is shaped like the target."""
    check_time(args, inputs)
    *_, width = inputs[0].shape
    if len(inputs) == 2 and inputs[1].shape[1] != width:
        raise Misfit(f"a memory of {width} features", str(inputs[1].shape[1]), position=1)
    return inputs[0].shape


def _block_parameters(args: Args, attentions: Iterable[str], norms: int) -> dict[str, Shape]:
    width, hidden, bias = args["d_model"], args["dim_feedforward"], args["bias"]
    attention = attention_parameters(
        {"embed_dim": width, "kdim": None, "vdim": None, "bias": bias, "add_bias_kv": False}
    )
    shapes: dict[str, Shape] = {}
    for name in attentions:
        shapes |= below(name, attention)
    shapes |= below("linear1", affine((hidden, width), (hidden,), bias))
    shapes |= below("linear2", affine((width, hidden), (width,), bias))
    for index in range(1, norms + 1):
        shapes |= below(f"norm{index}", affine((width,), (width,), bias))
    return shapes


def _encoder_parameters(args: Args) -> dict[str, Shape]:
    return _block_parameters(args, ("self_attn",), 2)


def _decoder_parameters(args: Args) -> dict[str, Shape]:
    return _block_parameters(args, ("self_attn", "multihead_attn"), 3)


_BLOCK_END = (
    Argument("dim_feedforward", Whole(), 2048),
    Argument("dropout", DROPOUT, 0.1),
    Argument("activation", Choice(("relu", "gelu")), "relu"),
)
_BLOCK_SWITCHES = (
    Argument("layer_norm_eps", Real(0), 1e-5),
    BATCH_FIRST,
    Argument("norm_first", Flag(), False),
    Argument("bias", Flag(), True),
)
_BLOCK = (
    Argument("d_model", Whole(), infer=last_size(), unit="features"),
    Argument("nhead", Whole()),
    *_BLOCK_END,
    *_BLOCK_SWITCHES,
)


def _check_block(args: Args) -> None:
    check_heads(args, "d_model", "nhead")


_ENCODER_LAYER = LayerType(
    "TransformerEncoderLayer",
    "attention",
    "Self-attention and a feed-forward network, each with residual and layer normalization.",
    _BLOCK,
    output=_same_width,
    parameters=_encoder_parameters,
    check=_check_block,
    ranks=(2, 2),
    axes=AXES,
    always={"batch_first": True},
    masks={"is_causal": CausalMask("src_mask")},
)
_DECODER_LAYER = LayerType(
    "TransformerDecoderLayer",
    "attention",
    "Self-attention, attention to a memory (second input) and a feed-forward network.",
    _BLOCK,
    output=_same_width,
    parameters=_decoder_parameters,
    check=_check_block,
    input_counts=(2,),
    ranks=(2, 2),
    axes=AXES,
    always={"batch_first": True},
    masks={"tgt_is_causal": CausalMask("tgt_mask")},
)


# TransformerEncoder and TransformerDecoder: their layer is an argument

_INNER = {kind.name: kind for kind in (_ENCODER_LAYER, _DECODER_LAYER, LAYER_NORM, RMS_NORM)}
"""Types that may be an argument of another."""
_NORM = Argument("norm", optional(Nested(("LayerNorm", "RMSNorm"))), None)


def _nested(args: Args) -> dict[str, dict[str, Any]]:
    """The arguments that are layers."""
    return {name: value for name, value in args.items() if isinstance(value, dict)}


def _check_stack(args: Args) -> None:
    for name, value in _nested(args).items():
        for fault in _INNER[value["type"]].signature.faults(value.get("args", {})):
            raise fault.inside(name, "args")


def _complete_stack(args: Args, inputs: Inputs) -> dict[str, Any]:
    """The inner layers see the same inputs, so what they may infer is filled in for them too."""
    filled = {}
    for name, value in _nested(args).items():
        inner = _INNER[value["type"]]
        seen = inputs[: max(inner.input_counts or (1,))]
        try:
            applied = inner.apply(value.get("args", {}), seen)
        except BadArgument as fault:
            raise fault.inside(name, "args") from fault
        except Misfit as misfit:
            raise Misfit(
                misfit.takes,
                misfit.gives,
                position=misfit.position,
                within=(name, "args", *misfit.steps),
            ) from misfit
        filled[name] = {"type": inner.name, "args": applied.args}
    return filled


def _stack_parameters(args: Args, layer: str) -> dict[str, Shape]:
    block, norm = args[layer], args["norm"]
    shapes = _repeated("layers", _inner_parameters(block), args["num_layers"])
    return shapes | (below("norm", _inner_parameters(norm)) if norm else {})


def _inner_parameters(value: Mapping[str, Any]) -> dict[str, Shape]:
    inner = _INNER[value["type"]]
    return inner.parameters(inner.signature.complete(value["args"]))


def _repeated(prefix: str, block: Mapping[str, Shape], times: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for index in range(times):
        shapes |= below(f"{prefix}.{index}", block)
    return shapes


_ENCODER = LayerType(
    "TransformerEncoder",
    "attention",
    "num_layers copies of one encoder layer, all starting from the same weights.",
    (
        Argument("encoder_layer", Nested(("TransformerEncoderLayer",))),
        Argument("num_layers", _DEPTH),
        _NORM,
        Argument("enable_nested_tensor", Flag(), False),
        Argument("mask_check", Flag(), True),
    ),
    output=same_shape,
    parameters=lambda args: _stack_parameters(args, "encoder_layer"),
    check=_check_stack,
    complete=_complete_stack,
    ranks=(2, 2),
    axes=AXES,
    always={"enable_nested_tensor": False},
    masks={"is_causal": CausalMask("mask")},
)
_DECODER = LayerType(
    "TransformerDecoder",
    "attention",
    "num_layers copies of one decoder layer; the second input is the memory.",
    (
        Argument("decoder_layer", Nested(("TransformerDecoderLayer",))),
        Argument("num_layers", _DEPTH),
        _NORM,
    ),
    output=same_shape,
    parameters=lambda args: _stack_parameters(args, "decoder_layer"),
    check=_check_stack,
    complete=_complete_stack,
    input_counts=(2,),
    ranks=(2, 2),
    axes=AXES,
    masks={"tgt_is_causal": CausalMask("tgt_mask")},
)


# Transformer


def _transformer_shape(args: Args, inputs: Inputs) -> Shape:
    check_time(args, inputs)
    for position, tensor in enumerate(inputs):
        if tensor.shape[1] != args["d_model"]:
            takes, gives = f"{args['d_model']} features", str(tensor.shape[1])
            raise Misfit(takes, gives, argument="d_model", position=position)
    return inputs[1].shape


def _transformer_parameters(args: Args) -> dict[str, Shape]:
    norm = below("norm", affine((args["d_model"],), (args["d_model"],), args["bias"]))
    encoder = _repeated("layers", _encoder_parameters(args), args["num_encoder_layers"]) | norm
    decoder = _repeated("layers", _decoder_parameters(args), args["num_decoder_layers"]) | norm
    return below("encoder", encoder) | below("decoder", decoder)


_TRANSFORMER = LayerType(
    "Transformer",
    "attention",
    "Encoder over the first input, decoder over the second, as in Vaswani et al. 2017.",
    (
        Argument("d_model", Whole(), 512),
        Argument("nhead", Whole(), 8),
        Argument("num_encoder_layers", _DEPTH, 6),
        Argument("num_decoder_layers", _DEPTH, 6),
        *_BLOCK_END,
        *_BLOCK_SWITCHES,
    ),
    output=_transformer_shape,
    parameters=_transformer_parameters,
    check=_check_block,
    input_counts=(2,),
    ranks=(2, 2),
    axes=AXES,
    always={"batch_first": True},
    masks={"src_is_causal": CausalMask("src_mask"), "tgt_is_causal": CausalMask("tgt_mask", 1)},
)

ATTENTION_TYPES = (
    ATTENTION,
    _ENCODER_LAYER,
    _DECODER_LAYER,
    _ENCODER,
    _DECODER,
    _TRANSFORMER,
)
