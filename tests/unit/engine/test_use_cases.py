"""What a caller may ask, over a real SQLite database and a real folder of files."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.domain.analysis import Queue, Stage, Status
from service.domain.errors import (
    AnalysisNotFound,
    ArtifactNotFound,
    ArtifactRejected,
    InvalidRequest,
    QueueFull,
    SandboxUnavailable,
    ShapeMismatch,
    UnknownLayerType,
    UnsupportedArtifact,
)
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.progress import progress
from service.domain.request import AnalysisRequest, ModelRequest
from service.intake.program import program_in
from service.intake.unknown import describe
from service.storage.analyses import SqlAnalyses
from service.storage.api_keys import SqlApiKeys
from service.storage.artifact_store import FileArtifacts
from service.storage.session import Database
from service.storage.tables import metadata
from service.storage.tensor_headers import read_headers
from service.use_cases import Filter, UseCases, new_id

QUEUE_LIMIT = 3
NOWHERE = "sha256:" + "0" * 64
SPEC: dict[str, Any] = {
    "input": {"shape": [8]},
    "layers": [{"type": "Linear", "args": {"out_features": 4}}, {"type": "ReLU"}],
}


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class LookingDispatcher:
    """Looks, at the moment it is told, for what the database says."""

    def __init__(self, analyses: SqlAnalyses) -> None:
        self._analyses = analyses
        self.found: list[Status] = []
        self.alive = 1

    def start(self) -> None: ...

    def dispatch(self, analysis_id: str, queue: Queue) -> None:
        self.found.append(self._analyses.status(analysis_id))

    def stop(self) -> None: ...

    def workers_alive(self) -> int:
        return self.alive


class House:
    """Use cases and what stands behind them."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.database = Database(f"sqlite:///{folder / 'graddx.sqlite3'}")
        with self.database.write() as connection:
            metadata.create_all(connection)
        self.analyses = SqlAnalyses(self.database, WallClock())
        self.dispatcher = LookingDispatcher(self.analyses)
        self.guess: tuple[InputPlan, ...] = ()
        self.refuse_model: str | None = None
        given: dict[str, Any] = {
            "version": "1",
            "open_without_keys": True,
            "queue_limit": QUEUE_LIMIT,
            "needs_worker": True,
            "why_uploads_are_refused": None,
        }
        self.use_cases = UseCases(
            self.analyses,
            FileArtifacts(folder / "files", self.database, WallClock(), max_bytes=10**6),
            SqlApiKeys(self.database, WallClock()),
            self.dispatcher,
            WallClock(),
            guess_inputs=lambda _: self.guess,
            read_headers=read_headers,
            check_model=self.check_model,
            describe_unknown=describe,
            read_program=program_in,
            **(given | settings),
        )

    def check_model(self, path: Path, model_format: str) -> None:
        assert path.exists()
        assert model_format != "unknown"
        if self.refuse_model is not None:
            raise ArtifactRejected(self.refuse_model)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.database.close()


def _spec(spec: dict[str, Any] = SPEC, **rest: Any) -> AnalysisRequest:
    return AnalysisRequest(model=ModelRequest("spec", spec=spec), **rest)


def _zip(folder: Path, *members: str) -> bytes:
    path = folder / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")
    return path.read_bytes()


def _put(house: House, folder: Path, *members: str) -> str:
    return house.use_cases.put_artifact([_zip(folder, *members)]).id


def _torchscript(house: House, folder: Path) -> str:
    return _put(house, folder, "net/constants.pkl", "net/code/__torch__.py")


def _artifact(artifact_id: str, *inputs: InputPlan) -> AnalysisRequest:
    model = ModelRequest("artifact", artifact_id=artifact_id)
    return AnalysisRequest(model=model, probe=ProbePlan(inputs=inputs))


def test_a_spec_is_stored_and_then_dispatched(house: House) -> None:
    analysis = house.use_cases.submit(_spec(labels={"branch": "main"}))
    assert house.dispatcher.found == [Status.QUEUED]
    assert analysis == house.use_cases.get(analysis.id)
    assert analysis.request == _spec(labels={"branch": "main"})
    assert analysis.labels == {"branch": "main"}
    assert analysis.model_format == "spec"
    assert analysis.queue_position == 0


def test_the_digest_of_a_spec_knows_no_order_of_keys(house: House) -> None:
    turned = dict(reversed(SPEC.items()))
    other = SPEC | {"layers": SPEC["layers"][:1]}
    one, two, three = (house.use_cases.submit(_spec(s)).model_sha256 for s in (SPEC, turned, other))
    assert one == two != three


def test_what_is_wrong_with_a_spec_is_told_at_once_under_model(house: House) -> None:
    wrong = SPEC | {"layers": [{"type": "Lineal"}]}
    with pytest.raises(UnknownLayerType) as caught:
        house.use_cases.submit(_spec(wrong))
    assert [fault.pointer for fault in caught.value.faults] == ["/model/layers/0/type"]
    assert house.use_cases.list(Filter(), limit=1, cursor=None).items == ()


def test_inputs_of_a_spec_have_to_be_its_own(house: House) -> None:
    fitting = ProbePlan(inputs=(InputPlan((8,), distribution="uniform"),))
    assert house.use_cases.submit(_spec(probe=fitting)).request.probe == fitting
    with pytest.raises(ShapeMismatch) as caught:
        house.use_cases.submit(_spec(probe=ProbePlan(inputs=(InputPlan((9,)),))))
    assert caught.value.faults[0].pointer == "/probe/inputs/0"
    with pytest.raises(InvalidRequest, match="one input") as more:
        house.use_cases.submit(_spec(probe=ProbePlan(inputs=(InputPlan((8,)),) * 2)))
    assert more.value.faults[0].pointer == "/probe/inputs/1"


def test_torchscript_with_inputs_is_queued(house: House, tmp_path: Path) -> None:
    artifact_id = _torchscript(house, tmp_path)
    analysis = house.use_cases.submit(_artifact(artifact_id, InputPlan((3, 32, 32))))
    assert analysis.model_format == "torchscript"
    assert f"sha256:{analysis.model_sha256}" == artifact_id


def test_torchscript_without_inputs_prints_the_request_to_paste(
    house: House, tmp_path: Path
) -> None:
    request = _artifact(_torchscript(house, tmp_path))
    with pytest.raises(InvalidRequest) as blind:
        house.use_cases.submit(request)
    assert blind.value.faults[0].pointer == "/probe/inputs"
    house.guess = (InputPlan((5,), "int64", high=100), InputPlan((3, 8, 8)))
    with pytest.raises(InvalidRequest) as guessed:
        house.use_cases.submit(request)
    assert (
        '{"probe": {"inputs": [{"shape": [5], "dtype": "int64", "high": 100}, '
        '{"shape": [3, 8, 8], "dtype": "float32"}]}}'
    ) in guessed.value.detail


@pytest.mark.parametrize(
    ("members", "error"),
    [
        (["net/archive_format", "net/models/model.json"], ArtifactRejected),
        (["x.npy"], UnsupportedArtifact),
    ],
)
def test_other_files_are_no_model(
    house: House, tmp_path: Path, members: list[str], error: type[InvalidRequest]
) -> None:
    artifact_id = _put(house, tmp_path, *members)
    with pytest.raises(error) as caught:
        house.use_cases.submit(_artifact(artifact_id, InputPlan((3,))))
    assert caught.value.faults[0].pointer == "/model/id"


def test_a_refused_model_is_not_kept(house: House, tmp_path: Path) -> None:
    house.refuse_model = "it reads files"
    with pytest.raises(ArtifactRejected, match="it reads files"):
        _torchscript(house, tmp_path)
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def test_a_model_that_is_refused_by_now_is_refused_where_it_is_used(
    house: House, tmp_path: Path
) -> None:
    artifact_id = _torchscript(house, tmp_path)
    house.refuse_model = "it reads files"
    with pytest.raises(ArtifactRejected, match="it reads files") as caught:
        house.use_cases.submit(_artifact(artifact_id, InputPlan((4,))))
    assert [fault.pointer for fault in caught.value.faults] == ["/model/id"]


def test_a_file_of_unknown_format_is_not_kept(house: House, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArtifact, match=r"torch\.save"):
        _put(house, tmp_path, "net/data.pkl")
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def _tensors(house: House, **tensors: tuple[str, tuple[int, ...]]) -> str:
    """Artifact id of a safetensors file with these dtypes and shapes."""
    sizes = {"F32": 4, "I64": 8}
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * sizes[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(end)
    return house.use_cases.put_artifact([content]).id


def test_a_batch_that_fits_is_taken(house: House, tmp_path: Path) -> None:
    data = _tensors(house, x=("F32", (5, 8)), y=("I64", (5,)))
    assert house.use_cases.submit(_spec(probe=ProbePlan(data=data))).request.probe.data == data
    model = ModelRequest("artifact", artifact_id=_torchscript(house, tmp_path))
    shown = AnalysisRequest(model=model, probe=ProbePlan(data=data))
    assert house.use_cases.submit(shown).request.probe.inputs == ()


@pytest.mark.parametrize(
    ("tensors", "error", "says"),
    [
        ({"x": ("F32", (5, 9))}, ShapeMismatch, r"float32 \[9\], the model takes float32 \[8\]"),
        ({"x": ("F32", (5, 8)), "y": ("I64", (4,))}, ShapeMismatch, "same number of rows"),
        ({"z": ("F32", (5, 8))}, InvalidRequest, "no x"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    house: House, tmp_path: Path, tensors: Any, error: type[InvalidRequest], says: str
) -> None:
    data = _tensors(house, **tensors)
    model = ModelRequest("artifact", artifact_id=_torchscript(house, tmp_path))
    for request in (
        _spec(probe=ProbePlan(data=data)),
        AnalysisRequest(model=model, probe=ProbePlan(data=data, inputs=(InputPlan((8,)),))),
    ):
        with pytest.raises(error, match=says) as caught:
            house.use_cases.submit(request)
        assert [fault.pointer for fault in caught.value.faults] == ["/probe/data"]


def test_weights_that_fit_are_taken_and_are_part_of_the_digest(house: House) -> None:
    fitting = {"layer0.weight": ("F32", (4, 8)), "layer0.bias": ("F32", (4,))}
    weights = _tensors(house, **fitting)
    drawn = house.use_cases.submit(_spec())
    given = house.use_cases.submit(_weighted(weights))
    assert given.request.model.weights_id == weights
    canonical = json.dumps(SPEC | {"weights": weights}, sort_keys=True, separators=(",", ":"))
    assert given.model_sha256 == hashlib.sha256(canonical.encode()).hexdigest()
    assert given.model_sha256 != drawn.model_sha256


@pytest.mark.parametrize(
    ("tensors", "error", "says"),
    [
        ({"layer0.weight": ("F32", (4, 8))}, InvalidRequest, "missing: layer0.bias"),
        ({"layer0.weight": ("F32", (8, 4)), "layer0.bias": ("F32", (4,))}, ShapeMismatch, "8, 4"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    house: House, tensors: Any, error: type[InvalidRequest], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        house.use_cases.submit(_weighted(_tensors(house, **tensors)))
    assert [fault.pointer for fault in caught.value.faults] == ["/model/weights"]


def test_files_of_other_formats_are_neither_batch_nor_weights(house: House, tmp_path: Path) -> None:
    model = _torchscript(house, tmp_path)
    broken = _put(house, tmp_path, "x.npy")
    for request, pointer, error in (
        (_spec(probe=ProbePlan(data=model)), "/probe/data", UnsupportedArtifact),
        (_spec(probe=ProbePlan(data=broken)), "/probe/data", ArtifactRejected),
        (_weighted(model), "/model/weights", UnsupportedArtifact),
        (_weighted(broken), "/model/weights", UnsupportedArtifact),
    ):
        with pytest.raises(error) as caught:
            house.use_cases.submit(request)
        assert [fault.pointer for fault in caught.value.faults] == [pointer]


def test_missing_batches_and_weights_are_not_found(house: House) -> None:
    for request in (_spec(probe=ProbePlan(data=NOWHERE)), _weighted(NOWHERE)):
        with pytest.raises(ArtifactNotFound):
            house.use_cases.submit(request)
    gone = _tensors(house, x=("F32", (5, 8)))
    house.use_cases.artifact_path(gone).unlink()
    with pytest.raises(ArtifactNotFound):
        house.use_cases.submit(_spec(probe=ProbePlan(data=gone)))


def _weighted(weights: str) -> AnalysisRequest:
    return AnalysisRequest(ModelRequest("spec", spec=SPEC, weights_id=weights))


def test_a_missing_artifact_is_not_found(house: House) -> None:
    with pytest.raises(ArtifactNotFound):
        house.use_cases.submit(_artifact(NOWHERE, InputPlan((3,))))


def test_uploads_are_refused_where_no_child_can_be_sealed(tmp_path: Path) -> None:
    house = House(tmp_path, why_uploads_are_refused="no Landlock")
    request = _artifact(_torchscript(house, tmp_path), InputPlan((3,)))
    with pytest.raises(SandboxUnavailable, match="no Landlock"):
        house.use_cases.submit(request)
    assert house.use_cases.submit(_spec()).status is Status.QUEUED
    house.database.close()


def test_a_full_queue_takes_no_more_until_one_is_claimed(house: House) -> None:
    for _ in range(QUEUE_LIMIT):
        house.use_cases.submit(_spec())
    with pytest.raises(QueueFull):
        house.use_cases.submit(_spec())
    assert house.use_cases.backlog(Queue.CPU).waiting == QUEUE_LIMIT
    house.analyses.claim("w1", lease_seconds=60)
    house.use_cases.submit(_spec())


def test_a_label_without_sense_to_a_database_is_refused(house: House) -> None:
    for labels in ({"a\0": "b"}, {"a": "b\0"}):
        with pytest.raises(InvalidRequest) as caught:
            house.use_cases.submit(_spec(labels=labels))
        assert caught.value.faults[0].pointer == "/labels"


def test_remove_cancels_what_is_open_and_deletes_what_is_final(house: House) -> None:
    waiting = house.use_cases.submit(_spec())
    assert house.use_cases.remove(waiting.id)
    assert house.use_cases.status(waiting.id) is Status.CANCELLED
    assert not house.use_cases.remove(waiting.id)
    with pytest.raises(AnalysisNotFound):
        house.use_cases.remove(waiting.id)

    working = house.use_cases.submit(_spec())
    claim = house.analyses.claim("w1", lease_seconds=60)
    assert claim is not None
    assert house.use_cases.remove(working.id)
    assert not house.analyses.heartbeat(claim, lease_seconds=60, progress=progress(Stage.PROBE))


def test_readiness_wants_the_schema_and_a_worker(house: House, tmp_path: Path) -> None:
    assert house.use_cases.readiness().checks == {"database": False, "workers": True}
    house.dispatcher.alive = 0
    readiness = house.use_cases.readiness()
    assert not readiness.ready
    assert readiness.checks["workers"] is False
    elsewhere = House(tmp_path, needs_worker=False)
    elsewhere.dispatcher.alive = 0
    assert elsewhere.use_cases.readiness().checks["workers"]
    elsewhere.database.close()


def test_ids_sort_by_creation() -> None:
    start = datetime(2026, 11, 20, tzinfo=UTC)
    steps = [timedelta(microseconds=one) for one in (0, 1, 2, 999, 1000, 1001, 10**6, 10**12)]
    ids = [new_id(start + step) for step in steps]
    assert ids == sorted(ids)
    assert {one[14] for one in ids} == {"7"}
    assert len({new_id(start) for _ in range(1000)}) == 1000


def test_an_analysis_that_was_stored_is_the_one_that_was_asked_for(house: House) -> None:
    asked = replace(_spec(), probe=ProbePlan(seeds=7, batch_size=3), ignore=(), fail_on=None)
    assert house.use_cases.submit(asked).request == asked


class Workers:
    """Says how many of a kind are up."""

    def __init__(self, *kinds: Queue) -> None:
        self.kinds = kinds

    def up(self, queue: Queue) -> int:
        return self.kinds.count(queue)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_nobody_has_is_refused(tmp_path: Path, device: str) -> None:
    house = House(tmp_path, workers=Workers(Queue.CPU))
    with pytest.raises(InvalidRequest, match=f"^{device} was asked for and no worker") as refused:
        house.use_cases.submit(_spec(probe=ProbePlan(device=device)))
    assert [fault.pointer for fault in refused.value.faults] == ["/probe/device"]
    house.database.close()


def test_specs_go_to_a_gpu_that_is_up_and_files_do_not(tmp_path: Path) -> None:
    house = House(tmp_path, workers=Workers(Queue.GPU))
    plan = ProbePlan(device="cuda")
    assert house.use_cases.submit(_spec(probe=plan)).queue is Queue.GPU
    file = AnalysisRequest(model=ModelRequest("artifact", artifact_id=NOWHERE), probe=plan)
    with pytest.raises(InvalidRequest, match="cuda is for specs") as refused:
        house.use_cases.submit(file)
    assert [fault.pointer for fault in refused.value.faults] == ["/probe/device"]
    house.database.close()
