"""SARIF, JUnit XML and Markdown: held to their schemas, and to what the analysis says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient
from lxml import etree

from service.domain.analysis import Analysis
from service.domain.api_keys import Caller, Scope
from service.domain.findings import Finding, Severity, Suppressed, Verdict
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import SICK, FakeEngine, cancel, fail, fall_ill, succeed

DATA = Path(__file__).parents[2] / "data"
SCHEMA = DATA / "sarif-2.1.0.schema.json"
JUNIT_SCHEMA = etree.XMLSchema(etree.parse(DATA / "junit.xsd"))
SARIF = "application/sarif+json"
JUNIT = "application/junit+xml"
MARKDOWN = "text/markdown"
UNCLOSED = "^[a-zA-Z]{2}|^[a-zA-Z]{2}-[a-zA-Z]{2}]?$"
"""A pattern of the schema, of a field that is not used here, that only JavaScript takes."""
EXPLAINED = "/guide/detectors.html#vanishing_gradient"
OUTCOMES = [succeed, fall_ill, fail, cancel]


@pytest.fixture(scope="module")
def sarif_schema() -> Any:
    text = SCHEMA.read_text(encoding="utf-8")
    assert json.dumps(UNCLOSED) in text
    fitting = text.replace(json.dumps(UNCLOSED), '"^[a-zA-Z]{2}"')
    return jsonschema_rs.Draft4Validator(json.loads(fitting), validate_formats=True)


def made(client: TestClient, **more: Any) -> str:
    """Address of a new analysis."""
    return f"/v1/analyses/{client.post('/v1/analyses?wait=0', json=body(**more)).json()['id']}"


def found(**changes: Any) -> Callable[[Analysis], Analysis]:
    """Ends with one finding, changed so."""
    finding = replace(SICK, **changes)

    def outcome(analysis: Analysis) -> Analysis:
        ill = fall_ill(analysis)
        assert ill.report is not None
        diagnosis = replace(ill.report.diagnosis, findings=(finding,), suppressed=())
        limit = analysis.request.fail_on
        passed = limit is None or finding.severity.rank < limit.rank
        return replace(
            ill, passed=passed, report=replace(ill.report, diagnosis=diagnosis, passed=passed)
        )

    return outcome


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_sarif_keeps_to_its_schema(
    client: TestClient, engine: FakeEngine, outcome: Any, sarif_schema: Any
) -> None:
    engine.outcome = outcome
    answer = client.get(f"{made(client)}/sarif")
    assert (answer.status_code, answer.headers["content-type"]) == (200, SARIF)
    assert [str(one) for one in sarif_schema.iter_errors(answer.json())] == []


def test_the_schema_can_refuse(sarif_schema: Any) -> None:
    assert not sarif_schema.is_valid({"version": "2.1.0", "runs": [{"results": []}]})
    wrong_level = {"message": {"text": "m"}, "level": "fatal"}
    run = {"tool": {"driver": {"name": "graddx"}}, "results": [wrong_level]}
    assert not sarif_schema.is_valid({"version": "2.1.0", "runs": [run]})


def test_sarif_says_where_and_what(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = fall_ill
    address = made(client)
    (run,) = client.get(f"{address}/sarif?path=models/a b.json").json()["runs"]
    told, ignored = run["results"]
    assert (told["ruleId"], told["level"]) == ("vanishing_gradient", "error")
    (location,) = told["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/a%20b.json"
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "fc1"
    assert "sigmoid saturates" in told["message"]["text"]
    assert ignored["suppressions"][0]["justification"] == "known"
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["id"] == "vanishing_gradient"
    assert "### Why it matters" in rule["help"]["markdown"]
    assert rule["helpUri"] == f"http://testserver{EXPLAINED}"
    assert run["properties"]["address"] == f"http://testserver{address}"
    assert run["invocations"][0]["executionSuccessful"] is True


def test_fingerprints_know_the_problem_and_no_number(
    client: TestClient, engine: FakeEngine
) -> None:
    def of(path: str = "net.json", **changes: Any) -> str:
        engine.outcome = found(**changes)
        (run,) = client.get(f"{made(client)}/sarif?path={path}").json()["runs"]
        return str(run["results"][0]["partialFingerprints"])

    same = of(detail="fc1 receives 1e-11.", confidence=0.7, evidence={})
    assert same == of()
    assert len({same, of(layers=("fc2",)), of(code="dead_units"), of("other.json")}) == 4


def test_a_failed_analysis_is_no_empty_sarif(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = fail
    (run,) = client.get(f"{made(client)}/sarif").json()["runs"]
    (invocation,) = run["invocations"]
    assert (invocation["executionSuccessful"], run["results"]) == (False, [])
    assert "ValueError: boom" in invocation["toolExecutionNotifications"][0]["message"]["text"]


def check_junit(text: str) -> ElementTree.Element:
    """The suite, held to the schema, which does not add up."""
    JUNIT_SCHEMA.assertValid(etree.fromstring(text.encode()))
    root = ElementTree.fromstring(text)
    (suite,) = root
    cases = suite.findall("testcase")
    for level in (root, suite):
        assert level.get("tests") == str(len(cases))
        for counted, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            told = level.get(counted)
            assert told in (str(len(suite.findall(f"testcase/{tag}"))), None)
    return suite


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("<testsuites ", '<testsuites skipped="0" '),
        ('tests="', 'tests="many'),
        ("<testsuites ", '<testsuites colour="red" '),
        ('name="rank_collapse"', 'name="dead_units"'),
        ('time="0.000"', ""),
        ("<failure ", "<note /><failure "),
    ],
)
def test_the_junit_schema_can_refuse(
    client: TestClient, engine: FakeEngine, good: str, bad: str
) -> None:
    engine.outcome = fall_ill
    text = client.get(f"{made(client)}/junit").text
    assert JUNIT_SCHEMA.validate(etree.fromstring(text.encode()))
    assert good in text
    assert not JUNIT_SCHEMA.validate(etree.fromstring(text.replace(good, bad, 1).encode()))


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("fail_on", ["error", "never"])
def test_junit_fails_exactly_when_the_analysis_does_not_pass(
    client: TestClient, engine: FakeEngine, outcome: Any, fail_on: str
) -> None:
    engine.outcome = outcome if outcome is not fall_ill else found()
    address = made(client, fail_on=fail_on)
    answer = client.get(f"{address}/junit")
    assert answer.headers["content-type"] == JUNIT
    suite = check_junit(answer.text)
    bad = suite.findall("testcase/failure") + suite.findall("testcase/error")
    assert bool(bad) is not (client.get(address).json()["passed"] is True)


def test_junit_skips_what_is_ignored_and_tells_what_passes(
    client: TestClient, engine: FakeEngine
) -> None:
    def outcome(analysis: Analysis) -> Analysis:
        ill = found(severity=Severity.WARNING)(analysis)
        assert ill.report is not None
        ignored = Suppressed(replace(SICK, code="dead_units"), "by design")
        diagnosis = replace(ill.report.diagnosis, suppressed=(ignored,))
        return replace(ill, report=replace(ill.report, diagnosis=diagnosis))

    engine.outcome = outcome
    suite = check_junit(client.get(f"{made(client)}/junit?path=net.pt").text)
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert suite.get("name") == "graddx.net.pt"
    assert cases["dead_units"].find("skipped").get("message") == "by design"  # type: ignore[union-attr]
    out = cases["vanishing_gradient"].findtext("system-out")
    assert out is not None
    assert out.startswith("warning: Gradients vanish")
    assert out.endswith(f"see http://testserver{EXPLAINED}")
    assert len(cases["rank_collapse"]) == 0


def test_no_verdict_fails(client: TestClient, engine: FakeEngine) -> None:
    def outcome(analysis: Analysis) -> Analysis:
        return replace(succeed(analysis, Verdict.INCONCLUSIVE), passed=False)

    engine.outcome = outcome
    suite = check_junit(client.get(f"{made(client)}/junit").text)
    assert suite.find("testcase/failure").get("type") == "inconclusive"  # type: ignore[union-attr]


HOSTILE = Finding(
    "vanishing_gradient",
    Severity.ERROR,
    0.9,
    ("a\x00\x1b[31m|<img src=x>`_*b",),
    "Title ]]> & <b>",
    "Detail with | a pipe,\na line\x08 and [a link](http://x.example).",
)


@pytest.mark.parametrize("media", [SARIF, JUNIT, MARKDOWN])
def test_names_from_models_break_no_form(
    client: TestClient, engine: FakeEngine, media: str, sarif_schema: Any
) -> None:
    engine.outcome = found(
        layers=HOSTILE.layers, title=HOSTILE.title, detail=HOSTILE.detail, causes=("`x`",)
    )
    answer = client.get(made(client), headers={"accept": media})
    assert not any(ord(one) < 32 and one not in "\n\t" for one in answer.text)
    if media == SARIF:
        assert sarif_schema.is_valid(answer.json())
    elif media == JUNIT:
        assert "Title ]]> & <b>" in str(check_junit(answer.text).find("testcase/failure").attrib)  # type: ignore[union-attr]
    else:
        assert "<img" not in answer.text.replace("\\<img", "")
        (row,) = [line for line in answer.text.splitlines() if line.startswith("| error")]
        assert row.replace("\\|", "").count("|") == 5


def test_markdown_has_verdict_findings_and_what_to_do(
    client: TestClient, engine: FakeEngine
) -> None:
    engine.outcome = fall_ill
    address = made(client)
    answer = client.get(f"{address}?path=net.json", headers={"accept": MARKDOWN})
    assert answer.headers["content-type"].startswith(MARKDOWN)
    text = answer.text
    assert text.startswith("## ❌ net.json: unhealthy\n")
    assert "it does not pass." in text
    assert f"([`vanishing_gradient`](http://testserver{EXPLAINED}))" in text
    assert "* `vanishing_gradient` at fc1: known" in text
    assert "* **r1** Clip" in text
    assert text.endswith(f"Analysis: <http://testserver{address}>\n")
    engine.outcome = fail
    failed = client.get(made(client), headers={"accept": MARKDOWN}).text
    assert "ValueError: boom" in failed
    assert "not a pass" in failed


@pytest.mark.parametrize("media", [SARIF, JUNIT, MARKDOWN])
def test_post_and_get_give_the_same_form(
    client: TestClient, engine: FakeEngine, media: str
) -> None:
    engine.outcome = fall_ill
    headers = {"accept": f"{media}, application/json;q=0.5"}
    posted = client.post("/v1/analyses?wait=9&path=net.json", json=body(), headers=headers)
    assert posted.headers["content-type"].startswith(media)
    address = posted.headers["content-location"]
    assert client.get(f"{address}?path=net.json", headers=headers).text == posted.text
    if media != MARKDOWN:
        where = {SARIF: "sarif", JUNIT: "junit"}[media]
        assert client.get(f"{address}/{where}?path=net.json").text == posted.text


@pytest.mark.parametrize(("outcome", "status"), [(succeed, 200), (fall_ill, 417), (fail, 502)])
def test_the_gate_keeps_the_form(
    client: TestClient, engine: FakeEngine, outcome: Any, status: int
) -> None:
    engine.outcome = outcome
    answer = client.post("/v1/analyses?gate=true", json=body(), headers={"accept": SARIF})
    assert (answer.status_code, answer.headers["content-type"]) == (status, SARIF)


def test_what_goes_on_has_no_form_yet(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = None
    address = made(client)
    for where in ("sarif", "junit"):
        told = client.get(f"{address}/{where}")
        assert (told.status_code, told.json()["code"]) == (409, "analysis_unfinished")
    waiting = client.get(address, headers={"accept": SARIF})
    assert (waiting.status_code, waiting.headers["content-type"]) == (202, "application/json")
    gated = client.get(f"{address}?gate=true&wait=0", headers={"accept": SARIF})
    assert gated.json()["code"] == "not_finished"


def test_forms_are_files_that_are_not_sent_twice(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = fall_ill
    address = made(client)
    answer = client.get(f"{address}/sarif")
    assert answer.headers["content-disposition"].endswith('.sarif"')
    again = client.get(f"{address}/sarif", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("where", ["sarif", "junit"])
def test_forms_are_their_owners_and_need_read(
    client: TestClient, engine: FakeEngine, where: str
) -> None:
    address = made(client)
    engine.callers = {
        "gdx_other": Caller("other", frozenset(Scope), "1"),
        "gdx_write": Caller("local", frozenset({Scope.WRITE}), "2"),
    }
    for token, status in (("gdx_other", 404), ("gdx_write", 403), ("gdx_none", 401)):
        headers = {"authorization": f"Bearer {token}"}
        assert client.get(f"{address}/{where}", headers=headers).status_code == status


@pytest.mark.parametrize("path", ["", "a\nb", "x" * 1025])
def test_a_path_that_is_none_is_refused(client: TestClient, path: str) -> None:
    told = client.get(f"{made(client)}/sarif", params={"path": path})
    assert told.status_code == 422
    assert told.json()["errors"][0]["parameter"] == "path"
