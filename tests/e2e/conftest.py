"""The real server, in a process of its own on a free loopback port."""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import ROOT, serving

# A shell that starts the tests in the background has Ctrl-C ignored, by every child as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps its database and files."""
    return tmp_path_factory.mktemp("server") / "data"


@pytest.fixture(scope="session")
def server(data_folder: Path) -> Iterator[str]:
    """Its address, once it is ready."""
    with serving(data_folder) as address:
        yield address


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
