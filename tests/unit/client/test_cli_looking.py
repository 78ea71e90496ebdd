"""`graddx explain` and `graddx history`."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from graddx.cli.app import app
from tests.unit.client.scripted_server import Reply, ScriptedServer, problem

CATALOG: dict[str, Any] = {
    "detectors": [{"code": "dead_units", "title": "Units are dead", "docs": "What it sees.\n"}],
    "remedies": [{"kind": "clipping", "resolves": [], "docs": "What it changes."}],
    "layer_types": [
        {
            "name": "Linear",
            "summary": "y = xAᵀ + b",
            "arguments": [{"name": "out_features", "required": True}, {"name": "bias"}],
        }
    ],
}


def point(value: float | None, **more: Any) -> dict[str, Any]:
    at = "2026-11-21T13:00:00Z"
    return {"analysis": "a1", "created_at": at, "verdict": "healthy", "value": value, **more}


@pytest.fixture
def run(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "--url", server.url])

    return call


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("dead_units", "dead_units: Units are dead\n\nWhat it sees.\n"),
        ("clipping", "clipping\n\nWhat it changes.\n"),
        ("linear", "Linear(out_features, [bias])\n\ny = xAᵀ + b\n"),
    ],
)
def test_what_a_code_means(server: ScriptedServer, run: Any, code: str, said: str) -> None:
    server.replies = [Reply(200, CATALOG)]
    result = run("explain", code)
    assert (result.exit_code, result.stdout) == (0, said)


def test_a_mistyped_code_is_helped_on(server: ScriptedServer, run: Any) -> None:
    server.replies = [Reply(200, CATALOG), Reply(200, CATALOG)]
    result = run("explain", "dead_unit")
    assert result.exit_code == 2
    assert "no 'dead_unit'; did you mean dead_units?" in result.stderr
    assert "lists what there is" in run("explain", "xyzzy").stderr


def test_without_a_code_all_are_listed(server: ScriptedServer, run: Any) -> None:
    server.replies = [Reply(200, CATALOG)]
    result = run("explain")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines() if line.startswith("  ")] == [
        ["dead_units", "Units", "are", "dead"],
        ["clipping", "good", "practice"],
    ]


def test_a_history_ends_with_the_newest(server: ScriptedServer, run: Any) -> None:
    newest = point(0.5, low=0.4, high=0.6, labels={"commit": "\x1b[31mb"})
    items = [newest, point(1.0, labels={"commit": "a"}), point(None)]
    server.replies = [Reply(200, {"items": items, "next_cursor": "more"})]
    result = run("history", "fc1", "--label", "branch=main", "--most", "3")
    assert result.exit_code == 0
    first, second, third = result.stdout.splitlines()
    assert "–" in first
    assert second.split()[-2:] == ["#" * 24, "commit=a"]
    assert "0.5 (0.4 … 0.6)" in third
    assert "#" * 12 in third
    assert "#" * 13 not in third
    assert "\x1b" not in third
    (call,) = server.calls
    assert call.path == ("/v1/layers/history?layer=fc1&statistic=gradient.gain&label=branch%3Amain")


def test_no_history_is_no_success(server: ScriptedServer, run: Any) -> None:
    server.replies = [Reply(200, {"items": [], "next_cursor": None})]
    nothing = run("history", "fc1")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert nothing.stderr == "no analysis has a layer 'fc1'\n"
    server.replies = [Reply(200, {"items": [], "next_cursor": None})]
    assert "carries these labels has" in run("history", "fc1", "--label", "a=b").stderr
    server.replies = [problem(422, "invalid_request")]
    assert run("history", "fc1", "no.such").exit_code == 2
