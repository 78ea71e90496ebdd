"""The real server, in a process of its own on a free loopback port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

# A shell that starts the tests in the background has Ctrl-C ignored, by every child as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps its database and files."""
    return tmp_path_factory.mktemp("server") / "data"


@pytest.fixture(scope="session")
def server(data_folder: Path) -> Iterator[str]:
    """Its address, once it is ready."""
    folder = data_folder.parent
    settings = {
        "GRADDX_DATA_DIR": str(data_folder),
        "GRADDX_HOST": "127.0.0.1",
        "GRADDX_PORT": "0",
        "GRADDX_WORKERS": "1",
    }
    environment = {**os.environ, **settings}
    run = [sys.executable, "-m"]
    subprocess.run([*run, "alembic", "upgrade", "head"], cwd=ROOT, env=environment, check=True)
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*run, "api"], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield _ready(process, log)
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        printed = re.search(r"graddx is at (http://[^/]+)/docs", log.read_text())
        if printed and httpx2.get(f"{printed[1]}/readyz").status_code == 200:
            return printed[1]
        time.sleep(0.1)
    raise AssertionError(f"the server did not get ready:\n{log.read_text()}")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with healthy.pt, sick.pt and raising.pt."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("models.py"), folder], check=True
    )
    return folder


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare environment's folder of programs: `pip install` installs there, and finds what the
    client depends on, so that no index is needed."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--symlinks", folder], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    added = folder / "lib" / version / "site-packages" / "dependencies.pth"
    added.write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder, with this repository as the submodule graddx."""
    (tmp_path / "graddx").symlink_to(ROOT)
    return tmp_path
