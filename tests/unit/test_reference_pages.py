"""docs/http.md and docs/cli.md name all there is, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from api.app import create_app
from api.error_handlers import STATUS
from graddx.cli.app import app
from service.config import Settings
from service.domain.errors import PROBE_FAILURES
from tests.unit.api.fake_engine import FakeEngine

DOCS = Path(__file__).parents[2] / "docs"
HTTP = (DOCS / "http.md").read_text(encoding="utf-8")
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
COMMANDS: Mapping[str, Any] = typer.main.get_group(app).commands


def test_every_call_is_told() -> None:
    paths = create_app(FakeEngine(), Settings()).openapi()["paths"]
    real = {f"{verb.upper()} {path}" for path, verbs in paths.items() for verb in verbs}
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]+)` \|", HTTP, re.M)) == real


def test_every_code_is_told_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", HTTP, re.M)
    told = {code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert told == STATUS


def test_every_way_to_fail_is_told() -> None:
    (sentence,) = re.findall(r"`error` with a code of its own: (.*?);", HTTP, re.S)
    assert set(re.findall(r"`(\w+)`", sentence)) == {*PROBE_FAILURES}


def test_every_command_is_told() -> None:
    assert set(re.findall(r"^\| `graddx (\w+) ", CLI, re.M)) == {*COMMANDS}
    assert set(re.findall(r"^## (\w+)$", CLI, re.M)) == {*COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_told(name: str) -> None:
    """Where a server is asked is told once, above the commands; the exit codes in docs/ci.md."""
    (section,) = re.findall(rf"^## {name}$(.*?)(?=^## |\Z)", CLI, re.M | re.S)
    above = CLI[: CLI.index("\n## ")]
    everywhere = {"--url", "--api-key", "--help"}
    real = {
        option
        for parameter in COMMANDS[name].params
        for option in parameter.opts
        if option.startswith("-")
    } - everywhere
    prose = re.sub(r"^```.*?^```", "", section, flags=re.M | re.S)
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", prose)) == real
    assert everywhere <= set(re.findall(r"`(--[a-z-]+)", above))
