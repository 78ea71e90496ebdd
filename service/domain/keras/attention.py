"""Keras's MultiHeadAttention.

Keras keeps query, key and value apart, torch in one matrix: all are drawn alike. Heads are as wide
together as the features, as torch has them.
"""

from __future__ import annotations

from typing import Any

from service.domain.keras.step import Flow, Step


def multi_head(step: Step) -> None:
    """MultiHeadAttention over time."""
    query, key, value = _taken(step)
    features = query.tensor.shape[-1]
    heads, width = step.whole("num_heads"), step.whole("key_dim")
    _check(step, query, heads * width)
    mask = step.layer.call.get("use_causal_mask") is True
    inputs = (query,) if query == key == value else (query, key, value)
    biased = bool(step.option("use_bias", True))
    args = {"num_heads": heads, "bias": biased, "dropout": float(step.option("dropout", 0.0))}
    if any(one.tensor.shape[-1] != features for one in inputs):
        raise step.refused("key and value need as many features as the query")
    step.join(
        "MultiheadAttention",
        args,
        inputs,
        _init(step, features, heads, width, biased=biased),
        forward={"is_causal": True} if mask else None,
    )


def _taken(step: Step) -> tuple[Flow, Flow, Flow]:
    """Keras takes query, value, key, by place or by name."""
    if len(step.inputs) not in (2, 3):
        raise step.refused("it takes query, value and perhaps key; masks are not supported")
    said = step.layer.call
    named = [name for name in said if name in ("query", "value", "key") and said[name] is not None]
    places = ["query", "value", "key"][: len(step.inputs) - len(named)] + named
    found = dict(zip(places, step.inputs, strict=True))
    if "query" not in found or "value" not in found:
        raise step.refused("it takes query and value")
    return found["query"], found.get("key", found["value"]), found["value"]


def _check(step: Step, query: Flow, together: int) -> None:
    if query.first or len(query.tensor.shape) != 2:
        raise step.refused("it takes (time, features)")
    if together != query.tensor.shape[-1]:
        raise step.refused(
            f"num_heads · key_dim is {together}, the query has {query.tensor.shape[-1]} features: "
            "torch's heads share the features among them",
            "key_dim",
        )
    if step.option("value_dim", None) not in (None, step.option("key_dim", None)):
        raise step.refused("only key_dim is supported", "value_dim")
    for name in ("output_shape", "use_gate", "sliding_window"):
        if step.option(name, None):
            raise step.refused("it is not supported", name)
    if step.option("attention_axes", None) not in (None, [1]):
        raise step.refused("only time is supported", "attention_axes")


def _init(step: Step, features: int, heads: int, width: int, *, biased: bool) -> dict[str, Any]:
    """Earlier versions of Keras took (features, heads, width) for a kernel of a convolution."""
    kernel = step.option("kernel_initializer", None)
    config = kernel.get("config") if isinstance(kernel, dict) else None
    together = heads * width
    if isinstance(config, dict) and "input_axes" not in config and "seed" in config:
        into, out = (features * heads, features * width), (together, features * heads)
    else:
        into, out = (features, together), (together, features)
    name = "kernel_initializer"
    init = {
        "in_proj_weight": step.init(name, "glorot_uniform", *into, own_fans=True),
        "out_proj.weight": step.init(name, "glorot_uniform", *out, own_fans=True),
    }
    if biased:
        bias = step.init("bias_initializer", "zeros", together, together)
        init |= {"in_proj_bias": bias, "out_proj.bias": bias}
    return init
