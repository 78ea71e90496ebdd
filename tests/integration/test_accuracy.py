"""The page on accuracy counts right; our own families and the rivals do what they say."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from benchmarks.accuracy import examine, family_of, spread
from benchmarks.accuracy_page import (
    DEFAULT,
    RIVAL,
    Answer,
    Examined,
    brier,
    confusion,
    flapping,
    page,
    ratios,
    reliability,
    repeated,
    unseen,
    wrong,
)
from benchmarks.families import FAMILIES
from benchmarks.label import known, labelled
from benchmarks.rivals import RULES, plain_training, snapshot
from benchmarks.score import oracle
from service.domain.model_source import model_source
from service.domain.request import ModelRequest

ROOT = Path(__file__).parents[2]
OWN = ROOT / "tests" / "cases" / "own_cases.jsonl"
PLAIN = ROOT / "tests" / "cases" / "plain_cases.jsonl"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _examined(label: str, verdict: str, confidence: float = 0.9, *flaps: str) -> Examined:
    return Examined(
        id=f"{label}-{verdict}",
        family="mlp",
        what="what",
        label=label,
        sgd=(0.1,),
        adam=(0.9,),
        answers={DEFAULT: Answer(verdict, 1.0, confidence, "why")},
        flaps=flaps,
    )


CASES = [
    _examined("sick", "unhealthy", 1.0),
    _examined("sick", "at_risk", 0.6),
    _examined("healthy", "unhealthy", 0.6),
    _examined("healthy", "healthy", 1.0),
    _examined("mixed", "at_risk", 0.6),
]


def test_ratios_leave_mixed_apart() -> None:
    found = ratios(CASES, DEFAULT)
    assert (found.precision, found.recall, found.f1, found.alarms) == (0.5, 0.5, 0.5, "1/2")
    nothing = ratios([], DEFAULT)
    assert (nothing.precision, nothing.f1, nothing.alarms) == (0.0, 0.0, "0/0")


def test_what_one_training_behind_a_label_is_worth() -> None:
    told = [replace(case, sgd=(0.1, 0.1, 0.6), adam=(0.2, 0.1, 0.1)) for case in CASES[:1]]
    assert "| 1.000 | 0.667 | 0.800 | 0.0/0 | 0/0 |" in repeated(told)
    told = [replace(case, sgd=(0.95, 0.1), adam=(0.95, 0.1)) for case in CASES[3:4]]
    assert "| 0.000 | 0.000 | 0.000 | 0.5/1 | 0/0 |" in repeated(told)


def test_networks_that_nothing_has_seen() -> None:
    seen = ["s11-3", "residual-3-1"]
    assert [unseen(case) for case in (*seen, "s23-0", "residual-4-1")] == [False] * 2 + [True] * 2


def test_calibration_by_hand() -> None:
    assert brier(CASES, DEFAULT) == pytest.approx((0.36 + 0.36 + 0.16) / 5)
    rows, error = reliability(CASES, DEFAULT)
    assert rows[2:] == [
        "| 0.60 … 0.70 | 3 | 0.600 | 0.333 |",
        "| 0.95 … 1.00 | 2 | 1.000 | 1.000 |",
    ]
    assert error == pytest.approx(3 / 5 * (0.6 - 1 / 3))


def test_flapping_counts_opposed_and_other_changes() -> None:
    cases = [
        _examined("sick", "unhealthy", 0.9, "unhealthy", "healthy"),
        _examined("mixed", "at_risk", 0.9, "at_risk", "healthy"),
        _examined("healthy", "healthy", 0.9, "healthy", "healthy"),
    ]
    told = flapping(cases)
    assert "healthy ↔ unhealthy in 1 (33.3%) (sick-unhealthy)" in told
    assert "any change of verdict in 2 (66.7%)" in told
    assert flapping(CASES) == "Not asked in this run."


def test_wrong_cases_are_told_sick_first() -> None:
    lines = wrong(CASES, DEFAULT)
    assert [line.split("`")[1] for line in lines] == ["sick-at_risk", "healthy-unhealthy"]
    assert wrong(CASES[:1], DEFAULT) == ["None."]


def test_confusion_shows_what_came_out() -> None:
    assert confusion(CASES, DEFAULT)[0] == f"| {DEFAULT} | healthy | at_risk | unhealthy |"
    assert confusion(CASES, DEFAULT)[4] == "| sick | 0 | 1 | 1 |"


def test_spread_takes_them_evenly() -> None:
    assert spread(10, 5) == {0, 2, 4, 6, 8}
    assert spread(3, 10) == {0, 1, 2}
    assert spread(10, 0) == frozenset()


def test_families_are_told_apart() -> None:
    assert family_of({"what": "LSTM rows n2"}) == "rnn"
    assert family_of({"what": "cnn L2"}) == "cnn"
    assert family_of({"what": "cnn L2", "family": "convolutional"}) == "convolutional"


@pytest.mark.parametrize("family", FAMILIES)
def test_grammar_and_oracle_both_take_what_a_family_draws(family: str) -> None:
    for number in range(4):
        drawing = FAMILIES[family](Random(number))
        assert drawing == FAMILIES[family](Random(number))
        model_source(ModelRequest("spec", spec=drawing.spec), "spec")
        x, _ = oracle().data(drawing.data)
        assert oracle().Net(drawing.spec["layers"])(x[:3]).shape == (3, 10)


def test_a_case_is_labelled_once(tmp_path: Path) -> None:
    case = labelled("biased", 3, 3)
    assert case is not None
    assert case["id"] == "biased-3-3"
    assert case["label"] == "healthy"
    path = tmp_path / "cases.jsonl"
    assert not known(path)
    path.write_text(json.dumps(case) + "\n", encoding="utf-8")
    assert list(known(path)) == ["biased-3-3"]


def test_own_cases_are_what_their_seeds_draw() -> None:
    """Those of the latest seed: the families have grown since the first ones."""
    cases = [json.loads(line) for line in OWN.read_text(encoding="utf-8").splitlines()]
    latest = [case for case in cases if unseen(case["id"])]
    assert len(latest) >= 50
    for case in latest[::10]:
        family, seed, number = case["id"].split("-")
        assert FAMILIES[family](Random(f"{seed}/{family}/{number}")).spec == case["spec"]


def test_plain_cases_are_what_their_seeds_draw() -> None:
    """As `oracle.py make` draws them, one generator for all networks of a seed."""
    cases = [json.loads(line) for line in PLAIN.read_text(encoding="utf-8").splitlines()]
    drawers = [oracle().mlp, oracle().cnn, oracle().rnn]
    for seed in {case["id"].split("-")[0] for case in cases}:
        r = Random(int(seed.removeprefix("s")))
        for case in (case for case in cases if case["id"].startswith(f"{seed}-")):
            assert unseen(case["id"])
            (draw,) = r.choices(drawers, [0.65, 0.25, 0.10])
            assert draw(r)[0] == case["spec"]


def test_there_are_enough_own_cases_of_every_family() -> None:
    counts: Counter[str] = Counter()
    for line in OWN.read_text(encoding="utf-8").splitlines():
        counts[json.loads(line)["family"]] += 1
    assert set(counts) == set(FAMILIES)
    assert counts.total() >= 400
    assert min(counts.values()) >= 20


def _mlp(depth: int, activation: str, **init: Any) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for _ in range(depth):
        layers.append({"type": "Linear", "args": {"in_features": 64, "out_features": 64}, **init})
        layers.append({"type": activation})
    layers.append({"type": "Linear", "args": {"in_features": 64, "out_features": 10}})
    return {"data": "flat", "spec": {"input": {"shape": [64]}, "layers": layers}}


HE = {"init": {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}}}
STUCK = _mlp(20, "Sigmoid")
FINE = _mlp(3, "ReLU", **HE)


@pytest.mark.parametrize("rules", RULES)
def test_rules_tell_a_stuck_network_from_a_sound_one(rules: str) -> None:
    assert RULES[rules](snapshot(STUCK))
    assert not RULES[rules](snapshot(FINE))


def test_plain_training_tells_them_apart() -> None:
    assert plain_training(_mlp(8, "Sigmoid")) == "unhealthy"
    assert plain_training(FINE) == "healthy"


def test_the_page_of_one_case() -> None:
    line = next(line for line in OWN.read_text(encoding="utf-8").splitlines() if "biased" in line)
    told = page([examine((json.loads(line), True, True))], [OWN], "the command")
    for part in ("At the edge", "By family", "Confidence", "flap", "still wrong"):
        assert part in told
    assert "Written by `the command`" in told
    assert f"| {RIVAL} | 1 |" in told
    assert "1 cases × 5 probe seeds" in told
