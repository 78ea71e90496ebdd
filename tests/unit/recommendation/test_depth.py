"""What recommending asks for at every layer takes no look at all layers: that grew with the square
of the depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from service.domain.architecture import resolve
from service.domain.measurements import LayerMeasurements
from service.domain.request import ALL_KINDS
from service.recommendation import case as cases
from service.recommendation.case import Case
from service.recommendation.recommend import recommend
from service.recommendation.spec_structure import readers_of
from tests.unit.recommendation.remedy_cases import diagnosis, linear, measured


def deep(depth: int, activation: str = "Tanh", width: int = 16) -> dict[str, Any]:
    """Layers of 16 units, and every fourth of `width`."""
    layers: list[dict[str, Any]] = []
    for number in range(depth):
        units = 16 if number % 4 else width
        layers += [linear(f"fc{number}", units), {"name": f"act{number}", "type": activation}]
    return {"input": {"shape": [16]}, "layers": [*layers, linear("head", 4)]}


class Counted(tuple[LayerMeasurements, ...]):
    """Layers that know how often they were gone through."""

    times = 0

    def __iter__(self) -> Iterator[LayerMeasurements]:
        Counted.times += 1
        return super().__iter__()


@pytest.mark.parametrize("activation", ["Tanh", "LeakyReLU", "ReLU", "Sigmoid"])
@pytest.mark.parametrize("width", [16, 4])
@pytest.mark.parametrize("code", ["vanishing_gradient", "exploding_gradient", "dead_units"])
def test_all_layers_are_gone_through_no_oftener_in_a_deeper_model(
    activation: str, width: int, code: str
) -> None:
    times = []
    for depth in (20, 60):
        architecture = resolve(deep(depth, activation, width))
        found = measured(architecture)
        found = replace(found, layers=Counted(found.layers))
        Counted.times = 0
        advice = recommend(
            diagnosis(code),
            found,
            architecture=architecture,
            batch_size=64,
            allowed_changes=ALL_KINDS,
        )
        assert advice
        times.append(Counted.times)
    assert times[0] == times[1]


def test_layers_are_looked_through_once_for_each_and_not_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []
    is_matrix = cases.is_matrix

    def counting(layer: LayerMeasurements) -> bool:
        looks.append(layer.name)
        return is_matrix(layer)

    monkeypatch.setattr(cases, "is_matrix", counting)
    for depth in (20, 80):
        looks.clear()
        architecture = resolve(deep(depth))
        recommend(
            diagnosis("vanishing_gradient"),
            measured(architecture),
            architecture=architecture,
            batch_size=64,
            allowed_changes=ALL_KINDS,
        )
        assert 0 < len(looks) <= depth + 1


def test_a_case_answers_the_same_each_time() -> None:
    architecture = resolve(deep(3))
    case = Case(diagnosis("vanishing_gradient"), measured(architecture), architecture, 64, None)
    assert [layer.name for layer in case.matrices()] == ["fc0", "fc1", "fc2", "head"]
    assert case.matrices() is case.matrices()
    assert case.recurrent() is case.recurrent() == ()
    assert (case.head(), case.depth()) == ("head", case.depth())


def test_a_layer_read_twice_by_one_has_one_reader() -> None:
    architecture = resolve({
        "input": {"shape": [4]},
        "layers": [
            linear("a", 4),
            {"name": "twice", "type": "Add", "inputs": ["a", "a"]},
            {"name": "more", "type": "Add", "inputs": ["a", "twice"]},
        ],
    })  # fmt: skip
    found = {name: [one.name for one in by] for name, by in readers_of(architecture.layers).items()}
    assert found == {"input": ["a"], "a": ["twice", "more"], "twice": ["more"]}
