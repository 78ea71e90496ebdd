"""A recurrent cell with gates in place of one that forgets or explodes."""

from __future__ import annotations

from typing import Any

from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import Recommendation
from service.recommendation import source
from service.recommendation.case import Case
from service.recommendation.initialization import Draw, as_change, own_parameters, recurrent_draws
from service.recommendation.repaired import patch_of
from service.recommendation.wording import counted

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Blocks of rows in a cell's weights."""
SUCCESSORS = {"rnn": ("GRU", "LSTM"), "gru": ("LSTM",)}
"""What may take a cell's place, in order of size."""
FEWEST_STEPS = 8
"""Time steps below which a plain cell remembers as well."""


class ReplaceCell:
    """Exchange a plain recurrent cell for one whose gates carry the state from step to step.

    ### What it changes
    RNN layers become GRU or LSTM, GRU layers LSTM, of the same sizes, number of layers and
    direction. Recurrent weights are drawn orthogonal, an LSTM's forget gate starts open (bias 1).

    ### When it is offered
    When a recurrent layer over eight time steps or more forgets its first ones, gradients vanish or
    explode in it, values overflow or the short training does not learn.

    ### Why it works
    A plain cell multiplies its state by the same matrix and the activation's derivative at every
    step: after T steps what is left is their T-th power, nothing or everything. A gated state is
    added to, c' = f·c + i·g, and its gradient falls by the gate f alone, which is learned and
    starts near 1.

    ### Limits
    Three or four times the weights and the time per step; trained weights are lost. The last state
    of a layer is not replaced: models that read it, not the outputs, have to be changed by hand.
    A well drawn plain cell (orthogonal, small input weights) may do as well and is tried first.

    ### References
    * Hochreiter & Schmidhuber 1997, Long short-term memory. Cho et al. 2014, arXiv:1406.1078.
    * Jozefowicz et al. 2015, An empirical exploration of recurrent network architectures.
    * Pascanu et al. 2013, arXiv:1211.5063. Gers et al. 2000, Learning to forget.
    """

    kind = "recurrent_cell"
    cures = frozenset(
        {
            "fading_memory",
            "vanishing_gradient",
            "exploding_gradient",
            "nonfinite_values",
            "untrainable",
        }
    )

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        if not codes:
            return ()
        return tuple(
            _exchange(case, op, new, layers, codes)
            for op, cells in SUCCESSORS.items()
            for new in cells
            if (layers := _layers(case, op))
        )


def _layers(case: Case, op: str) -> tuple[LayerMeasurements, ...]:
    return tuple(
        layer
        for layer in case.recurrent()
        if layer.op == op
        and layer.time_steps is not None
        and len(layer.time_steps.memory) >= FEWEST_STEPS
        and not any(".weight_hr_" in p.name for p in layer.parameters)
    )


def _exchange(
    case: Case, op: str, new: str, layers: tuple[LayerMeasurements, ...], codes: tuple[str, ...]
) -> Recommendation:
    names = tuple(layer.name for layer in layers)
    draws = tuple(draw for layer in layers for draw in _draws(layer, new))
    arguments = {layer.name: _arguments(case, layer) for layer in layers}
    change = {"cell": new, "replaces": op.upper(), "cell_args": arguments, **as_change(draws)}
    return Recommendation(
        id="",
        kind=ReplaceCell.kind,
        layers=names,
        title=f"Replace {op.upper()} by {new} in {counted(names)}",
        why=_why(op, new, layers),
        resolves=codes,
        change=change,
        patch=patch_of(case.architecture, {"kind": ReplaceCell.kind, "layers": names, **change}),
        code="\n".join(
            [*(_line(name, new, arguments[name]) for name in names), source.draws(draws)]
        ),
    )


def _arguments(case: Case, layer: LayerMeasurements) -> dict[str, Any]:
    """Of the constructor, as the shapes of the weights tell; dropout as the spec says."""
    shapes = {p.name.rpartition(".")[2]: p.shape for p in own_parameters(layer)}
    nodes = case.architecture.layers if case.architecture else ()
    given = next((node.args for node in nodes if node.name == layer.name), {})
    return {
        "input_size": shapes["weight_ih_l0"][1],
        "hidden_size": shapes["weight_hh_l0"][1],
        "num_layers": sum(
            1 for name in shapes if name.startswith("weight_hh_l") and "_reverse" not in name
        ),
        "bias": "bias_ih_l0" in shapes,
        "bidirectional": "weight_hh_l0_reverse" in shapes,
        "dropout": float(given.get("dropout", 0.0)),
    }


def _draws(layer: LayerMeasurements, new: str) -> tuple[Draw, ...]:
    factor = GATES[new] / GATES[layer.op.upper()]
    shapes = {p.name: (int(p.shape[0] * factor), *p.shape[1:]) for p in own_parameters(layer)}
    steps = len(layer.time_steps.memory) if layer.time_steps else 1
    return recurrent_draws(new.lower(), shapes, steps)


def _line(name: str, new: str, args: dict[str, Any]) -> str:
    said = ", ".join(f"{key}={value!r}" for key, value in args.items())
    said += f", batch_first={source.module(name)}.batch_first"
    return f"model.set_submodule({name!r}, nn.{new}({said}))"


def _why(op: str, new: str, layers: tuple[LayerMeasurements, ...]) -> str:
    steps = max(len(layer.time_steps.memory) for layer in layers if layer.time_steps)
    return (
        f"Over {steps} time steps {op.upper()} multiplies its state by the same weights {steps}"
        f" times; {new} adds to it, and its gates decide what is kept."
    )
