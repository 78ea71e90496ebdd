"""docs/ci.md: every step as printed, against a real server. The environment gives the files, the
port and what the CI system would set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from graddx.cli import exit_codes
from graddx.cli.settings import read_settings
from tests.e2e.docs_blocks import DOCS, Block, blocks

ROOT = Path(__file__).parents[2]
PAGE = blocks("ci.md")
STEPS = [block for block in PAGE if block.language != "toml"]
SPECS = {"healthy": "healthy_mlp.json", "sick": "vanishing_sigmoid_mlp.json"}
OF_THE_CI_SYSTEM = {"GITHUB_SHA": "0123abc", "CI_COMMIT_SHA": "0123abc"}


def provide(folder: Path, models: Path, model: str) -> None:
    """net.pt and net.json."""
    shutil.copy(models / f"{model}.pt", folder / "net.pt")
    shutil.copy(ROOT / "examples" / SPECS[model], folder / "net.json")


def settings_block() -> Block:
    (block,) = (block for block in PAGE if block.language == "toml")
    return block


def script(block: Block) -> tuple[str, dict[str, str]]:
    """What a CI system would run of a block, and the environment that the block sets."""
    if block.language == "bash":
        return block.text, {}
    if block.language == "python":
        return f"python - <<'END'\n{block.text}END\n", {}
    document: dict[Any, Any] = yaml.safe_load(block.text)
    job = document["jobs"]["gradients"] if "jobs" in document else document["gradients"]
    steps: list[dict[str, Any]] = job.get("steps", [])
    variables = {name: value for step in steps for name, value in step.get("env", {}).items()}
    lines = [step["run"] for step in steps if "run" in step] or job["script"]
    return "\n".join(lines) + "\n", variables


def run(
    block: Block, folder: Path, programs: Path, server: str
) -> subprocess.CompletedProcess[str]:
    text, variables = script(Block(block.language, block.at(server), block.heading))
    given = {"GRADDX_URL": server} if block.language == "yaml" else {}
    for name, value in variables.items():
        assert re.fullmatch(r"\$\{\{ (vars|secrets)\.\w+ \}\}", value), (
            f"{name} is given by the page"
        )
    if block.text.strip() == "graddx check net.pt":
        (folder / "graddx.toml").write_text(settings_block().at(server))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GRADDX_")},
        **OF_THE_CI_SYSTEM,
        **given,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's own way to say: build with what is installed
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return subprocess.run(
        ["bash", "-e", "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_has_a_step_for_each() -> None:
    headings = {block.heading for block in STEPS}
    assert {"curl", "Command line", "Python", "GitHub Actions", "GitLab CI"} <= headings
    assert {block.language for block in STEPS} == {"bash", "python", "yaml"}


@pytest.mark.parametrize("model", ["healthy", "sick"])
@pytest.mark.parametrize("index", range(len(STEPS)))
def test_steps_as_printed(
    server: str, models: Path, programs: Path, folder: Path, index: int, model: str
) -> None:
    block = STEPS[index]
    provide(folder, models, model)
    ran = run(block, folder, programs, server)
    told = f"{block.heading}\n{ran.stdout}\n{ran.stderr}"
    if model == "healthy":
        assert ran.returncode == 0, told
        return
    assert ran.returncode == (22 if "curl" in block.text else exit_codes.NOT_PASSED), told
    if block.language != "python":
        assert "vanishing_gradient" in ran.stdout, told


@pytest.mark.parametrize("heading", ["curl", "Command line", "Python"])
def test_no_server_is_no_pass(models: Path, programs: Path, folder: Path, heading: str) -> None:
    block = next(block for block in STEPS if block.heading == heading)
    provide(folder, models, "healthy")
    assert run(block, folder, programs, "http://127.0.0.1:1").returncode != 0


def test_settings_as_printed(tmp_path: Path) -> None:
    file = tmp_path / "graddx.toml"
    file.write_text(settings_block().text)
    settings = read_settings(file)
    assert settings.probe == {"inputs": [{"shape": [3, 32, 32]}]}
    assert settings.ignore[0].reason


def test_the_table_has_every_exit_code() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", (DOCS / "ci.md").read_text(), re.M)}
    named = {
        value
        for name, value in vars(exit_codes).items()
        if name.isupper() and isinstance(value, int)
    }
    assert told == named - {exit_codes.BROKEN}
