"""GitLab's code quality report (`artifacts: reports: codequality`): a JSON list of problems."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from graddx.cli.formats.place import line_of, told_path
from graddx.cli.human import clean
from graddx.errors import AnalysisFailed
from graddx.results import Analysis, Finding

SEVERITIES = {"error": "critical", "warning": "major"}
"""Severity → GitLab's; anything else is info."""
FAILED = "blocker"
"""Of an analysis that has no diagnosis."""


def gitlab(analysis: Analysis, model: Path) -> str:
    """The findings; an analysis that failed is one problem."""
    if analysis.diagnosis is None:
        failed = AnalysisFailed(analysis)
        told = f"{failed.title}: {failed.detail}".rstrip(": ")
        problems = [_problem(failed.code, told, FAILED, model, ())]
    else:
        problems = [_finding(one, model) for one in analysis.diagnosis.findings]
    return json.dumps(problems, indent=2, ensure_ascii=False) + "\n"


def _finding(one: Finding, model: Path) -> dict[str, Any]:
    severity = SEVERITIES.get(one.severity, "info")
    return _problem(one.code, f"{one.title}: {one.detail}", severity, model, one.layers)


def _problem(
    code: str, description: str, severity: str, model: Path, layers: tuple[str, ...]
) -> dict[str, Any]:
    path = told_path(model)
    # No number of the finding: the next run's same problem is the same to GitLab.
    same = "\0".join((code, path, *layers))
    return {
        "description": clean(" ".join(description.split())),
        "check_name": code,
        "fingerprint": hashlib.sha256(same.encode()).hexdigest(),
        "severity": severity,
        "location": {"path": path, "lines": {"begin": line_of(model, layers)}},
    }
