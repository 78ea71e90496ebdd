"""Specs, and measurements of them made up from their initialization, for the remedies' tests."""

from __future__ import annotations

import copy
import math
from typing import Any

from service.domain.architecture import Architecture, LayerNode, resolve
from service.domain.findings import Diagnosis, Finding, Severity, Verdict
from service.domain.measurements import (
    ActivationStatistics,
    GradientStatistics,
    InputStatistics,
    LayerMeasurements,
    Measurements,
    ModelMeasurements,
    ParameterStatistics,
    Quantiles,
    TimeSteps,
)

NORMALIZATIONS = {
    "BatchNorm1d": "batch_norm",
    "BatchNorm2d": "batch_norm",
    "LayerNorm": "layer_norm",
}
OPS = {"Linear": "linear", "Conv2d": "conv2d", "RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
ACTIVATIONS = {
    name: name.lower()
    for name in ("Sigmoid", "Tanh", "ReLU", "GELU", "SiLU", "Softplus", "SELU", "ELU")
} | {"LeakyReLU": "leaky_relu"}


def mlp(
    depth: int,
    activation: str,
    init: dict[str, Any] | None = None,
    norm: str | None = None,
    dropout: float | None = None,
) -> dict[str, Any]:
    """`depth` hidden layers of 64 units and a head of 10."""
    layers: list[dict[str, Any]] = []
    for number in range(1, depth + 1):
        layers.append(linear(f"fc{number}", 64, init))
        if norm:
            layers.append({"name": f"norm{number}", "type": norm})
        layers.append({"name": f"act{number}", "type": activation})
        if dropout is not None:
            layers.append({"name": f"drop{number}", "type": "Dropout", "args": {"p": dropout}})
    layers.append(linear("head", 10, init))
    return {"input": {"shape": [64]}, "layers": layers}


def cnn(depth: int) -> dict[str, Any]:
    """Sigmoid convolutions of 8 channels, flattened into a head of 10."""
    layers: list[dict[str, Any]] = []
    for number in range(1, depth + 1):
        args = {"out_channels": 8, "kernel_size": 3, "padding": 1}
        layers.append({"name": f"conv{number}", "type": "Conv2d", "args": args})
        layers.append({"name": f"act{number}", "type": "Sigmoid"})
    layers += [{"name": "flat", "type": "Flatten"}, linear("head", 10)]
    return {"input": {"shape": [1, 8, 8]}, "layers": layers}


def repeated(times: int, init: dict[str, Any] | None = None) -> dict[str, Any]:
    """A stem, a body of residual blocks x + φ(fc(x)), a head."""
    block = [
        linear("fc", 64, init),
        {"name": "act", "type": "ReLU"},
        {"name": "sum", "type": "Add", "inputs": ["act", "input"]},
    ]
    body = {"name": "body", "repeat": times, "layers": block}
    return {"input": {"shape": [64]}, "layers": [linear("stem", 64), body, linear("head", 10)]}


def recurrent(kind: str) -> dict[str, Any]:
    """Two recurrent layers over 8 steps, the last step into a head of 10."""
    rnn = {"name": "rnn", "type": kind, "args": {"hidden_size": 32, "num_layers": 2}}
    layers = [rnn, {"name": "last", "type": "LastStep"}, linear("head", 10)]
    return {"input": {"shape": [8, 8]}, "layers": layers}


def linear(name: str, units: int, init: dict[str, Any] | None = None) -> dict[str, Any]:
    """A Linear layer of a spec."""
    layer: dict[str, Any] = {"name": name, "type": "Linear", "args": {"out_features": units}}
    return {**layer, "init": init} if init else layer


def normal(std: float) -> dict[str, Any]:
    """An `init` that draws weights from N(0, std²)."""
    return {"weight": {"name": "normal_", "args": {"std": std}}, "bias": {"name": "zeros_"}}


def kaiming(activation: str) -> dict[str, Any]:
    """He's `init` for relu or leaky_relu."""
    args = {"nonlinearity": activation}
    return {"weight": {"name": "kaiming_normal_", "args": args}, "bias": {"name": "zeros_"}}


def measured(architecture: Architecture, *, grad_norm: Quantiles | None = None) -> Measurements:
    """What a probe would say of the weights; gradients and activations are not made up."""
    owners = [index for index, node in enumerate(architecture.layers) if node.type in OPS]
    layers = tuple(
        _layer(number, architecture.layers[start:end])
        for number, (start, end) in enumerate(
            zip(owners, [*owners[1:], len(architecture.layers)], strict=True)
        )
    )
    model = ModelMeasurements(
        loss="cross_entropy",
        loss_guessed=True,
        loss_at_start=2.3,
        chance_loss=math.log(10),
        grad_norm=grad_norm or Quantiles(2.0, 2.5, 3.0, 12),
        total_gain=None,
        input_grad_norm=None,
        output_shape=(64, 10),
        output_op=None,
        inputs=(InputStatistics(0, 300.0, 40.0, 64, 0, 300.0, 310.0, 7.5),),
    )
    return Measurements(model, layers, ())


def diagnosis(*codes: str, layers: tuple[str, ...] = ()) -> Diagnosis:
    """Unhealthy, with an error of each code; healthy without codes."""
    findings = tuple(Finding(code, Severity.ERROR, 0.9, layers, code, code) for code in codes)
    verdict = Verdict.UNHEALTHY if codes else Verdict.HEALTHY
    return Diagnosis(verdict, 0.9, "static", "", findings)


def patched(spec: dict[str, Any], patch: tuple[dict[str, Any], ...]) -> Architecture:
    """The spec after the add, remove and replace operations of RFC 6902, resolved."""
    document = copy.deepcopy(spec)
    for operation in patch:
        *way, last = operation["path"].split("/")[1:]
        at: Any = document
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        key: Any = int(last) if isinstance(at, list) else last
        if operation["op"] == "remove":
            del at[key]
        elif operation["op"] == "add" and isinstance(at, list):
            at.insert(key, operation["value"])
        else:
            known = range(len(at)) if isinstance(at, list) else at
            assert operation["op"] == "add" or key in known
            at[key] = operation["value"]
    return resolve(document)


def _layer(index: int, nodes: tuple[LayerNode, ...]) -> LayerMeasurements:
    owner, *rest = nodes
    fan_in = math.prod(owner.parameters.get("weight", (1, 1))[1:])
    nothing = ActivationStatistics(None, None, None, None, None, None, None, None)
    return LayerMeasurements(
        index=index,
        name=owner.name,
        op=OPS[owner.type],
        nonlinearity=next((ACTIVATIONS[n.type] for n in rest if n.type in ACTIVATIONS), None),
        normalization=next(
            (NORMALIZATIONS[n.type] for n in rest if n.type in NORMALIZATIONS), None
        ),
        residual=any(n.type == "Add" for n in rest),
        fan_in=fan_in,
        fan_out=owner.parameters.get("weight", (1,))[0],
        depth=index + 1,
        output_shape=(64, *nodes[-1].output_shape),
        activation=nothing,
        gradient=GradientStatistics(None, None, None, 0.2),
        parameters=tuple(_parameter(owner, key, fan_in) for key in owner.parameters),
        time_steps=_steps(owner),
        dropout=tuple(n.args.get("p", 0.5) for n in rest if n.type.endswith("Dropout")),
    )


def _steps(node: LayerNode) -> TimeSteps | None:
    if node.type not in {"RNN", "LSTM", "GRU"}:
        return None
    norms = (1.0,) * node.output_shape[0]
    return TimeSteps(norms, norms)


def _parameter(node: LayerNode, key: str, fan_in: int) -> ParameterStatistics:
    call = node.init.get(key)
    if call is None:
        return _statistics(node, key, 1 / math.sqrt(3 * fan_in))
    given = {
        "normal_": call.args.get("std", 0.0),
        "kaiming_normal_": math.sqrt(2 / fan_in),
        "zeros_": 0.0,
        "constant_": call.args.get("val", 0.0),
    }
    return _statistics(node, key, given[call.name])


def _statistics(node: LayerNode, key: str, rms: float) -> ParameterStatistics:
    name, shape = f"{node.name}.{key}", node.parameters[key]
    return ParameterStatistics(name, shape, rms, 1.0, 1.0, 1.0, None)
