"""`--format github` and `gitlab`, the job's summary, and forms that the server writes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from graddx import Client
from graddx.cli.check import show
from graddx.cli.formats.github import github
from graddx.cli.formats.gitlab import gitlab
from graddx.cli.formats.place import line_of, told_path
from graddx.cli.formats.summary import CUT, LARGEST, append_summary
from graddx.errors import AnalysisUnfinished, InvalidInput
from graddx.results import Analysis, Diagnosis, Failure, Finding
from tests.unit.client.scripted_server import Reply, ScriptedServer, problem

SPEC = {
    "input": {"shape": [8]},
    "layers": [
        {"name": "stem", "type": "Linear"},
        {"name": "body", "repeat": 4, "layers": [{"name": "fc", "type": "Linear"}]},
    ],
}
FINDING = Finding(
    "vanishing_gradient",
    "error",
    0.99,
    ("body.3.fc",),
    "Gradients vanish",
    "body.3.fc receives 3%, at most:\nnothing.",
    causes=("sigmoid",),
    docs="/guide/detectors.html#vanishing_gradient",
)
SICK = Analysis("a1", "succeeded", passed=False)
ADDRESS = "http://graddx.example.org/v1/analyses/a1"
FAILED = Analysis("a1", "failed", error=Failure("model_raised", "It raised", "boom"))


def sick(*findings: Finding) -> Analysis:
    diagnosis = Diagnosis("unhealthy", summary="Gradients vanish.", findings=findings)
    return replace(SICK, diagnosis=diagnosis)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """net.json in models/ of the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    path = Path("models/net.json")
    path.write_text(json.dumps(SPEC, indent=1))
    return path


def test_a_layer_is_found_in_its_file(model: Path, tmp_path: Path) -> None:
    lines = model.read_text().splitlines()
    assert '"stem"' in lines[line_of(model, ["stem"]) - 1]
    assert '"fc"' in lines[line_of(model, ["body.3.fc"]) - 1]
    assert line_of(model, ["nowhere"]) == line_of(model, []) == 1
    assert line_of(tmp_path / "net.pt", ["fc"]) == line_of(tmp_path / "none.json", ["fc"]) == 1
    assert told_path(model) == told_path(model.absolute()) == "models/net.json"


def test_github_annotates_at_the_layer(model: Path) -> None:
    first, last = github(sick(FINDING), model, ADDRESS).splitlines()
    line = line_of(model, ["body.3.fc"])
    assert line > 1
    assert first == (
        f"::error file=models/net.json,line={line},title=Gradients vanish (vanishing_gradient)::"
        "body.3.fc receives 3%25, at most:%0Anothing.%0Alayers: body.3.fc%0Asigmoid%0A"
        "see http://graddx.example.org/guide/detectors.html#vanishing_gradient"
    )
    assert last == "net.json does not pass: unhealthy. Gradients vanish."


def test_github_shows_ten_worst_first(model: Path) -> None:
    severities = ["info", "warning", "error"] * 5
    findings = (
        replace(FINDING, severity=one, code=f"{one}_{i}") for i, one in enumerate(severities)
    )
    lines = github(sick(*findings), model, ADDRESS).splitlines()
    commands = [line.split(" ")[0] for line in lines[:-1]]
    assert commands == ["::error"] * 5 + ["::warning"] * 5
    assert "15 findings, the worst 10 are annotated" in lines[-1]


def test_github_takes_no_command_from_a_model(model: Path) -> None:
    evil = replace(FINDING, title="a,b::c\n::set-env", layers=("x\n::add-mask::y",))
    analysis = sick(evil)
    assert analysis.diagnosis is not None
    analysis = replace(
        analysis, diagnosis=replace(analysis.diagnosis, verdict=":: error", summary="\n::stop\r::x")
    )
    lines = github(analysis, model, ADDRESS).splitlines()
    assert [line.startswith("::") for line in lines] == [True, False]
    assert "title=a%2Cb%3A%3Cc" not in lines[0]
    assert "title=a%2Cb%3A%3Ac%0A%3A%3Aset-env (" in lines[0]


def test_a_failed_analysis_is_an_error_everywhere(model: Path) -> None:
    (line,) = github(FAILED, model, ADDRESS).splitlines()
    assert line.startswith("::error file=models/net.json,line=1,")
    assert "boom" in line
    (told,) = json.loads(gitlab(FAILED, model))
    assert (told["severity"], told["check_name"]) == ("blocker", "model_raised")


def test_gitlab_has_what_it_asks_for(model: Path) -> None:
    warning = replace(FINDING, severity="warning", layers=("stem",))
    told = json.loads(gitlab(sick(FINDING, warning, replace(FINDING, severity="info")), model))
    assert [one["severity"] for one in told] == ["critical", "major", "info"]
    for one in told:
        assert one.keys() == {"description", "check_name", "fingerprint", "severity", "location"}
        assert "\n" not in one["description"]
    assert told[0]["location"]["path"] == "models/net.json"
    assert told[0]["location"]["lines"]["begin"] == line_of(model, ["body.3.fc"])
    assert told[0]["fingerprint"] == told[2]["fingerprint"] != told[1]["fingerprint"]
    assert json.loads(gitlab(sick(), model)) == []


@pytest.mark.parametrize("form", ["sarif", "junit", "markdown"])
def test_the_server_writes_the_rest(
    server: ScriptedServer, client: Client, model: Path, form: str
) -> None:
    server.replies = [Reply(200, "ähm".encode())]
    out = io.StringIO()
    show(client, sick(FINDING), form, out, model)  # type: ignore[arg-type]
    assert out.getvalue() == "ähm"
    (call,) = server.calls
    assert call.path == (
        f"/v1/analyses/a1{'' if form == 'markdown' else f'/{form}'}?path=models%2Fnet.json"
    )
    assert (call.headers.get("Accept") == "text/markdown") == (form == "markdown")


def test_the_report_is_written_as_it_comes(
    server: ScriptedServer, client: Client, model: Path
) -> None:
    server.replies = [Reply(200, "<!DOCTYPE html>ähm".encode())]
    out = io.StringIO()
    show(client, sick(FINDING), "html", out, model)
    assert out.getvalue() == "<!DOCTYPE html>ähm"
    assert [call.path for call in server.calls] == ["/v1/analyses/a1/report"]


def test_what_is_not_kept_cannot_be_written(
    server: ScriptedServer, client: Client, model: Path
) -> None:
    server.replies = [problem(404, "analysis_not_found")]
    with pytest.raises(InvalidInput, match="retain"):
        show(client, sick(FINDING), "sarif", io.StringIO(), model)


def test_markdown_of_what_goes_on_is_not_its_json(server: ScriptedServer, client: Client) -> None:
    server.replies = [Reply(202, {"id": "a1", "status": "running"})]
    with pytest.raises(AnalysisUnfinished):
        client.markdown("a1")


def summarized(client: Client, model: Path) -> str:
    stderr = io.StringIO()
    append_summary(client, "a1", model, Console(file=stderr))
    return stderr.getvalue()


def test_the_summary_is_appended(
    server: ScriptedServer, client: Client, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path("summary.md")
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    server.replies = [Reply(200, b"## ok\n")]
    assert summarized(client, model) == ""
    assert page.read_text() == "before\n## ok\n"
    server.replies = [Reply(200, "é".encode() * LARGEST)]
    summarized(client, model)
    assert LARGEST - 2 <= page.stat().st_size <= LARGEST
    assert page.read_text(encoding="utf-8").endswith(CUT)


def test_without_github_nothing_is_asked(
    server: ScriptedServer, client: Client, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert summarized(client, model) == ""
    assert server.calls == []


def test_a_summary_that_fails_is_told(
    server: ScriptedServer, client: Client, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "no/such/folder/summary.md")
    server.replies = [Reply(200, b"## ok\n")]
    assert "no job summary was written" in summarized(client, model)
