"""From `model.to_json()` to a spec, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from service.domain.architecture import resolve
from service.domain.errors import Fault, InvalidRequest
from service.domain.grammar.sample import MAX_SAMPLES
from service.domain.keras import (
    activations,
    attention,
    kernels,
    merges,
    normalization,
    recurrent,
    shapes,
    wrappers,
)
from service.domain.keras.calls import MASKS
from service.domain.keras.graph import INPUT, KerasGraph, KerasLayer, Untranslatable
from service.domain.keras.reading import layers_of
from service.domain.keras.step import Flow, Step, Written
from service.domain.layers.tensor import Tensor

Translator = Callable[[Step], None]
_MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)
"""What a file that Keras did not write can lead to."""
_SIDES = (1, 2, 3)
_NEUTRAL = frozenset({"Dropout", "Activation", "ReLU", "BatchNormalization", "LeakyReLU"})
"""Layers that leave the order of dimensions to what follows them."""
_OVER_TIME = frozenset(
    {"Conv1D", "SeparableConv1D", "DepthwiseConv1D", "Conv1DTranspose", "ZeroPadding1D",
     "UpSampling1D", "SpatialDropout1D", "BatchNormalization", "GroupNormalization",
     "Cropping1D", "MaxPooling1D", "AveragePooling1D", "AdaptiveMaxPooling1D",
     "AdaptiveAveragePooling1D"}
)  # fmt: skip
"""Layers that want a sequence with its channels first."""

TRANSLATORS: Mapping[str, Translator] = MappingProxyType(
    {
        "Dense": kernels.dense,
        "Embedding": kernels.embedding,
        **{f"Conv{n}D": kernels.convolution(n) for n in _SIDES},
        **{f"Conv{n}DTranspose": kernels.transposed(n) for n in _SIDES},
        **{f"DepthwiseConv{n}D": kernels.depthwise(n) for n in (1, 2)},
        **{f"SeparableConv{n}D": kernels.separable(n) for n in (1, 2)},
        **{f"MaxPooling{n}D": shapes.pooling("Max", n) for n in _SIDES},
        **{f"AveragePooling{n}D": shapes.pooling("Avg", n) for n in _SIDES},
        **{f"GlobalMaxPooling{n}D": shapes.global_pooling("Max", n) for n in _SIDES},
        **{f"GlobalAveragePooling{n}D": shapes.global_pooling("Avg", n) for n in _SIDES},
        **{f"ZeroPadding{n}D": shapes.zero_padding(n) for n in _SIDES},
        **{f"AdaptiveMaxPooling{n}D": shapes.adaptive_pooling("Max", n) for n in _SIDES},
        **{f"AdaptiveAveragePooling{n}D": shapes.adaptive_pooling("Avg", n) for n in _SIDES},
        **{f"UpSampling{n}D": shapes.upsampling(n) for n in _SIDES},
        **{f"Cropping{n}D": shapes.cropping(n) for n in _SIDES},
        **{f"SpatialDropout{n}D": shapes.spatial_dropout(n) for n in _SIDES},
        "BatchNormalization": normalization.batch_normalization,
        "LayerNormalization": normalization.layer_normalization,
        "GroupNormalization": normalization.group_normalization,
        "RMSNormalization": normalization.rms_normalization,
        "MultiHeadAttention": attention.multi_head,
        "SimpleRNN": recurrent.recurrent("RNN"),
        "GRU": recurrent.recurrent("GRU"),
        "LSTM": recurrent.recurrent("LSTM"),
        "Bidirectional": recurrent.bidirectional,
        "TimeDistributed": wrappers.time_distributed,
        "Add": merges.merging("Add"),
        "Multiply": merges.merging("Multiply"),
        "Subtract": merges.subtract,
        "Average": merges.average,
        "Maximum": merges.largest,
        "Minimum": merges.smallest,
        "Dot": merges.dot,
        "Concatenate": merges.concatenate,
        "Flatten": shapes.flatten,
        "Reshape": shapes.reshape,
        "RepeatVector": shapes.repeat_vector,
        "Rescaling": shapes.rescaling,
        "Dropout": shapes.dropout,
        "AlphaDropout": shapes.alpha_dropout,
        "Identity": shapes.same,
        "ActivityRegularization": shapes.same,
        "Masking": shapes.same,
        "Activation": activations.activation,
        "ReLU": activations.relu,
        "LeakyReLU": activations.leaky_relu,
        "PReLU": activations.prelu,
        "ELU": activations.elu,
        "Softmax": activations.softmax,
    }
)
"""By class name of keras.layers."""


@dataclass(frozen=True, slots=True)
class Translated:
    """A Keras model in the words of a spec."""

    spec: dict[str, Any]
    """{"input": …, "layers": […]}."""
    notes: tuple[str, ...]
    """What has no place in a spec."""


def translate(model: Mapping[str, Any]) -> Translated:
    """The spec of a Keras model. Raises Untranslatable, with pointers relative to the model, for
    the first layer that a spec cannot express."""
    try:
        return _translated(model)
    except _MALFORMED as error:
        raise Untranslatable(f"it is not what model.to_json() writes ({error!r:.100})") from error


def _translated(model: Mapping[str, Any]) -> Translated:
    graph = layers_of(model)
    keras_2 = "module" not in model
    if not 0 < len(graph.inputs) <= MAX_SAMPLES:
        detail = f"a model has 1 to {MAX_SAMPLES} inputs, this one has {len(graph.inputs)}"
        raise Untranslatable(detail, pointer="/config/layers")
    written, flows = Written(), {}
    for layer in graph.layers:
        if layer.class_name == INPUT:
            name = "input" if len(graph.inputs) == 1 else written.free(layer.name)
            flows[layer.key] = _input(layer, graph.layers, name)
        else:
            inputs = [flows[key] for key in layer.inputs]
            flows[layer.key] = _apply(layer, inputs, written, keras_2=keras_2)
    _end_with(graph, flows, written)
    spec = {"input": _said([flows[key] for key in graph.inputs]), "layers": written.layers}
    _check(spec, written)
    return Translated(spec, written.notes)


def _apply(layer: KerasLayer, inputs: list[Flow], written: Written, *, keras_2: bool) -> Flow:
    if not inputs:
        raise layer.refused("it takes nothing")
    translator = TRANSLATORS.get(layer.class_name)
    if translator is None:
        raise layer.refused("this type of layer is not supported")
    step = Step(layer, inputs, written, keras_2=keras_2)
    if any(layer.call.get(name) is not None for name in MASKS):
        step.note("its mask is not translated: samples of a probe are all of one length")
    try:
        translator(step)
    except _MALFORMED as error:
        raise layer.refused(f"an argument is not what Keras writes ({error!r:.100})") from error
    return step.flow


def _said(inputs: list[Flow]) -> Any:
    """The spec's `input`: one object, or a list of them with names."""
    said = [{"shape": list(one.tensor.shape), "dtype": one.tensor.dtype} for one in inputs]
    if len(said) == 1:
        return said[0]
    return [{"name": one.name, **each} for one, each in zip(inputs, said, strict=True)]


def _check(spec: dict[str, Any], written: Written) -> None:
    """What only the whole network shows, told of the Keras layer that it was made for."""
    try:
        resolve(spec)
    except InvalidRequest as error:
        faults = []
        for fault in error.faults:
            _, where, index, *_rest = (*fault.pointer.split("/"), "", "")
            known = where == "layers" and index.isdigit()
            faults.append(Fault(written.pointers[int(index)] if known else "", fault.detail))
        raise Untranslatable(error.detail, faults=faults) from error


def _end_with(graph: KerasGraph, flows: dict[str, Flow], written: Written) -> None:
    """A spec ends with its last layer."""
    if not written.layers or flows[graph.output].name != written.layers[-1]["name"]:
        layer = next(one for one in graph.layers if one.key == graph.output)
        raise layer.refused("the model's output is not its last layer")


def _input(entry: KerasLayer, layers: tuple[KerasLayer, ...], name: str) -> Flow:
    shape = entry.config.get("batch_shape") or entry.config.get("batch_input_shape")
    if not isinstance(shape, list | tuple) or len(shape) < 2:
        raise entry.refused("it has no shape beyond the batch", "batch_shape")
    sizes = list(shape[1:])
    if not all(type(size) is int and 0 < size < 2**31 for size in sizes):
        detail = f"every size must be known, not {sizes}: give keras.Input the sizes to probe with"
        raise entry.refused(detail, "batch_shape")
    users = _users(entry.key, layers)
    moved = "channels_first" not in {one.config.get("data_format") for one in users}
    first = len(sizes) > 2 or (
        len(sizes) == 2 and any(one.class_name in _OVER_TIME for one in users)
    )
    if first and moved:
        sizes = [sizes[-1], *sizes[:-1]]
    looked_up = any(one.class_name == "Embedding" for one in users)
    dtype = entry.config.get("dtype", "float32")
    integer = looked_up or (isinstance(dtype, str) and dtype in ("int32", "int64"))
    return Flow(name, Tensor(tuple(sizes), "int64" if integer else "float32"), first)


def _users(key: str, layers: tuple[KerasLayer, ...]) -> list[KerasLayer]:
    """Layers that take this one, also behind layers to which the order is all the same."""
    found = []
    keys = {key}
    for layer in layers:
        if keys & set(layer.inputs):
            found.append(layer)
            if layer.class_name in _NEUTRAL:
                keys.add(layer.key)
    return found
