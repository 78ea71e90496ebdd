"""Hypothesis strategies: changes that a remedy might propose for a random spec."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from service.domain.architecture import Architecture, LayerNode
from service.domain.layers.initializers import INITIALIZERS, DoesNotFit, Parameter

Change = dict[str, Any]


def normalizations(architecture: Architecture) -> st.SearchStrategy[Change]:
    """LayerNorm behind some layers."""
    able = [
        one for one in architecture.layers if one.output_shape and "int" not in one.output_dtype
    ]

    def change(chosen: list[LayerNode]) -> Change:
        added = [
            {
                "after": node.name,
                "type": "LayerNorm",
                "args": {"normalized_shape": node.output_shape[-1]},
            }
            for node in chosen
        ]
        return {"kind": "normalization", "layers": added}

    return _some(able).map(change)


def initializations(architecture: Architecture) -> st.SearchStrategy[Change]:
    """A function of torch.nn.init for some parameters."""
    calls: dict[str, dict[str, Any]] = {
        "zeros_": {},
        "normal_": {"std": 0.5},
        "orthogonal_": {"gain": 1.5},
        "kaiming_normal_": {"nonlinearity": "relu"},
    }
    able = [
        {"parameter": f"{node.name}.{key}", "initializer": function, "args": args}
        for node in architecture.layers
        for key, shape in node.parameters.items()
        for function, args in calls.items()
        if _fits(function, args, Parameter(node.type, key, shape))
    ]
    one_each = _some(able).map(lambda draws: list({d["parameter"]: d for d in draws}.values()))
    return one_each.map(lambda draws: {"kind": "initializer", "parameters": draws})


def _fits(function: str, args: dict[str, Any], parameter: Parameter) -> bool:
    try:
        INITIALIZERS[function].check_fit(args, parameter)
    except DoesNotFit:
        return False
    return True


def _some(able: list[Any]) -> st.SearchStrategy[list[Any]]:
    if not able:
        return st.just([])
    return st.lists(st.integers(0, len(able) - 1), unique=True, max_size=6).map(
        lambda places: [able[place] for place in sorted(places)]
    )
