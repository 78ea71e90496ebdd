"""How recurrent layers are to be initialized."""

from __future__ import annotations

import pytest

from service.recommendation.initialization import recurrent_draws
from service.recommendation.source import _call


def draws(op: str, gates: int) -> dict[str, str]:
    shapes = {
        "cell.weight_ih_l0": (gates * 4, 8),
        "cell.weight_hh_l0": (gates * 4, 4),
        "cell.bias_ih_l0": (gates * 4,),
        "cell.bias_hh_l0": (gates * 4,),
    }
    return {
        draw.parameter.partition(".")[2]: draw.function for draw in recurrent_draws(op, shapes, 8)
    }


@pytest.mark.parametrize(
    ("op", "gates", "ih"),
    [
        ("rnn", 1, "zeros_"),
        ("gru", 3, "zeros_"),
        ("lstm", 4, "forget_gate_"),
    ],
)
def test_no_bias_keeps_what_it_was(op: str, gates: int, ih: str) -> None:
    found = draws(op, gates)
    assert set(found) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    assert (found["bias_ih_l0"], found["bias_hh_l0"]) == (ih, "zeros_")


def test_the_code_of_a_forget_gate_clears_the_other_gates() -> None:
    (draw,) = recurrent_draws("lstm", {"cell.bias_ih_l0": (16,)}, 8)
    said = "nn.init.constant_(nn.init.zeros_({module}.bias_ih_l0).detach()[4:8], 1.0)"
    assert _call(draw, "bias_ih_l0") == said
