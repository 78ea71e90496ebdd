"""README's request, word for word, and the answer it promises."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PRINTED_AT = "http://127.0.0.1:8000"


def fenced(marker: str, language: str) -> str:
    """The first fenced block of that language after a marker."""
    after = README[README.index(marker) :]
    found = re.search(rf"```{language}\n(.*?)```", after, re.DOTALL)
    assert found, f"no {language} block after {marker!r}"
    return found[1]


def promised() -> Any:
    """The printed answer; what was left out is marked with …"""
    text = re.sub(r"(?m)^\s*…,?\n", "", fenced("<!-- answer -->", "jsonc"))
    text = re.sub(r",\s*…(?=\s*[\]}])", "", text).replace('"code": …', '"code": ""')
    return json.loads(re.sub(r",(\s*[\]}])", r"\1", text))


def assert_told(shown: Any, real: Any, where: str) -> None:
    """What README shows is in the real answer: words alike, numbers within a few percent."""
    if isinstance(shown, dict):
        for key, value in shown.items():
            if key not in {"id", "code"}:
                assert_told(value, real[key], f"{where}/{key}")
    elif isinstance(shown, list):
        assert len(real) >= len(shown), where
        for index, value in enumerate(shown):
            assert_told(value, real[index], f"{where}/{index}")
    elif isinstance(shown, str):
        number = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
        assert re.sub(number, "#", real) == re.sub(number, "#", shown), where
    elif shown is None or isinstance(shown, bool):
        assert real is shown, where
    else:
        assert real == pytest.approx(shown, rel=0.05), where


def test_the_request_gives_the_answer(server: str) -> None:
    line = fenced("## One request", "bash").replace(PRINTED_AT, server)
    run = subprocess.run(
        shlex.split(line.replace("\\\n", " ")), cwd=ROOT, capture_output=True, check=True
    )
    answer = json.loads(run.stdout)
    assert_told(promised(), answer, "")
    assert [one["kind"] for one in answer["diagnosis"]["recommendations"]] == [
        one["kind"] for one in promised()["diagnosis"]["recommendations"]
    ]
