"""Keras's recurrent layers. Gates are stored in another order (GRU: update before reset), which an
initialization does not see; the second bias that torch has is zero."""

from __future__ import annotations

from typing import Any

from service.domain.keras.step import Step

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(kind: str) -> Any:
    """SimpleRNN, GRU or LSTM."""

    def translate(step: Step) -> None:
        _recur(step, step, kind, bidirectional=False)

    return translate


def bidirectional(step: Step) -> None:
    """Bidirectional, both directions joined, over whole sequences."""
    inner = step.option("layer", None)
    kinds = {"SimpleRNN": "RNN", "GRU": "GRU", "LSTM": "LSTM"}
    if not isinstance(inner, dict) or inner.get("class_name") not in kinds:
        raise step.refused("it takes SimpleRNN, GRU or LSTM", "layer")
    if step.option("merge_mode", "concat") != "concat":
        raise step.refused('only "concat" is supported', "merge_mode")
    config = inner.get("config")
    if not isinstance(config, dict) or not config.get("return_sequences"):
        raise step.refused("only return_sequences=True is supported", "layer", "config")
    backward = step.option("backward_layer", None)
    if backward is not None and _told(backward) != _told(inner):
        raise step.refused("both directions must be made alike", "backward_layer")
    within = step.within(inner["class_name"], config, "layer", "config")
    _recur(step, within, kinds[inner["class_name"]], bidirectional=True)
    step.flow = within.flow


def _told(layer: Any) -> dict[str, Any]:
    """What a direction is, but for what always differs."""
    config = {**layer["config"], "class_name": layer["class_name"]}
    return {key: said for key, said in config.items() if key not in ("name", "go_backwards")}


def _recur(outer: Step, step: Step, kind: str, *, bidirectional: bool) -> None:
    _check(step, kind)
    if outer.flow.first or len(outer.flow.tensor.shape) != 2:
        raise outer.refused(
            f"it takes (time, features), but gets {list(outer.flow.tensor.shape)} with channels "
            "first, which cannot be moved in a spec"
            if outer.flow.first
            else "it takes (time, features)"
        )
    units, features = step.whole("units"), step.flow.tensor.shape[1]
    gates = _GATES[kind]
    init = {
        "weight_ih": step.init("kernel_initializer", "glorot_uniform", features, gates * units),
        "weight_hh": step.init("recurrent_initializer", "orthogonal", units, gates * units),
    }
    biased = bool(step.option("use_bias", True))
    if biased:
        init["bias_ih"] = step.init("bias_initializer", "zeros", units, units)
        init["bias_hh"] = {"name": "zeros_", "args": {}}
        if kind == "LSTM" and step.option("unit_forget_bias", True):
            init["bias_ih"] = {"name": "forget_gate_", "args": {"val": 1.0}}
            step.note("the input biases of its other gates begin with small numbers, not zeros")
    args: dict[str, Any] = {"hidden_size": units, "bias": biased, "bidirectional": bidirectional}
    if kind == "RNN":
        args["nonlinearity"] = step.option("activation", "tanh")
    step.add(kind, args, init)
    if not step.option("return_sequences", False):
        step.add("LastStep", {}, suffix="last")


def _check(step: Step, kind: str) -> None:
    activation = step.option("activation", "tanh")
    if activation not in (("tanh", "relu") if kind == "RNN" else ("tanh",)):
        raise step.refused(f"the activation {activation!r} is not supported", "activation")
    if kind != "RNN" and step.option("recurrent_activation", "sigmoid") != "sigmoid":
        raise step.refused("only sigmoid is supported", "recurrent_activation")
    if kind == "GRU" and not step.option("reset_after", True):
        raise step.refused("only reset_after=True is supported", "reset_after")
    for name in ("dropout", "recurrent_dropout", "go_backwards", "stateful", "return_state"):
        if step.option(name, False):
            raise step.refused("it is not supported", name)
