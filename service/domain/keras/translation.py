"""From `model.to_json()` to a spec, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from service.domain.architecture import resolve
from service.domain.errors import Fault, InvalidRequest
from service.domain.keras import activations, kernels, normalization, recurrent, shapes
from service.domain.keras.graph import KerasLayer, Untranslatable, layers_of
from service.domain.keras.step import Flow, Step, Written
from service.domain.layers.tensor import Tensor

Translator = Callable[[Step], None]
INPUT = "InputLayer"
_MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)
"""What a file that Keras did not write can lead to."""
_SIDES = (1, 2, 3)
_PENALTIES = ("kernel_regularizer", "bias_regularizer", "recurrent_regularizer",
              "embeddings_regularizer", "activity_regularizer", "depthwise_regularizer",
              "pointwise_regularizer", "gamma_regularizer", "beta_regularizer",
              "kernel_constraint", "bias_constraint", "recurrent_constraint",
              "embeddings_constraint", "depthwise_constraint", "pointwise_constraint",
              "gamma_constraint", "beta_constraint")  # fmt: skip
"""Arguments that change the loss or the steps, not the network: noted."""
_NEUTRAL = frozenset({"Dropout", "Activation", "ReLU", "BatchNormalization", "LeakyReLU"})
"""Layers that leave the order of dimensions to what follows them."""
_OVER_TIME = frozenset(
    {"Conv1D", "SeparableConv1D", "DepthwiseConv1D", "Conv1DTranspose", "ZeroPadding1D",
     "UpSampling1D", "SpatialDropout1D", "BatchNormalization", "GroupNormalization",
     "MaxPooling1D", "AveragePooling1D"}
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
        **{f"UpSampling{n}D": shapes.upsampling(n) for n in (2,)},
        **{f"SpatialDropout{n}D": shapes.spatial_dropout(n) for n in _SIDES},
        "BatchNormalization": normalization.batch_normalization,
        "LayerNormalization": normalization.layer_normalization,
        "GroupNormalization": normalization.group_normalization,
        "SimpleRNN": recurrent.recurrent("RNN"),
        "GRU": recurrent.recurrent("GRU"),
        "LSTM": recurrent.recurrent("LSTM"),
        "Bidirectional": recurrent.bidirectional,
        "Add": shapes.merging("Add"),
        "Multiply": shapes.merging("Multiply"),
        "Concatenate": shapes.concatenate,
        "Flatten": shapes.flatten,
        "Reshape": shapes.reshape,
        "Dropout": shapes.dropout,
        "AlphaDropout": shapes.alpha_dropout,
        "Identity": shapes.same,
        "ActivityRegularization": shapes.same,
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
    layers, last = layers_of(model)
    keras_2 = "module" not in model
    entry = next((layer for layer in layers if layer.class_name == INPUT), None)
    if entry is None:
        raise Untranslatable("the model has no InputLayer", pointer="/config/layers")
    written, flows = Written(), {entry.name: _input(entry, layers)}
    for layer in layers:
        if layer is entry:
            continue
        if layer.class_name == INPUT or not layer.inputs:
            raise layer.refused("models with several inputs are not supported")
        translator = TRANSLATORS.get(layer.class_name)
        if translator is None:
            raise layer.refused("this type of layer is not supported")
        step = Step(layer, [flows[name] for name in layer.inputs], written, keras_2=keras_2)
        penalties = [name for name in _PENALTIES if layer.config.get(name)]
        if penalties:
            step.note(f"{', '.join(penalties)} not translated")
        try:
            translator(step)
        except _MALFORMED as error:
            raise layer.refused(f"an argument is not what Keras writes ({error!r:.100})") from error
        flows[layer.name] = step.flow
    _end_with(last, layers, flows, written)
    sample = flows[entry.name].tensor
    said = {"shape": list(sample.shape), "dtype": sample.dtype}
    spec = {"input": said, "layers": written.layers}
    _check(spec, written)
    return Translated(spec, tuple(written.notes))


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


def _end_with(
    last: str, layers: tuple[KerasLayer, ...], flows: dict[str, Flow], written: Written
) -> None:
    """A spec ends with its last layer."""
    if not written.layers or flows[last].name != written.layers[-1]["name"]:
        layer = next(one for one in layers if one.name == last)
        raise layer.refused("the model's output is not its last layer")


def _input(entry: KerasLayer, layers: tuple[KerasLayer, ...]) -> Flow:
    shape = entry.config.get("batch_shape") or entry.config.get("batch_input_shape")
    if not isinstance(shape, list | tuple) or len(shape) < 2:
        raise entry.refused("it has no shape beyond the batch", "batch_shape")
    sizes = list(shape[1:])
    if not all(type(size) is int and 0 < size < 2**31 for size in sizes):
        detail = f"every size must be known, not {sizes}: give keras.Input the sizes to probe with"
        raise entry.refused(detail, "batch_shape")
    users = _users(entry.name, layers)
    moved = "channels_first" not in {one.config.get("data_format") for one in users}
    first = len(sizes) > 2 or (
        len(sizes) == 2 and any(one.class_name in _OVER_TIME for one in users)
    )
    if first and moved:
        sizes = [sizes[-1], *sizes[:-1]]
    looked_up = any(one.class_name == "Embedding" for one in users)
    dtype = entry.config.get("dtype", "float32")
    integer = looked_up or (isinstance(dtype, str) and dtype in ("int32", "int64"))
    return Flow("input", Tensor(tuple(sizes), "int64" if integer else "float32"), first)


def _users(name: str, layers: tuple[KerasLayer, ...]) -> list[KerasLayer]:
    """Layers that take this one, also behind layers to which the order is all the same."""
    found = []
    names = {name}
    for layer in layers:
        if names & set(layer.inputs):
            found.append(layer)
            if layer.class_name in _NEUTRAL:
                names.add(layer.name)
    return found
