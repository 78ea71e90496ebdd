"""docs/repair.md says what the records say; what rules of thumb make of a network is a network."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.repair_page import HE, OURS, page, table
from benchmarks.rules_of_thumb import best_of, he, recipe
from service.domain.architecture import resolve
from service.domain.expanded import expanded

ROOT = Path(__file__).parents[2]
CASES = [
    json.loads(line)
    for line in (ROOT / "tests/cases/dev_cases.jsonl").read_text(encoding="utf-8").splitlines()
]
SICK = [case for case in CASES if case["label"] == "sick"]


def record(name: str, label: str | None, way: str = OURS, **more: Any) -> dict[str, Any]:
    told = {"id": name, "way": way, "case": "sick", "what": "a net", "family": "mlp"}
    shorter = {"found": None, "tried": 0, "all": True}
    rest = {"label": label, "changes": 1, "seconds": 2.0, "bare_seconds": 0.01}
    return {**told, **rest, "verdict": "unhealthy", "shorter": shorter, **more}


RECORDS = [
    record("a", "healthy"),
    record("b", "mixed", changes=2, shorter={"found": ["activation"], "tried": 3, "all": True}),
    record("c", None, changes=0),
    record("bottleneck-1-0", "healthy"),  # one that the search was changed for
    record("a", "sick", HE, changes=0, seconds=0.0),
    record("h", None, case="healthy", verdict="healthy"),
    record("i", "mixed", case="healthy", verdict="at_risk"),
]


def test_rates_are_of_all_sick_cases() -> None:
    ours, unseen, on_those, thumb = table(RECORDS)[2:]
    assert ours == "| graddx | 3/4 | 0.750 | 0.500 | 1.33 | 200 |"
    assert unseen == "| graddx, not at hand | 2/3 | 0.667 | 0.333 | 1.50 | 200 |"
    assert on_those == "| graddx, on the 1 | 1/1 | 1.000 | 1.000 | 1.00 | 200 |"
    assert thumb == "| He alone | 1/1 | 0.000 | 0.000 | – | – |"


def test_the_page_names_what_went_wrong() -> None:
    text = page(RECORDS, drawn=9)
    assert "In 3 of 4 (75.0%) our" in text
    assert "Shorter would do: `b` (activation)." in text
    assert "2 networks labelled healthy (1 healthy, 1 at_risk): 1 were given a" in text
    assert "after it 1 are not healthy any more: i." in text
    assert "* `b` a net: half-way" in text
    assert "* `c` a net: none offered" in text
    assert "(9 were" in text


@pytest.mark.parametrize("case", SICK, ids=lambda case: str(case["id"]))
def test_rules_of_thumb_give_networks(case: dict[str, Any]) -> None:
    before = expanded(resolve(case["spec"]))
    assert len(resolve(he(before)).layers) == len(before["layers"])
    after = resolve(recipe(before))
    hidden = [node for node in after.layers if node.type in {"Linear", "Conv2d"}][:-1]
    readers = {name: node.type for node in after.layers for name in node.inputs}
    assert all(readers[node.name].startswith("BatchNorm") for node in hidden)
    calls = {node.init["weight"].name for node in hidden}
    assert calls <= {"kaiming_normal_"}
    drawn = best_of(before, Random(0), 3, lambda spec: len(spec["layers"]))
    assert resolve(drawn).layers
