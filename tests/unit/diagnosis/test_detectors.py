"""Every detector on its own data: what must fire, what must stay quiet."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from service.diagnosis import ALL_DETECTORS
from service.diagnosis.detector import Case
from service.domain.measurements import LayerMeasurements

Table = Mapping[str, Any]
DETECTORS = {detector.code: detector for detector in ALL_DETECTORS}
FOLDER = Path(__file__).parent / "cases"


def _tables(kind: str) -> list[Any]:
    return [
        pytest.param(path.stem, table, id=f"{path.stem}: {table['what']}")
        for path in sorted(FOLDER.glob("*.json"))
        for table in json.loads(path.read_text(encoding="utf-8"))[kind]
    ]


def test_every_detector_has_cases_of_both_kinds() -> None:
    for code in DETECTORS:
        cases = json.loads((FOLDER / f"{code}.json").read_text(encoding="utf-8"))
        assert cases["must_fire"], code
        assert len(cases["must_stay_quiet"]) >= 2, code


@pytest.mark.parametrize(("code", "table"), _tables("must_fire"))
def test_fires(code: str, table: Table, case_of: Callable[[Table], Case]) -> None:
    reading = DETECTORS[code].read(case_of(table))
    assert reading.finding is not None
    assert reading.finding.code == code
    assert reading.finding.severity == table["severity"]
    assert 0.5 <= reading.finding.confidence <= 0.99
    assert reading.finding.evidence
    assert reading.warning >= reading.error
    json.dumps(reading.finding.evidence, allow_nan=False)


@pytest.mark.parametrize(("code", "table"), _tables("must_fire"))
def test_layers_are_not_looked_for_among_layers(
    code: str, table: Table, case_of: Callable[[Table], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would take the square of their number."""
    case = case_of(table)

    def compared(self: object, other: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(LayerMeasurements, "__eq__", compared)
    assert DETECTORS[code].read(case).finding is not None


@pytest.mark.parametrize(("code", "table"), _tables("must_stay_quiet"))
def test_stays_quiet(code: str, table: Table, case_of: Callable[[Table], Case]) -> None:
    reading = DETECTORS[code].read(case_of(table))
    assert reading.finding is None
    assert reading.warning < 0.5


def test_cause_names_the_activation_and_its_factor(case_of: Callable[[Table], Case]) -> None:
    gradient = [0.02 * 0.19 ** (19 - i) for i in range(20)]
    case = case_of({"gradient": gradient, "nonlinearity": "sigmoid"})
    found = DETECTORS["vanishing_gradient"].read(case).finding
    assert found is not None
    assert "sigmoid at fc2…fc20 passes 0.19x each." in found.causes
    assert found.detail.startswith(
        "fc1 receives 2e-14 of the gradient at fc20 (sigmoid, 0.19x per layer)."
    )


@pytest.mark.parametrize(
    ("code", "factor"), [("vanishing_gradient", 0.5), ("exploding_gradient", 2)]
)
def test_detail_says_how_deep_the_initialization_trains(
    code: str, factor: float, case_of: Callable[[Table], Case]
) -> None:
    gradient = [0.1 * factor ** (29 - i) for i in range(30)]
    depth = {"predicted": 14.2, "low": 11.8, "high": None, "actual": 30.0}
    found = (
        DETECTORS[code]
        .read(case_of({"gradient": gradient, "model": {"trainable_depth": depth}}))
        .finding
    )
    assert found is not None
    assert found.detail.endswith(
        "By theory this choice trains to about 14 layers (12 or more over initializations); you "
        "have 30."
    )
    assert found.evidence["trainable_depth"] == depth
    deep = {**depth, "predicted": 40.0}
    quiet = (
        DETECTORS[code]
        .read(case_of({"gradient": gradient, "model": {"trainable_depth": deep}}))
        .finding
    )
    assert quiet is not None
    assert "By theory" not in quiet.detail


BOUND = 1 / math.sqrt(128)
"""Of the default's uniform weights at a fan_in of 128."""


@pytest.mark.parametrize(
    ("rms", "abs_max", "named"),
    [
        (BOUND / math.sqrt(3), BOUND * (1 - 1e-5), True),
        (0.05, 0.2, False),  # normal, of nearly that size: 0.051
        (BOUND / math.sqrt(3), 4.2 * BOUND / math.sqrt(3), False),  # normal, of just that size
        (BOUND / math.sqrt(3), BOUND / math.sqrt(3), False),  # constant, of just that size
        (BOUND, BOUND * math.sqrt(3), False),  # Xavier uniform
    ],
)
def test_cause_names_default_initialization(
    rms: float, abs_max: float, named: bool, case_of: Callable[[Table], Case]
) -> None:
    gradient = [0.1 * 0.4 ** (19 - i) for i in range(20)]
    table = {"gradient": gradient, "weight_rms": rms, "weight_abs_max": abs_max}
    found = DETECTORS["vanishing_gradient"].read(case_of(table)).finding
    assert found is not None
    told = any("PyTorch's default initialization" in cause for cause in found.causes)
    assert told is named


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6])
def test_gradient_findings_do_not_depend_on_scale(
    scale: float, case_of: Callable[[Table], Case]
) -> None:
    gradient = [0.1 * 0.4 ** (19 - i) for i in range(20)]
    case, scaled = (
        case_of({"gradient": gradient}),
        case_of({"gradient": [scale * norm for norm in gradient]}),
    )
    for code in ("vanishing_gradient", "exploding_gradient"):
        one, other = DETECTORS[code].read(case), DETECTORS[code].read(scaled)
        assert other.error == pytest.approx(one.error)
        assert other.warning == pytest.approx(one.warning)
