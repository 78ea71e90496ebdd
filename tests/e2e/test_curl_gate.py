"""README's CI step, word for word, against the real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
ADDRESS, FILE, WAIT = "http://127.0.0.1:8000", "@net.pt", "wait=120"
HTTP_ERROR = 22
"""curl's exit code for --fail-with-body and a status of 400 or more."""


@dataclass(frozen=True)
class Answer:
    """What a CI job sees."""

    exit_code: int
    status: int
    body: dict[str, Any]


def gate_line() -> str:
    found = re.search(r"<!-- gate -->\n+```\w*\n(.*?)\n```", (ROOT / "README.md").read_text(), re.S)
    assert found, "README has no code block after <!-- gate -->"
    return found[1]


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which curl also tells the status, without a change to the line."""
    (tmp_path / ".curlrc").write_text('silent\nwrite-out = "\\n%{http_code}"\n')
    return {**os.environ, "CURL_HOME": str(tmp_path)}


def run_gate(line: str, shell: dict[str, str]) -> Answer:
    ran = subprocess.run(
        ["bash", "-c", line], env=shell, capture_output=True, text=True, check=False
    )
    body, _, status = ran.stdout.rpartition("\n")
    return Answer(ran.returncode, int(status), json.loads(body))


def line_for(server: str, model: Path) -> str:
    line = gate_line()
    assert ADDRESS in line
    assert FILE in line
    return line.replace(ADDRESS, server).replace(FILE, f"@{model}")


def test_a_healthy_model_passes(server: str, models: Path, shell: dict[str, str]) -> None:
    answer = run_gate(line_for(server, models / "healthy.pt"), shell)
    assert (answer.exit_code, answer.status) == (0, 200), answer.body
    assert answer.body["passed"] is True
    assert answer.body["model"]["format"] == "torchscript"


def test_a_sick_model_does_not(server: str, models: Path, shell: dict[str, str]) -> None:
    answer = run_gate(line_for(server, models / "sick.pt"), shell)
    assert (answer.exit_code, answer.status) == (HTTP_ERROR, 417), answer.body
    assert answer.body["code"] == "gate_failed"
    assert "vanishing_gradient" in [finding["code"] for finding in answer.body["findings"]]
    report = httpx2.get(answer.body["report"]).json()
    assert report["diagnosis"]["verdict"] == "unhealthy"
    assert report["diagnosis"]["layers"]


def test_a_model_that_raises_does_not(server: str, models: Path, shell: dict[str, str]) -> None:
    answer = run_gate(line_for(server, models / "raising.pt"), shell)
    assert (answer.exit_code, answer.status) == (HTTP_ERROR, 502), answer.body
    assert answer.body["code"] == "analysis_failed"
    assert answer.body["failure"]["code"] == "model_raised"
    assert "this model does not work" in answer.body["failure"]["detail"]


def test_an_unfinished_analysis_does_not(server: str, models: Path, shell: dict[str, str]) -> None:
    line = line_for(server, models / "sick.pt")
    assert WAIT in line
    fresh = line.replace('{"probe"', '{"fresh":true,"probe"')  # it was asked before
    answer = run_gate(fresh.replace(WAIT, "wait=0.01"), shell)
    assert (answer.exit_code, answer.status) == (HTTP_ERROR, 504), answer.body
    assert answer.body["code"] == "not_finished"
    later = httpx2.get(answer.body["report"], params={"gate": "true", "wait": 120}, timeout=130)
    assert later.status_code == 417


def test_a_file_that_is_no_model_does_not(
    server: str, tmp_path: Path, shell: dict[str, str]
) -> None:
    file = tmp_path / "net.pt"
    file.write_bytes(b"not a model")
    answer = run_gate(line_for(server, file), shell)
    assert (answer.exit_code, answer.status) == (HTTP_ERROR, 422)
    assert answer.body["code"] == "unsupported_artifact"


def test_a_server_that_is_not_there_does_not(models: Path, shell: dict[str, str]) -> None:
    line = line_for("http://127.0.0.1:1", models / "healthy.pt")
    ran = subprocess.run(["bash", "-c", line], env=shell, capture_output=True, check=False)
    assert ran.returncode == 7


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.json")), ids=lambda path: path.stem
)
def test_examples_end_as_their_names_say(server: str, example: Path) -> None:
    answer = httpx2.post(
        f"{server}/v1/analyses",
        params={"gate": "true"},
        json=json.loads(example.read_text()),
        timeout=120,
    )
    problem, _, _ = example.stem.partition("_")
    if problem == "healthy":
        assert answer.status_code == 200, answer.json()
        return
    assert answer.status_code == 417, answer.json()
    assert f"{problem}_gradient" in [one["code"] for one in answer.json()["findings"]]
