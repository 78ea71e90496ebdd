"""Recurrent layers and cells."""

from __future__ import annotations

from service.domain.layers.inference import last_size
from service.domain.layers.kinds import Choice, Flag, Real, Whole
from service.domain.layers.layer_type import LayerType
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Shape, listed

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
"""Blocks of rows in each weight."""
MAX_LAYERS = 1_000
"""Stacked layers of one recurrent or transformer module; published ones stay below 200."""

_SUMMARIES = {
    "RNN": "Elman recurrence with tanh or ReLU over the time dimension; gives every step.",
    "LSTM": "Long short-term memory over the time dimension; gives every step.",
    "GRU": "Gated recurrent unit over the time dimension; gives every step.",
}
_NONLINEARITY = Argument("nonlinearity", Choice(("tanh", "relu")), "tanh")


def _shape(args: Args, inputs: Inputs) -> Shape:
    directions = 2 if args["bidirectional"] else 1
    return (*inputs[0].shape[:-1], directions * _passed_on(args))


def _passed_on(args: Args) -> int:
    """Features that one direction hands to the next step: projected, where there is one."""
    return int(args.get("proj_size") or args["hidden_size"])


def _parameters(args: Args, gates: int) -> dict[str, Shape]:
    directions = ("", "_reverse") if args["bidirectional"] else ("",)
    rows, passed_on = gates * args["hidden_size"], _passed_on(args)
    shapes: dict[str, Shape] = {}
    for layer in range(args["num_layers"]):
        columns = args["input_size"] if layer == 0 else passed_on * len(directions)
        for direction in directions:
            end = f"l{layer}{direction}"
            shapes[f"weight_ih_{end}"] = (rows, columns)
            shapes[f"weight_hh_{end}"] = (rows, passed_on)
            if args["bias"]:
                shapes[f"bias_ih_{end}"] = (rows,)
                shapes[f"bias_hh_{end}"] = (rows,)
            if args.get("proj_size"):
                shapes[f"weight_hr_{end}"] = (passed_on, args["hidden_size"])
    return shapes


def _check_projection(args: Args) -> None:
    if args.get("proj_size", 0) >= args["hidden_size"]:
        raise BadArgument("proj_size", "`proj_size` must be smaller than `hidden_size`")


def _recurrent(name: str) -> LayerType:
    extra = {
        "RNN": (_NONLINEARITY,),
        "LSTM": (Argument("proj_size", Whole(0), 0),),
        "GRU": (),
    }[name]
    return LayerType(
        name,
        "recurrent",
        _SUMMARIES[name],
        (
            Argument("input_size", Whole(), infer=last_size(), unit="features"),
            Argument("hidden_size", Whole()),
            Argument("num_layers", Whole(1, MAX_LAYERS), 1),
            Argument("bias", Flag(), True),
            Argument("batch_first", Flag(), True),
            Argument("dropout", Real(0, 1), 0.0),
            Argument("bidirectional", Flag(), False),
            *extra,
        ),
        output=_shape,
        parameters=lambda args: _parameters(args, GATES[name]),
        check=_check_projection,
        ranks=(2, 2),
        axes="(time, features)",
        always={"batch_first": True},
    )


def _cell_shape(args: Args, inputs: Inputs) -> Shape:
    state = (args["hidden_size"],)
    if len(inputs) == 2 and inputs[1].shape != state:
        raise Misfit(f"a state of {listed(state)}", listed(inputs[1].shape), position=1)
    return state


def _cell_parameters(args: Args, gates: int) -> dict[str, Shape]:
    rows = gates * args["hidden_size"]
    shapes: dict[str, Shape] = {
        "weight_ih": (rows, args["input_size"]),
        "weight_hh": (rows, args["hidden_size"]),
    }
    return shapes | ({"bias_ih": (rows,), "bias_hh": (rows,)} if args["bias"] else {})


def _cell(kind: str) -> LayerType:
    return LayerType(
        f"{kind}Cell",
        "recurrent",
        f"One step of {kind}, from a zero state"
        + (
            " (its hidden state goes on)." if kind == "LSTM" else " or the state of a second input."
        ),
        (
            Argument("input_size", Whole(), infer=last_size(), unit="features"),
            Argument("hidden_size", Whole()),
            Argument("bias", Flag(), True),
            *((_NONLINEARITY,) if kind == "RNN" else ()),
        ),
        output=_cell_shape,
        parameters=lambda args: _cell_parameters(args, GATES[kind]),
        input_counts=(1,) if kind == "LSTM" else (1, 2),
        ranks=(1, 1),
        axes="(features)",
    )


RECURRENT_TYPES = (*map(_recurrent, GATES), *map(_cell, GATES))
