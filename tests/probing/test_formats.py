"""Labelled networks in every form that they can be sent in: one answer."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest

from benchmarks.formats import FORMS, LEFT_OUT, Told, judged, page
from benchmarks.keras_writer import Inexpressible, as_keras
from benchmarks.score import CASES
from service.domain.architecture import resolve
from service.domain.keras import translate
from service.probing.loaders.spec import build
from tests.probing.keras_weights import keras

LAYERS = 31
"""Deeper ones take more time than they tell."""


def cases(prefix: str, label: str, count: int = 1) -> list[dict[str, Any]]:
    read = map(json.loads, CASES.read_text(encoding="utf-8").splitlines())
    fitting = (one for one in read if one["what"].startswith(prefix) and one["label"] == label)
    small = (one for one in fitting if len(resolve(one["spec"]).layers) < LAYERS)
    return list(islice(small, count))


SAMPLE = [
    *cases("mlp", "healthy"),
    *cases("mlp", "sick", 2),
    *cases("mlp", "mixed"),
    *cases("cnn", "healthy"),
    *cases("cnn", "sick"),
    *cases("LSTM", "healthy"),
]


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case["what"].replace(" ", "-"))
def test_the_same_verdict_and_findings_in_every_form(case: dict[str, Any]) -> None:
    told = [judged(case, form, trial_steps=0) for form in FORMS]
    assert all(one.verdict != "failed" for one in told), told
    left_out = {one.form for one in told if one.verdict == LEFT_OUT}
    assert left_out == ({"keras"} if case["what"].startswith("LSTM") else set())
    answers = {(one.verdict, one.findings) for one in told if one.form not in left_out}
    assert len(answers) == 1, told
    gains = [one.total_gain for one in told if one.form not in left_out]
    assert gains == pytest.approx(gains[:1] * len(gains), rel=1e-3), "of the same weights"


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case["what"].replace(" ", "-"))
def test_what_is_written_for_keras_is_a_keras_model(case: dict[str, Any]) -> None:
    """It loads, and what Keras writes of it means the same spec."""
    try:
        written = as_keras(resolve(case["spec"]))
    except Inexpressible:
        assert case["what"].startswith("LSTM")
        return
    model = keras.models.model_from_json(json.dumps(written))
    again = translate(json.loads(model.to_json())).spec
    assert again == translate(written).spec
    architecture = resolve(case["spec"])
    shapes = [tuple(one.shape) for one in build(architecture).parameters()]
    assert [tuple(one.shape) for one in build(resolve(again)).parameters()] == shapes


def test_the_page_tells_where_forms_differ() -> None:
    alike = [Told("1", "one", "sick", form, "unhealthy", ("error x",), "", 0.5) for form in FORMS]
    other = [
        Told("2", "two", "healthy", "spec", "healthy", (), "", 1.0),
        Told("2", "two", "healthy", "keras", LEFT_OUT, (), "RNN {}"),
        Told("2", "two", "healthy", "torchscript", "unhealthy", ("error y",), "", 1.0),
        Told("2", "two", "healthy", "exported_program", "failed", (), "Broken: why", 2.0),
    ]
    text = page([*alike, *other], 0, 1)
    assert "| spec | 2 | 0 | 1/1 | 0/1 | 2/2 | 2/2 | 0 |" in text
    assert "| keras | 1 | 0 | 1/1 | 0/0 | 1/1 | 1/1 | 0 |" in text
    assert "| torchscript | 2 | 0 | 1/1 | 1/1 | 1/2 | 1/2 | 0 |" in text
    assert "| exported_program | 2 | 1 | 1/1 | 0/1 | 1/2 | 2/2 | 0.5 |" in text
    assert "  * torchscript: unhealthy; error y" in text
    assert "  * exported_program: failed; Broken: why" in text
    assert "* two, exported_program: by 0.5\n" in text
    assert "* RNN, in 1: " in text
