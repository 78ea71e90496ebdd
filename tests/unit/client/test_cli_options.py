"""Options of `graddx check`, graddx.toml, and what exit codes mean."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graddx import errors
from graddx.cli import exit_codes
from graddx.cli.options import read_baseline, read_input, read_labels, read_probe
from graddx.cli.settings import IgnoreRule, Settings, find_settings, read_settings
from graddx.errors import (
    AnalysisCancelled,
    AnalysisFailed,
    ApiError,
    ConnectionFailed,
    GraddxError,
    InvalidInput,
    NotFinished,
    Problem,
)
from graddx.results import Analysis


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3,32,32", {"shape": [3, 32, 32]}),
        ("64", {"shape": [64]}),
        ("", {"shape": []}),
        ("3, 32, 32:float64", {"shape": [3, 32, 32], "dtype": "float64"}),
        ("128:int64:30522", {"shape": [128], "dtype": "int64", "high": 30522}),
    ],
)
def test_inputs(text: str, expected: dict[str, Any]) -> None:
    assert read_input(text) == expected


@pytest.mark.parametrize(
    "text", ["3x32", "3,,32", "3,32,", "a", "3:int64:many", "3:int64:5:6", "3:", "3::5", "3.5"]
)
def test_inputs_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected SHAPE"):
        read_input(text)


def test_a_probe_is_json_or_a_file_with_it(tmp_path: Path) -> None:
    file = tmp_path / "probe.json"
    file.write_text('{"seeds": 2}')
    assert read_probe(None, []) == {}
    assert read_probe('{"seeds": 2}', ["4"]) == {"seeds": 2, "inputs": [{"shape": [4]}]}
    assert read_probe(f"@{file}", []) == {"seeds": 2}


@pytest.mark.parametrize("text", ["{", "[1]", "3", "@nowhere.json", '{"inputs": []}'])
def test_probes_that_cannot_be_used(text: str) -> None:
    with pytest.raises(InvalidInput, match="--probe"):
        read_probe(text, ["4"])


def test_labels() -> None:
    assert read_labels(["branch=main", "url=a=b", "empty="]) == {
        "branch": "main",
        "url": "a=b",
        "empty": "",
    }
    for pair in ("branch", "=main"):
        with pytest.raises(InvalidInput, match="KEY=VALUE"):
            read_labels([pair])


def test_settings_are_found_upwards(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_settings(tmp_path / "a" / "b") is None
    (tmp_path / "graddx.toml").touch()
    assert find_settings(tmp_path / "a" / "b") == tmp_path / "graddx.toml"
    (tmp_path / "a" / "graddx.toml").touch()
    assert find_settings(tmp_path / "a" / "b") == tmp_path / "a" / "graddx.toml"


def test_settings_hold_what_their_docstring_shows(tmp_path: Path) -> None:
    from graddx.cli import settings

    shown = (settings.__doc__ or "").split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    file = tmp_path / "graddx.toml"
    file.write_text(shown)
    assert read_settings(file) == Settings(
        url="http://127.0.0.1:8000",
        fail_on="warning",
        timeout=120,
        labels={"repo": "vision"},
        probe={"inputs": [{"shape": [3, 32, 32]}]},
        ignore=(IgnoreRule("poor_initialization", "stem.*", "loaded from a checkpoint later"),),
    )
    assert read_settings(None) == Settings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('fial_on = "error"', "unknown key fial_on; did you mean fail_on"),
        ('api_key = "gdx_1_secret"', "unknown key api_key; known: url, "),
        ('[[ignore]]\ncod = "x"', r"unknown key ignore\[0\]\.cod; did you mean code"),
        ('[[ignore]]\nlayers = "x"', r"missing required field `code`.*ignore\[0\]"),
        ('fail_on = "maybe"', "Invalid enum value 'maybe' - at `fail_on`"),
        ("timeout = true", "Expected `float`, got `bool` - at `timeout`"),
        ("labels = {a = 1}", "Expected `str`, got `int`"),
        ("ignore = 3", "Expected `array`"),
        ("timeout = ", "not valid TOML"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "graddx.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=complaint) as raised:
        read_settings(file)
    assert str(raised.value).startswith(str(file))


DONE = Analysis(id="a1", status="succeeded", passed=True)
REFUSED = Problem(500, "internal_error")
INSTANCES: dict[str, GraddxError] = {
    "ConnectionFailed": ConnectionFailed("http://x", "refused"),
    "NotFinished": NotFinished(DONE, 1),
    "AnalysisFailed": AnalysisFailed(DONE),
    "AnalysisCancelled": AnalysisCancelled(DONE),
}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("InvalidInput", 2),
        ("ExportFailed", 2),
        ("InvalidRequest", 2),
        ("UnknownLayerType", 2),
        ("ArtifactRejected", 2),
        ("ArtifactNotFound", 2),
        ("PayloadTooLarge", 2),
        ("AccessDenied", 2),
        ("ConnectionFailed", 3),
        ("NotFound", 3),
        ("Busy", 3),
        ("ServerError", 3),
        ("ApiError", 3),
        ("NotFinished", 4),
        ("AnalysisFailed", 5),
        ("AnalysisCancelled", 5),
    ],
)
def test_exit_codes_of_errors(name: str, code: int) -> None:
    kind = getattr(errors, name)
    error = INSTANCES.get(name) or (kind(REFUSED) if issubclass(kind, ApiError) else kind("x"))
    assert exit_codes.of_error(error) == code


@pytest.mark.parametrize(
    ("analysis", "code"),
    [
        (DONE, 0),
        (replace(DONE, passed=False), 1),
        (replace(DONE, passed=None), 1),
        (replace(DONE, status="failed"), 5),
        (replace(DONE, status="cancelled"), 5),
        (replace(DONE, status="running"), 5),
    ],
)
def test_exit_codes_of_analyses(analysis: Analysis, code: int) -> None:
    assert exit_codes.of_analysis(analysis) == code


def test_nothing_heavy_is_imported() -> None:
    heavy = ("torch", "numpy", "service", "api")
    program = f"import sys, graddx.cli.app; print([one for one in {heavy} if one in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_an_error_of_its_own_is_no_finding() -> None:
    program = (
        "import sys; from graddx.cli import app; "
        "sys.argv = ['graddx', 'check', 'net.pt']; "
        "app.find_settings = lambda folder: 1 / 0; app.main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == exit_codes.BROKEN
    assert "ZeroDivisionError" in run.stderr
    assert run.stdout == ""


def test_a_baseline_is_a_label() -> None:
    assert read_baseline(None) is None
    assert read_baseline("branch=main") == {"label": "branch:main"}
    assert read_baseline("when=a=b") == {"label": "when:a=b"}
    for wrong in ("main", "=main", ""):
        with pytest.raises(InvalidInput, match="KEY=VALUE"):
            read_baseline(wrong)
