"""Several changes as one list of edits: least invasive first, every parameter drawn once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from service.domain.architecture import resolve
from service.domain.recommendations import Recommendation
from service.domain.request import ALL_KINDS
from service.recommendation import recommend
from service.recommendation.combination import ORDER, combined
from service.recommendation.repaired import repaired
from tests.unit.recommendation.remedy_cases import diagnosis, measured, mlp, normal, patched

SPEC = mlp(30, "Tanh", normal(0.01))


@pytest.fixture(scope="module")
def offered() -> dict[str, Recommendation]:
    found = recommend(
        diagnosis("vanishing_gradient"),
        measured(resolve(SPEC)),
        architecture=resolve(SPEC),
        batch_size=64,
        allowed_changes=ALL_KINDS,
    )
    return {one.kind: one for one in found}


def test_least_invasive_first_each_parameter_once(offered: dict[str, Recommendation]) -> None:
    chosen = [offered[kind] for kind in ("residual", "activation", "initializer")]
    changes = combined(chosen)
    assert [change["kind"] for change in changes] == ["initializer", "activation", "residual"]
    drawn = [draw["parameter"] for change in changes for draw in change["parameters"]]
    assert len(set(drawn)) == len(drawn)
    every = {draw["parameter"] for one in chosen for draw in one.change["parameters"]}
    assert set(drawn) == every


def test_a_branch_behind_a_new_activation_has_its_gain(offered: dict[str, Recommendation]) -> None:
    scale = offered["residual"].change["branch_scale"]
    *_, residual = combined([offered["activation"], offered["residual"]])
    draws: dict[str, dict[str, Any]] = {d["parameter"]: d for d in residual["parameters"]}
    gains = {d["parameter"]: d["gain"] for d in offered["activation"].change["parameters"]}
    for name in residual["scaled"]:
        assert draws[name]["gain"] == pytest.approx(gains[name] * scale, rel=1e-4)
        assert draws[name]["args"]["std"] * math.sqrt(64) == pytest.approx(
            draws[name]["gain"], rel=1e-4
        )


def test_all_together_can_be_said_on_the_spec(offered: dict[str, Recommendation]) -> None:
    chosen = [offered[kind] for kind in ORDER if kind in offered]
    done = repaired(resolve(SPEC), combined(chosen))
    assert done is not None
    after = patched(SPEC, done.patch)
    kinds = [node.type for node in after.layers]
    assert kinds.count("Add") == len(offered["residual"].layers)
    assert kinds.count("LayerNorm") == kinds.count("ELU") == 30
    assert "Tanh" not in kinds


def test_a_skip_goes_around_a_bottleneck() -> None:
    spec = mlp(7, "ReLU")
    for layer in spec["layers"][2:12:4]:
        layer["args"] = {"out_features": 2}
    narrow = resolve(spec)
    (one,) = recommend(
        diagnosis("narrow_layer"),
        measured(narrow),
        architecture=narrow,
        batch_size=64,
        allowed_changes=("residual",),
    )
    assert one.layers == ("fc3", "fc5", "fc7")
    assert one.change["begins"] == {"fc3": "fc2", "fc5": "fc4", "fc7": "fc6"}
    assert one.patch is not None
    inputs = {node.name: node.inputs for node in patched(spec, one.patch).layers}
    assert inputs["act3_skip"] == ("act3", "act1")
    assert inputs["act5_skip"] == ("act5", "act3_skip")
    assert inputs["act7_skip"] == ("act7", "act5_skip")
    assert inputs["head"] == ("act7_skip",)
    assert "('fc2', 'act2', 'fc3', 'act3')" in one.code
