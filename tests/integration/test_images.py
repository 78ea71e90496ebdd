"""The compose file without Docker: the files of each image, its settings, its command."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.integration.broker import Broker, broker_url
from tests.integration.conftest import new_postgresql_database
from tests.unit.test_repository import (
    DOCKERFILES,
    OURS,
    ROOT,
    arguments_of,
    environment,
    settled,
)

NO_TORCH = "import sys; sys.modules['torch'] = None\n"
"""As a sitecustomize: an image without torch."""


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """What each Dockerfile copies, and nothing else."""
    folders = {}
    for name, dockerfile in DOCKERFILES.items():
        folder = folders[name] = tmp_path / name
        folder.mkdir()
        for rest in arguments_of("COPY", dockerfile):
            *sources, target = rest.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    left_out = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / source, folder / target, ignore=left_out)
                else:
                    shutil.copy(ROOT / source, folder / target)
    (folders["api"] / "sitecustomize.py").write_text(NO_TORCH)
    return folders


def test_api_and_worker_answer_together(images: dict[str, Path], tmp_path: Path) -> None:
    here = {"GRADDX_DATA_DIR": str(tmp_path / "data"), "GRADDX_PORT": "0"}
    (tmp_path / "data").mkdir()
    upgrade = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(
        upgrade, cwd=images["api"], env=_settings("api", images, here), check=True, timeout=60
    )
    _answer_together(images, here)


def test_they_answer_as_the_compose_file_sets_them(
    images: dict[str, Path], tmp_path: Path, postgresql_server: str
) -> None:
    """PostgreSQL, RabbitMQ, passwords in files; only addresses and folders are this machine's."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    broker = Broker(broker_url())
    with new_postgresql_database(postgresql_server) as url:
        here = {"GRADDX_DATA_DIR": str(tmp_path / "data"), "GRADDX_PORT": "0"}
        here |= _without_password("DATABASE", url, tmp_path)
        here |= _without_password("BROKER", broker.url, tmp_path)
        here["GRADDX_BROKER_PREFIX"] = broker.prefix
        composed = {name: settled(services[name]) | here for name in OURS}
        subprocess.run(
            [sys.executable, *services["migrate"]["command"][1:]],
            cwd=images["api"],
            env=_settings("api", images, composed["migrate"]),
            check=True,
            timeout=60,
        )
        try:
            analysis = _answer_together(images, composed["api"], composed["worker-cpu"])
        finally:
            broker.delete()
    said = {name: _logged(images[name]) for name in images}
    (submitted,) = (one for one in said["api"] if one["event"] == "submitted")
    assert submitted["analysis"] == analysis["id"]
    at_work = [one for one in said["worker"] if one.get("analysis") == analysis["id"]]
    assert [one["event"] for one in at_work] == ["claimed", "succeeded"]
    assert {one["request_id"] for one in at_work} == {submitted["request_id"]}
    assert {one["attempt"] for one in at_work} == {1}


def _logged(folder: Path) -> list[dict[str, Any]]:
    """What the processes of this image said: JSON, every line."""
    lines = (folder / "log").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _without_password(name: str, url: str, folder: Path) -> dict[str, str]:
    """The URL without its password, and the file that holds it."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    file = folder / name.lower()
    file.write_text(unquote(parts.password or "any"))
    plain = parts._replace(netloc=f"{parts.username or 'postgres'}@{where}").geturl()
    return {f"GRADDX_{name}_URL": plain, f"GRADDX_{name}_PASSWORD_FILE": str(file)}


def _answer_together(
    images: dict[str, Path], of_api: dict[str, str], of_worker: dict[str, str] | None = None
) -> dict[str, Any]:
    with _running("api", images, of_api) as api, _running("worker", images, of_worker or of_api):
        assert api.stdout is not None
        told = re.search(r"http://[\d.]+:(\d+)/docs", api.stdout.readline())
        assert told is not None
        address = f"http://127.0.0.1:{told[1]}"
        with urllib.request.urlopen(f"{address}/livez", timeout=5) as answer:
            assert answer.status == 200
        request = urllib.request.Request(
            f"{address}/v1/analyses?wait=90",
            (ROOT / "examples" / "healthy_mlp.json").read_bytes(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=100) as answer:
            analysis = json.load(answer)
    assert analysis["status"] == "succeeded"
    assert analysis["diagnosis"]["verdict"] == "healthy"
    found: dict[str, Any] = analysis
    return found


def _settings(name: str, images: dict[str, Path], here: dict[str, str]) -> dict[str, str]:
    """The image's own, with what a test cannot have: /data and a port of its own."""
    own = environment(DOCKERFILES[name])
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(images[name])} | own | here


@contextmanager
def _running(
    name: str, images: dict[str, Path], here: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    (command,) = arguments_of("CMD", DOCKERFILES[name])
    python, *rest = json.loads(command)
    assert python == "python", shlex.join([python, *rest])
    with (images[name] / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, *rest],
            cwd=images[name],
            env=_settings(name, images, here) | {"GRADDX_HOST": "127.0.0.1"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()
