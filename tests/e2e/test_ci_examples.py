"""examples/ci/: what a CI system would run of them, run against a real server; and what it would
read afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from graddx.cli import exit_codes
from tests.e2e.test_ci_docs import ROOT, provide

CI = ROOT / "examples" / "ci"
EXAMPLES = sorted(p for p in CI.rglob("*.yml") if p.parent.name != "own_server")
GITHUB = ("github", "action")
"""Folders of what GitHub runs."""
ACTION = CI / "action" / "action.yml"
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_BUILD_ISOLATION": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
OF_GITHUB = {
    "GITHUB_REPOSITORY": "group/project",
    "GITHUB_REF_NAME": "main",
    "GITHUB_HEAD_REF": "",
    "GITHUB_SHA": "0123abc",
}
OF_GITLAB = {
    "CI_DEFAULT_BRANCH": "main",
    "CI_PROJECT_PATH": "group/project",
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_SHA": "0123abc",
}


def github(path: Path) -> tuple[str, dict[str, str]]:
    """The script of its job, and the environment that the file sets."""
    job = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]["gradients"]
    given = {
        name: value
        for name, value in job["env"].items()
        if not re.fullmatch(r"\$\{\{ (vars|secrets)\.\w+ \}\}", value)
    }
    return "\n".join(step["run"] for step in job["steps"] if "run" in step), given


def action(path: Path, server: str, **inputs: str) -> tuple[str, dict[str, str]]:
    """The scripts of an action, and the environment of its steps, with its inputs filled in."""
    text = path.read_text(encoding="utf-8")
    wanted = yaml.safe_load(text)["inputs"]
    given = {"url": server, **inputs}
    filled = {f"inputs.{name}": given.get(name, one.get("default")) for name, one in wanted.items()}
    filled["github.action_path"] = str(path.parent)
    assert None not in filled.values()
    steps = yaml.safe_load(text)["runs"]["steps"]
    environment = {
        name: re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda match: str(filled[match[1]]), value)
        for step in steps
        for name, value in step["env"].items()
    }
    assert all(step["shell"] == "bash" and "${{" not in step["run"] for step in steps)
    return "\n".join(step["run"] for step in steps), environment


def gitlab(path: Path, **inputs: str) -> tuple[str, dict[str, str]]:
    """The same of a component, with its inputs filled in; those without default must be given."""
    header, body = path.read_text(encoding="utf-8").split("\n---\n")
    wanted = yaml.safe_load(header)["spec"]["inputs"]
    values = {name: inputs.get(name) or one["default"] for name, one in wanted.items()}
    filled = re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda match: values[match[1]], body)
    return "\n".join(yaml.safe_load(filled)["gradients"]["script"]), {}


def run(
    path: Path,
    folder: Path,
    programs: Path,
    server: str,
) -> subprocess.CompletedProcess[str]:
    of_github = path.parent.name in GITHUB
    if path.name == "action.yml":
        text, given = action(path, server, model="net.json")
    else:
        text, given = github(path) if of_github else gitlab(path, model="net.json")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GRADDX_")},
        **(OF_GITHUB | {"GITHUB_STEP_SUMMARY": "summary.md"} if of_github else OF_GITLAB),
        "GRADDX_URL": server,
        "GRADDX_API_KEY": "",
        **given,
        "PATH": f"{programs}:{os.environ['PATH']}",
        **OFFLINE,
    }
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def read_by_the_ci_system(path: Path, folder: Path, stdout: str) -> str:
    """The findings as it gets them."""
    if path.stem == "code-scanning":
        (one,) = json.loads((folder / "graddx.sarif").read_text())["runs"]
        places = {
            place["physicalLocation"]["artifactLocation"]["uri"]
            for result in one["results"]
            for place in result["locations"]
        }
        assert places <= {"net.json"}
        return json.dumps(one["results"])
    if path.parent.name in GITHUB:
        return "\n".join(line for line in stdout.splitlines() if line.startswith("::error"))
    report: list[dict[str, Any]] = json.loads((folder / "gl-code-quality-report.json").read_text())
    assert {one["location"]["path"] for one in report} <= {"net.json"}
    return json.dumps(report)


@pytest.mark.parametrize("model", ["healthy", "sick"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_as_they_stand(
    server: str,
    models: Path,
    programs: Path,
    folder: Path,
    path: Path,
    model: str,
) -> None:
    provide(folder, models, model)
    ran = run(path, folder, programs, server)
    told = f"{ran.stdout}\n{ran.stderr}"
    assert ran.returncode == (0 if model == "healthy" else exit_codes.NOT_PASSED), told
    findings = read_by_the_ci_system(path, folder, ran.stdout)
    assert ("vanishing_gradient" in findings) == (model == "sick"), told
    if path.parent.name in GITHUB:
        assert model.replace("sick", "unhealthy") in (folder / "summary.md").read_text()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_server_is_no_pass(
    models: Path,
    programs: Path,
    folder: Path,
    path: Path,
) -> None:
    provide(folder, models, "healthy")
    assert run(path, folder, programs, "http://127.0.0.1:1").returncode == exit_codes.SERVER


def test_there_is_one_for_each() -> None:
    assert {path.parent.name for path in EXAMPLES} == {"github", "action", "templates"}
    assert {path.name for path in EXAMPLES} == {"gradients.yml", "code-scanning.yml", "action.yml"}


def test_the_action_takes_a_file_and_writes_another_form(
    server: str, models: Path, programs: Path, folder: Path
) -> None:
    (folder / "net.pt").write_bytes((models / "sick.pt").read_bytes())
    asked = {"model": "net.pt", "input": "3,32,32", "fail-on": "never", "baseline": ""}
    text, given = action(ACTION, server, **asked, format="junit", output="graddx.xml")
    ran = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", text],
        cwd=folder,
        env={
            **os.environ,
            **OF_GITHUB,
            **OFFLINE,
            **given,
            "PATH": f"{programs}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert 'name="graddx.net.pt"' in (folder / "graddx.xml").read_text()
