"""The score on a handful of labelled cases, and the line that others read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.score import Outcome, last_line, score

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "dev_cases.jsonl"


def _outcome(label: str, verdict: str, *, after: bool = False) -> Outcome:
    return Outcome("id", "what", label, verdict, "why", False, 0.1, after, after)


def test_last_line_counts_sick_against_healthy_and_leaves_mixed_apart() -> None:
    outcomes = [
        _outcome("sick", "unhealthy", after=True),
        _outcome("sick", "at_risk"),
        _outcome("healthy", "unhealthy"),
        _outcome("healthy", "healthy"),
        _outcome("mixed", "unhealthy"),
    ]
    assert last_line(outcomes) == (
        "precision=0.500 recall=0.500 false_alarms=1/2 repaired=1/2 healthy_after=1/2"
    )


def test_last_line_of_nothing() -> None:
    assert last_line([]) == (
        "precision=0.000 recall=0.000 false_alarms=0/0 repaired=0/0 healthy_after=0/0"
    )


def test_a_failed_analysis_is_no_verdict() -> None:
    spec = {"input": {"shape": [4]}, "layers": [{"type": "Nonsense"}]}
    case = {"id": "x", "what": "broken", "label": "sick", "data": "flat", "spec": spec}
    outcome = score(case, trial_steps=0)
    assert outcome.verdict == "failed"
    assert not outcome.right


def test_command_scores_a_file(tmp_path: Path) -> None:
    lines = CASES.read_text(encoding="utf-8").splitlines()
    chosen = [line for line in lines if json.loads(line)["label"] != "mixed"][:6]
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n".join(chosen), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.score", "--cases", str(cases)]
    run = subprocess.run(
        [*command, "--trial-steps", "0", "--jobs", "1"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    last = run.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"precision=1\.000 recall=1\.000 false_alarms=0/(\d+) repaired=\d+/(\d+) "
        r"healthy_after=\d+/\2",
        last,
    )
