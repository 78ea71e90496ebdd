"""GPUs as the driver's tool tells of them, and a worker for each; the tool is a stand-in."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from service.dispatch.devices import Gpu, visible_gpus
from service.dispatch.each_gpu import EachGpu

TOLD = """\
0, GPU-aaaa1111-0, NVIDIA H100 80GB HBM3, 81559
1, GPU-bbbb2222-0, NVIDIA H100 80GB HBM3, 81559
2, GPU-cccc3333-0, NVIDIA T4, [N/A]
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that answers as nvidia-smi does."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{TOLD}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def _indices(**environment: str) -> str:
    return "".join(gpu.index for gpu in visible_gpus(environment))


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == ()


@pytest.mark.usefixtures("driver")
def test_all_are_seen_with_their_memory() -> None:
    first, _, last = visible_gpus({})
    assert first == Gpu("0", "GPU-aaaa1111-0", "NVIDIA H100 80GB HBM3", 81559)
    assert last.memory_mb == 0


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("visible", "indices"),
    [("1", "1"), ("2,0", "20"), ("GPU-bbbb", "1"), ("0,7,1", "0"), ("", ""), ("-1", "")],
)
def test_what_cuda_is_shown_is_what_counts(visible: str, indices: str) -> None:
    assert _indices(CUDA_VISIBLE_DEVICES=visible) == indices


def test_each_gpu_has_a_worker_that_sees_it_alone(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys, time\n"
        "said = os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + os.environ['GRADDX_QUEUES']\n"
        "pathlib.Path(sys.argv[1], str(os.getpid())).write_text(said)\n"
        "time.sleep(60)\n"
    )
    gpus = [Gpu(str(n), f"GPU-{n}", "T4", 1) for n in range(2)]
    workers = EachGpu(gpus, [sys.executable, "-c", code, str(tmp_path)])

    def stop_when_told() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until and len(_said(tmp_path)) < 2:
            time.sleep(0.02)
        workers.stop()

    threading.Thread(target=stop_when_told, daemon=True).start()
    workers.run()
    assert sorted(_said(tmp_path)) == ["GPU-0 gpu", "GPU-1 gpu"]
    assert not any(Path(f"/proc/{path.name}").exists() for path in tmp_path.iterdir())


def _said(folder: Path) -> list[str]:
    return [text for path in folder.iterdir() if (text := path.read_text())]
