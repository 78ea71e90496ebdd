"""Files by digest, on both databases, and the formats that torch and others really write."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from service.domain.analysis import Analysis
from service.domain.errors import ArtifactNotFound, PayloadTooLarge, StorageFull
from service.domain.probe_plan import InputPlan
from service.domain.request import AnalysisRequest, ModelRequest
from service.storage.analyses import SqlAnalyses
from service.storage.artifact_store import FileArtifacts
from service.storage.formats import told_by_content
from service.storage.input_guess import MAX_PICKLE, guess_inputs
from service.storage.session import Database
from service.storage.tables import artifacts, uses
from tests.integration.stored_examples import START, HeldClock, queued

MAX_BYTES = 1000

WRITE_ALL = """
import sys
import warnings
import numpy
import torch
from safetensors.torch import save_file
from torch import nn

warnings.simplefilter("ignore")  # torch.jit says that it is deprecated


class Image(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 2)  # first by name, second in order
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x, scale):
        return self.fc(self.conv(x).mean((2, 3))) * scale


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 16)
        self.lstm = nn.LSTM(16, 8, batch_first=True)

    def forward(self, x):
        return self.lstm(self.embedding(x))[0]


mlp = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
image = (torch.randn(2, 3, 9, 8), torch.randn(2, 1, dtype=torch.float64))
torch.jit.save(torch.jit.script(mlp), "scripted.pt")
torch.jit.save(torch.jit.trace(Image(), image), "traced.pt")
torch.jit.save(torch.jit.trace(Text(), torch.zeros(2, 5, dtype=torch.int64)), "text.pt")
torch.jit.save(torch.jit.script(nn.Sequential(nn.ReLU())), "no_weights.pt")
torch.save(mlp, "pickled.pt")
torch.save(mlp.state_dict(), "state_dict.pt")
torch.export.save(torch.export.export(mlp, (torch.randn(2, 784),)), "exported.pt2")
save_file(mlp.state_dict(), "weights.safetensors")
numpy.savez("batch.npz", x=numpy.zeros((2, 3)))
numpy.savez_compressed("packed.npz", x=numpy.zeros((2, 3)))
"""


@pytest.fixture(scope="module")
def real_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by a child: no test here imports torch."""
    folder = tmp_path_factory.mktemp("files")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", WRITE_ALL], cwd=folder, env=environment, check=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def store(folder: Path, database: Database) -> FileArtifacts:
    return FileArtifacts(folder, database, HeldClock(), max_bytes=MAX_BYTES)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_content_is_kept_once_under_its_digest(store: FileArtifacts, folder: Path) -> None:
    digest = hashlib.sha256(b"hello").hexdigest()
    first = store.put([b"he", b"", b"llo"])
    assert (first.id, first.size, first.format) == (f"sha256:{digest}", 5, "unknown")
    assert first.created_at == START
    assert store.put([b"hello"]) == first == store.get(first.id)
    assert store.path(first.id).read_bytes() == b"hello"
    assert _files(folder) == [digest]


def test_the_same_content_at_once(store: FileArtifacts, folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stored = {*pool.map(store.put, [[b"hello"]] * 40)}
    assert len(stored) == 1
    assert len(_files(folder)) == 1


def test_deleted_content_is_gone_and_can_come_back(store: FileArtifacts, folder: Path) -> None:
    artifact = store.put([b"hello"])
    store.delete(artifact.id)
    assert _files(folder) == []
    for ask in (store.get, store.path, store.delete):
        with pytest.raises(ArtifactNotFound):
            ask(artifact.id)
    assert store.put([b"hello"]) == artifact


def test_a_file_that_somebody_removed_is_not_found_and_can_be_put_again(
    store: FileArtifacts,
) -> None:
    artifact = store.put([b"hello"])
    store.path(artifact.id).unlink()
    with pytest.raises(ArtifactNotFound):
        store.get(artifact.id)
    store.put([b"hello"])
    assert store.path(artifact.id).read_bytes() == b"hello"


@pytest.mark.parametrize("name", ["", "sha256:", "../../etc/passwd", "sha256:" + "A" * 64])
def test_a_name_that_is_no_digest_is_not_found(store: FileArtifacts, name: str) -> None:
    for ask in (store.get, store.path, store.delete):
        with pytest.raises(ArtifactNotFound):
            ask(name)


def test_too_much_is_refused_while_it_comes_and_leaves_nothing(
    store: FileArtifacts, folder: Path
) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 100
            yield b"x" * 100

    with pytest.raises(PayloadTooLarge):
        store.put(endless())
    assert taken == MAX_BYTES + 100
    assert _files(folder) == []
    assert store.put([b"x" * MAX_BYTES]).size == MAX_BYTES


def test_a_sender_who_breaks_off_leaves_nothing(store: FileArtifacts, folder: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"he"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.put(broken())
    assert _files(folder) == []


def test_a_full_disk_is_told_and_leaves_nothing(
    store: FileArtifacts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        store.put([b"hello"])
    assert _files(folder) == []


def test_what_a_killed_upload_left_behind_goes_after_a_day(
    store: FileArtifacts, folder: Path
) -> None:
    kept = store.put([b"hello"])
    incoming = folder / "incoming"
    day = 24 * 3600
    for name, age in (("new", 0), ("slow", day - 60), ("old", day + 60)):
        (incoming / name).write_bytes(b"he")
        written = START.timestamp() - age
        os.utime(incoming / name, (written, written))
    store.tidy()
    assert sorted(path.name for path in incoming.iterdir()) == ["new", "slow"]
    assert store.path(kept.id).exists()


def test_a_folder_that_is_not_there_yet_is_tidy(store: FileArtifacts, folder: Path) -> None:
    store.tidy()
    assert not folder.exists()


def test_senders_and_those_who_are_done_at_once(
    store: FileArtifacts, folder: Path, database: Database
) -> None:
    analyses = SqlAnalyses(database, HeldClock())

    def call(number: int) -> bool:
        analysis = sent(number)
        there = store.path(analysis.request.model.artifact_id or "").read_bytes() == b"hello"
        analyses.cancel(analysis.id)
        store.discard()
        return there

    def sent(number: int) -> Analysis:
        while True:
            model = ModelRequest("artifact", artifact_id=store.put([b"hello"]).id)
            request = AnalysisRequest(model, retain="statistics")
            analysis = replace(queued(START, n=str(number)), request=request)
            with suppress(ArtifactNotFound):  # another sent it too and was done since: once more
                analyses.add(analysis)
                return analysis

    with ThreadPoolExecutor(6) as pool:
        assert all([*pool.map(call, range(60))])
    store.discard()
    assert _files(folder) == []
    with database.read() as connection:
        for table in (uses, artifacts):
            assert connection.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scripted.pt", "torchscript"),
        ("traced.pt", "torchscript"),
        ("no_weights.pt", "torchscript"),
        ("pickled.pt", "unknown"),
        ("state_dict.pt", "unknown"),
        ("exported.pt2", "exported_program"),
        ("weights.safetensors", "safetensors"),
        ("batch.npz", "npz"),
        ("packed.npz", "npz"),
    ],
)
def test_what_torch_and_others_write_is_told_apart(
    real_files: Path, name: str, expected: str
) -> None:
    assert told_by_content(real_files / name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scripted.pt", (InputPlan((784,)),)),
        ("traced.pt", (InputPlan((3, 9, 8)), InputPlan((1,), "float64"))),
        ("text.pt", (InputPlan((5,), "int64", high=100),)),
        ("no_weights.pt", ()),
        ("weights.safetensors", ()),
    ],
)
def test_inputs_are_guessed(real_files: Path, name: str, expected: tuple[InputPlan, ...]) -> None:
    assert guess_inputs(real_files / name) == expected


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch owned'\ntR.",
        b"\x80\x02r\xff\xff\xff\x7f.",  # stores under memo index 2**31
        b"(" * MAX_PICKLE,
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"",
    ],
)
def test_a_pickle_that_is_a_program_only_spoils_the_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("file", "w") as archive:
        archive.writestr("net/data.pkl", program)
        archive.writestr("net/traced_inputs.pkl", program)
    assert guess_inputs(Path("file")) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
