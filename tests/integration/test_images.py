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

import pytest

from tests.unit.test_repository import DOCKERFILES, ROOT, arguments_of, environment

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
    with _running("api", images, here) as api, _running("worker", images, here):
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
    process = subprocess.Popen(
        [sys.executable, *rest],
        cwd=images[name],
        env=_settings(name, images, here) | {"GRADDX_HOST": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()
