"""One case of the repair benchmark: prescribed, trained by the oracle, searched for less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.repair import ALLOWED, Judged, prescribing, recorded
from benchmarks.repair_page import OURS, RECIPE
from benchmarks.shortest import shorter_cure
from service.domain.architecture import resolve

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    """A hidden layer of constants: quick to judge."""
    lines = (ROOT / "tests/cases/dev_cases.jsonl").read_text(encoding="utf-8").splitlines()
    return next(case for case in map(json.loads, lines) if case["id"] == "s11-59")


def test_a_record_of_ours(case: dict[str, Any]) -> None:
    found = recorded(case, OURS, {})
    assert (found["label"], found["verdict"]) == ("healthy", "unhealthy")
    assert found["changes"] == 1
    assert found["shorter"] == {"found": None, "tried": 0, "all": True}
    assert found["seconds"] > found["bare_seconds"] > 0.0
    assert list(found["labels"].values()) == ["healthy"]


def test_a_record_of_a_rule_of_thumb_takes_a_label_that_is_known(case: dict[str, Any]) -> None:
    (digest,) = recorded(case, RECIPE, {})["labels"]
    assert recorded(case, RECIPE, {digest: "mixed"})["label"] == "mixed"


def test_a_shorter_cure_is_found_where_there_is_one() -> None:
    linear = {"type": "Linear", "args": {"out_features": 16}}
    spec = {"input": {"shape": [64]}, "layers": [linear, {"type": "Sigmoid"}] * 10 + [linear]}
    report = prescribing(spec, ("clipping",))
    assert report.prescription is None
    judged: list[dict[str, Any]] = []

    def label(spec: dict[str, Any]) -> str:
        judged.append(spec)
        return "healthy" if len(judged) == 2 else "sick"

    found = shorter_cure(resolve(spec), report, label)
    assert found == {"found": ["activation"], "tried": 2, "all": True}
    assert judged[0] != judged[1]
    none = shorter_cure(resolve(spec), report, lambda _: "sick")
    assert none["found"] is None
    assert none["tried"] > 2


def test_a_spec_is_judged_once(case: dict[str, Any]) -> None:
    report = prescribing(case["spec"], ALLOWED[OURS])
    assert report.prescription is not None
    label = Judged(case["data"], {})
    spec = report.prescription.patched_spec
    assert spec is not None
    assert label(spec) == label(json.loads(json.dumps(spec)))
    assert len(label.labels) == 1
