"""examples/ci/own_server/: the job that serves graddx itself, run as it stands."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from graddx.cli import exit_codes
from tests.e2e.test_ci_docs import ROOT, provide

OWN = ROOT / "examples" / "ci" / "own_server"
INSTALLED = ROOT / ".venv" / ".stamp-run"
TORCH = "torch==2.13.0"


def job(name: str) -> dict[str, Any]:
    read = yaml.safe_load((OWN / name).read_text(encoding="utf-8"))
    found: dict[str, Any] = read["jobs"]["gradients"]
    return found


def commands(name: str) -> list[str]:
    return [step["run"] for step in job(name)["steps"] if "run" in step]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@pytest.mark.skipif(not INSTALLED.exists(), reason="what make run needs is not installed in .venv")
@pytest.mark.parametrize(("model", "ends"), [("healthy", 0), ("sick", exit_codes.NOT_PASSED)])
def test_from_source_as_it_stands(
    models: Path, programs: Path, tmp_path: Path, model: str, ends: int
) -> None:
    """graddx/ is this checkout, whose environment is the cached one."""
    folder = tmp_path
    provide(folder, models, model)
    (folder / "graddx").symlink_to(ROOT)
    port = str(free_port())
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GRADDX_")},
        **job("from_source.yml")["env"],
        "GRADDX_PORT": port,
        "GRADDX_URL": f"http://127.0.0.1:{port}",
        "GRADDX_DATA_DIR": str(folder / "data"),
        "GITHUB_SHA": "0123abc",
        "TORCH": TORCH,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    script = subprocess.Popen(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(commands("from_source.yml"))],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told, _ = script.communicate(timeout=120)
    finally:
        os.killpg(script.pid, signal.SIGTERM)  # as a runner ends what a job leaves behind
    assert script.returncode == ends, told
    assert ("vanishing_gradient" in told) == (model == "sick")


def test_containers_are_those_of_the_compose_file() -> None:
    """No Docker engine is asked for: what the job starts is there, and where it looks for it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert set(compose["secrets"]) == {"postgres", "rabbitmq"}
    (published,) = compose["services"]["api"]["ports"]
    assert published.rpartition(":")[0] == job("containers.yml")["env"]["GRADDX_URL"][7:]
    assert "docker compose up" in "\n".join(commands("containers.yml"))
