"""The repaired model to take away, or why there is none."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from fastapi.testclient import TestClient

from service.domain.analysis import Analysis
from service.domain.architecture import resolve
from service.domain.expanded import expanded
from service.domain.recommendations import Prescription
from service.ports import Artifact
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine, cancel, fail, fall_ill, succeed

SUBMITTED = {"input": {"shape": [64]}, "layers": [{"type": "Linear", "args": {"out_features": 10}}]}
PATCH = ({"op": "add", "path": "/layers/0/init", "value": {"weight": {"name": "ones_"}}},)
REPAIRED = expanded(resolve(jsonpatch.apply_patch(SUBMITTED, list(PATCH))))
WEIGHTS = "sha256:" + "a" * 64
PARTS = ("spec", "code", "state_dict")


def cured(**changes: Any) -> Callable[[Analysis], Analysis]:
    """Unhealthy, with a prescription."""

    def outcome(analysis: Analysis) -> Analysis:
        ill = fall_ill(analysis)
        assert ill.report is not None
        prescription = Prescription(("r1",), "healthy", None, REPAIRED, PATCH, WEIGHTS)
        report = replace(ill.report, prescription=replace(prescription, **changes))
        return replace(ill, report=report)

    return outcome


def posted(client: TestClient, **more: Any) -> str:
    answer = client.post("/v1/analyses", json=body(model={"kind": "spec", **SUBMITTED}, **more))
    assert answer.status_code in (200, 202), answer.text
    return f"/v1/analyses/{answer.json()['id']}"


@pytest.fixture
def address(client: TestClient, engine: FakeEngine, tmp_path: Path) -> str:
    """Of an analysis with everything to take away."""
    engine.outcome = cured()
    engine.files[WEIGHTS] = Artifact(WEIGHTS, 7, "safetensors", datetime.now(UTC))
    engine.paths[WEIGHTS] = tmp_path / "weights"
    engine.paths[WEIGHTS].write_bytes(b"tensors")
    return posted(client)


def test_the_answer_tells_where_it_is(client: TestClient, address: str) -> None:
    prescription = client.get(address).json()["diagnosis"]["prescription"]
    assert prescription["weights"] == WEIGHTS
    links = prescription["links"]
    assert set(links) == {"spec", "patch", "code", "state_dict"}
    for link in links.values():
        assert client.get(link).status_code == 200


def test_what_there_is_not_has_no_link(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = cured(patched_spec=None, patch=None, weights=None)
    links = client.get(posted(client)).json()["diagnosis"]["prescription"]["links"]
    assert links == {"spec": None, "patch": None, "code": None, "state_dict": None}


def test_the_spec_or_the_patch_to_it(client: TestClient, address: str) -> None:
    spec = client.get(f"{address}/prescription/spec")
    assert (spec.headers["content-type"], spec.json()) == ("application/json", REPAIRED)
    accept = {"Accept": "application/json-patch+json"}
    for patch in (
        client.get(f"{address}/prescription/spec?format=patch"),
        client.get(f"{address}/prescription/spec", headers=accept),
    ):
        assert patch.headers["content-type"] == "application/json-patch+json"
        after = resolve(jsonpatch.apply_patch(SUBMITTED, patch.json()))
        assert expanded(after) == spec.json()
    assert spec.headers["vary"] == "Accept"
    asked = client.get(f"{address}/prescription/spec?format=spec", headers=accept)
    assert asked.json() == REPAIRED


def test_the_code_is_a_program(client: TestClient, address: str) -> None:
    answer = client.get(f"{address}/prescription/code")
    assert answer.headers["content-type"].startswith("text/x-python")
    tree = ast.parse(answer.text)
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == ["RepairedModel"]


def test_the_weights_are_streamed_with_their_digest(client: TestClient, address: str) -> None:
    answer = client.get(f"{address}/prescription/state_dict")
    assert answer.content == b"tensors"
    assert answer.headers["content-length"] == "7"
    assert answer.headers["etag"] == f'"{"a" * 64}"'
    part = client.get(f"{address}/prescription/state_dict", headers={"Range": "bytes=2-3"})
    assert (part.status_code, part.content) == (206, b"ns")


@pytest.mark.parametrize("part", [*PARTS, "spec?format=patch"])
def test_who_has_it_is_not_sent_it_again(client: TestClient, address: str, part: str) -> None:
    first = client.get(f"{address}/prescription/{part}")
    name = first.headers["content-disposition"]
    assert name.startswith('attachment; filename="a1.')
    etag = first.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = client.get(f"{address}/prescription/{part}", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    other = client.get(f"{address}/prescription/{part}", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (succeed, "healthy as it stands"),
        (fall_ill, "no permitted change"),
        (fail, "ValueError: boom"),
        (cancel, "cancelled"),
    ],
    ids=["healthy", "nothing found", "failed", "cancelled"],
)
def test_nothing_was_prescribed(
    client: TestClient,
    engine: FakeEngine,
    outcome: Callable[[Analysis], Analysis],
    why: str,
    part: str,
) -> None:
    engine.outcome = outcome
    told = client.get(f"{posted(client)}/prescription/{part}")
    assert (told.status_code, told.json()["code"]) == (404, "no_prescription")
    assert why in told.json()["detail"]


@pytest.mark.parametrize("part", PARTS)
def test_not_yet(client: TestClient, engine: FakeEngine, part: str) -> None:
    engine.outcome = None
    told = client.get(f"{posted(client)}/prescription/{part}")
    assert (told.status_code, told.json()["code"]) == (409, "analysis_unfinished")
    assert told.headers["retry-after"] == "1"


@pytest.mark.parametrize("part", PARTS)
def test_no_such_analysis(client: TestClient, part: str) -> None:
    told = client.get(f"/v1/analyses/none/prescription/{part}")
    assert (told.status_code, told.json()["code"]) == (404, "analysis_not_found")


def test_a_file_has_no_spec(client: TestClient, engine: FakeEngine) -> None:
    of_file = cured(patched_spec=None, patch=None)
    engine.outcome = lambda analysis: replace(of_file(analysis), model_format="torchscript")
    address = posted(client)
    for part in ("spec", "spec?format=patch", "code"):
        told = client.get(f"{address}/prescription/{part}")
        assert (told.status_code, told.json()["code"]) == (409, "spec_only")


@pytest.mark.parametrize(
    ("more", "changes", "why"),
    [
        ({"retain": "statistics"}, {}, "'statistics'"),
        ({}, {"weights": None}, "the notes tell why"),
    ],
)
def test_weights_that_were_not_kept(
    client: TestClient, engine: FakeEngine, more: Any, changes: Any, why: str
) -> None:
    engine.outcome = cured(**changes)
    told = client.get(f"{posted(client, **more)}/prescription/state_dict")
    assert (told.status_code, told.json()["code"]) == (404, "weights_not_kept")
    assert why in told.json()["detail"]


def test_weights_that_somebody_deleted(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = cured()
    told = client.get(f"{posted(client)}/prescription/state_dict")
    assert (told.status_code, told.json()["code"]) == (404, "artifact_not_found")


@pytest.mark.parametrize(
    ("part", "accept"),
    [("spec", "text/x-python"), ("code", "application/json"), ("state_dict", "text/plain")],
)
def test_other_forms_there_are_not(
    client: TestClient, address: str, part: str, accept: str
) -> None:
    told = client.get(f"{address}/prescription/{part}", headers={"Accept": accept})
    assert (told.status_code, told.json()["code"]) == (406, "not_acceptable")


def test_a_mistyped_parameter_is_refused(client: TestClient, address: str) -> None:
    for query in ("format=diff", "form=patch"):
        assert client.get(f"{address}/prescription/spec?{query}").status_code == 422
