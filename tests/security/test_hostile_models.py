"""TorchScript files that do more than compute, run by the real probing room.

Each first shows that it does harm where nothing holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from service.domain.errors import ModelRaised, ProbeFailure, ProbeOutOfMemory, ProbeTimeout
from service.domain.model_source import ArtifactSource
from service.domain.probe_plan import InputPlan, ProbePlan
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import why_unsealable
from tests.security.hostile_models import (
    AsksForATebibyte,
    Hoards,
    Hostile,
    LoopsForEver,
    LoopsInItsThreads,
    ReadsAFile,
    WritesAFile,
    WritesThroughAMapping,
    WritesWhileItIsLoaded,
    scripted,
)

UNSEALABLE = why_unsealable()
pytestmark = [
    pytest.mark.skipif(UNSEALABLE is not None, reason=f"cannot seal here: {UNSEALABLE}"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]
PLAN = ProbePlan(inputs=(InputPlan((4,)),), batch_size=2, batches=1, seeds=1, trial_steps=0)


def saved(model: nn.Module, folder: Path) -> Path:
    path = folder / "model.pt"
    path.write_bytes(scripted(model))
    return path


class Store:
    """One file at a time, so that one zygote serves all tests."""

    def __init__(self) -> None:
        self.file = Path("/nowhere")

    def path(self, artifact_id: str) -> Path:
        return self.file


@pytest.fixture(scope="module")
def store() -> Store:
    return Store()


@pytest.fixture(scope="module")
def prober(store: Store) -> Iterator[ZygoteProber]:
    prober = ZygoteProber(
        Limits(wall_seconds=100, cpu_seconds=4, memory_mb=1024),
        "service.probing.child:serve",
        "service.probing.child:warm_up",
        store.path,
        threads=2,
    )
    yield prober
    prober.close()


def probe(prober: ZygoteProber, store: Store, file: Path) -> None:
    store.file = file
    with prober.open(ArtifactSource("sha256:1", "torchscript"), PLAN) as session:
        session.measure()


def test_a_file_is_not_read(prober: ZygoteProber, store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"12345678")
    model = saved(ReadsAFile(str(secret)), tmp_path)
    assert torch.jit.load(model)(torch.zeros(1, 4)).sum() == 4 * sum(b"12345678")
    with pytest.raises(ModelRaised):
        probe(prober, store, model)


def test_a_file_is_not_changed(prober: ZygoteProber, store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"12345678")
    model = saved(WritesThroughAMapping(str(victim)), tmp_path)
    torch.jit.load(model)(torch.zeros(1, 4))
    assert victim.read_bytes() == bytes(8)
    victim.write_bytes(b"12345678")
    with pytest.raises(ModelRaised):
        probe(prober, store, model)
    assert victim.read_bytes() == b"12345678"


def test_a_file_is_not_written(prober: ZygoteProber, store: Store, tmp_path: Path) -> None:
    loot = tmp_path / "loot"
    model = saved(WritesAFile(str(loot)), tmp_path)
    torch.jit.load(model)(torch.zeros(1, 4))
    assert loot.exists()
    loot.unlink()
    probe(prober, store, model)  # it does not notice: the stream it writes to is just not open
    assert not loot.exists()


def test_loading_alone_writes_nothing(prober: ZygoteProber, store: Store, tmp_path: Path) -> None:
    loot = tmp_path / "loot"
    model = saved(WritesWhileItIsLoaded(str(loot)), tmp_path)
    torch.jit.load(model)
    assert loot.exists()
    loot.unlink()
    probe(prober, store, model)  # it does not notice: the stream it writes to is just not open
    assert not loot.exists()


@pytest.mark.parametrize(
    ("hostile", "failure"),
    [
        (LoopsForEver, ProbeTimeout),
        (LoopsInItsThreads, ProbeTimeout),
        (AsksForATebibyte, ProbeOutOfMemory),
        (Hoards, ProbeOutOfMemory),
    ],
)
def test_time_and_memory_are_bounded(
    prober: ZygoteProber,
    store: Store,
    tmp_path: Path,
    hostile: type[Hostile],
    failure: type[ProbeFailure],
) -> None:
    with pytest.raises(failure):
        probe(prober, store, saved(hostile(), tmp_path))
    probe(prober, store, saved(nn.Linear(4, 2), tmp_path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x02c__builtin__\neval\n."])
def test_a_broken_file_fails_alone(
    prober: ZygoteProber, store: Store, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "broken"
    file.write_bytes(content)
    with pytest.raises(ProbeFailure):
        probe(prober, store, file)
    probe(prober, store, saved(nn.Linear(4, 2), tmp_path))
