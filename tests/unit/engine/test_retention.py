"""What is to be kept no longer than needed: looked for on the disk, over a real database."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.domain.analysis import Analysis, Queue, Status
from service.domain.errors import AnalysisNotFound, ArtifactNotFound, ModelRaised
from service.domain.model_source import ModelSource
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.progress import Progress
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.intake.program import program_in
from service.intake.unknown import describe
from service.ports import Artifact, Prober, ProbeSession
from service.storage.analyses import SqlAnalyses
from service.storage.api_keys import SqlApiKeys
from service.storage.artifact_store import FileArtifacts
from service.storage.session import Database
from service.storage.tables import metadata
from service.storage.tensor_headers import read_headers
from service.use_cases import UseCases
from service.worker import Worker

MODEL = ("net/constants.pkl", "net/code/__torch__.py")


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Nobody:
    """Dispatcher and prober that do nothing."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def dispatch(self, analysis_id: str, queue: Queue) -> None: ...

    def workers_alive(self) -> int:
        return 1

    def prepare(self, source: ModelSource, plan: ProbePlan) -> None: ...

    def open(
        self, source: ModelSource, plan: ProbePlan, tell: Callable[[float], None]
    ) -> AbstractContextManager[ProbeSession]:
        raise AssertionError

    def abort(self) -> None: ...


class House:
    """A server and its worker, each with its own connection, on one folder."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.databases = [Database(f"sqlite:///{folder / 'graddx.sqlite3'}") for _ in range(2)]
        with self.databases[0].write() as connection:
            metadata.create_all(connection)
        api, worker = (
            (
                SqlAnalyses(one, WallClock()),
                FileArtifacts(self.files, one, WallClock(), max_bytes=10**6),
            )
            for one in self.databases
        )
        self.analyses, self.artifacts = api
        self.use_cases = UseCases(
            *api,
            SqlApiKeys(self.databases[0], WallClock()),
            Nobody(),
            WallClock(),
            version="1",
            open_without_keys=True,
            queue_limit=100,
            needs_worker=False,
            why_uploads_are_refused=None,
            guess_inputs=lambda _: (),
            read_headers=read_headers,
            check_model=lambda *_: None,
            describe_unknown=describe,
            read_program=program_in,
        )
        self.worker = Worker(
            "w1",
            worker[0],
            Nobody(),
            _fails,
            lambda _: True,
            lease_seconds=60,
            discard=worker[1].discard,
        )

    def put(self, *members: str) -> Artifact:
        path = self.files.parent / "made.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(zipfile.ZipInfo(member), b"x")
        return self.use_cases.put_artifact([path.read_bytes()])

    def submit(self, artifact: Artifact, retain: str) -> Analysis:
        model = ModelRequest("artifact", artifact_id=artifact.id)
        probe = ProbePlan(inputs=(InputPlan((3,)),))
        return self.use_cases.submit(AnalysisRequest(model, probe, retain=retain))

    def on_disk(self) -> int:
        return sum(path.is_file() for path in self.files.rglob("*"))


def _fails(
    request: AnalysisRequest,
    source: ModelSource,
    prober: Prober,
    tell: Callable[[Progress], None],
) -> Report:
    raise ModelRaised("no")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    for database in made.databases:
        database.close()


@pytest.mark.parametrize(("retain", "left"), [("all", 1), ("statistics", 0), ("nothing", 0)])
def test_files_go_when_the_worker_ends_the_analysis(house: House, retain: str, left: int) -> None:
    model = house.put(*MODEL)
    analysis = house.submit(model, retain)
    assert house.on_disk() == 1
    assert house.worker.work_once()
    assert house.on_disk() == left
    assert house.use_cases.status(analysis.id) is Status.FAILED
    if not left:
        with pytest.raises(ArtifactNotFound):
            house.use_cases.artifact(model.id)


def test_files_go_when_an_analysis_is_cancelled(house: House) -> None:
    analysis = house.submit(house.put(*MODEL), "statistics")
    assert house.use_cases.remove(analysis.id)
    assert house.on_disk() == 0


def test_a_reader_sees_to_it_when_whoever_ended_the_analysis_died_before(house: House) -> None:
    analysis = house.submit(house.put(*MODEL), "statistics")
    house.analyses.cancel(analysis.id)
    assert house.on_disk() == 1
    assert house.use_cases.get(analysis.id).status is Status.CANCELLED
    assert house.on_disk() == 0


def test_files_stay_while_another_analysis_needs_them(house: House) -> None:
    model = house.put(*MODEL)
    first, second = house.submit(model, "statistics"), house.submit(model, "nothing")
    house.worker.work_once()
    assert house.use_cases.get(first.id).status is Status.FAILED
    assert house.on_disk() == 1
    house.worker.work_once()
    assert house.on_disk() == 0
    assert house.use_cases.get(second.id).status is Status.FAILED


def test_files_stay_for_an_analysis_that_retains_all_until_it_is_deleted(house: House) -> None:
    model = house.put(*MODEL)
    keeping, other = house.submit(model, "all"), house.submit(model, "nothing")
    house.worker.work_once()
    house.worker.work_once()
    assert house.on_disk() == 1
    house.use_cases.answered(house.use_cases.get(other.id))
    assert house.on_disk() == 1
    house.use_cases.remove(keeping.id)
    assert house.on_disk() == 0


def test_files_sent_again_are_not_those_that_were_given_up(house: House) -> None:
    house.submit(house.put(*MODEL), "statistics")
    again = house.put(*MODEL)
    house.worker.work_once()
    assert house.on_disk() == 1  # somebody is about to ask for it
    house.submit(again, "statistics")
    house.worker.work_once()
    assert house.on_disk() == 0


def test_deleted_and_sent_again_is_another_file(house: House) -> None:
    model = house.put(*MODEL)
    house.submit(model, "statistics")
    house.use_cases.delete_artifact(model.id)
    house.put(*MODEL)
    house.worker.work_once()
    assert house.on_disk() == 1


def test_a_file_that_cannot_be_deleted_breaks_nothing_and_goes_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = house.submit(house.put(*MODEL), "statistics")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "not yours")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        assert house.worker.work_once()
        assert house.use_cases.get(analysis.id).status is Status.FAILED
    assert house.on_disk() == 1
    house.use_cases.get(analysis.id)
    assert house.on_disk() == 0


def test_data_and_weights_go_too_and_the_spec_stays(house: House, tmp_path: Path) -> None:
    spec = {"input": {"shape": [8]}, "layers": [{"type": "ReLU"}]}
    batch = b"\x37\0\0\0\0\0\0\0" + b'{"x":{"dtype":"U8","shape":[1,8],"data_offsets":[0,8]}}'
    data = house.use_cases.put_artifact([batch + bytes(8)])
    request = AnalysisRequest(
        ModelRequest("spec", spec=spec), ProbePlan(data=data.id), retain="statistics"
    )
    analysis = house.use_cases.submit(request)
    house.worker.work_once()
    assert house.on_disk() == 0
    assert house.use_cases.get(analysis.id).request == request


def test_an_analysis_that_retains_nothing_goes_with_its_final_answer(house: House) -> None:
    analysis = house.submit(house.put(*MODEL), "nothing")
    house.use_cases.answered(analysis)  # not final
    house.worker.work_once()
    final = house.use_cases.get(analysis.id)
    house.use_cases.answered(replace(final, request=replace(final.request, retain="statistics")))
    assert house.use_cases.get(analysis.id) == final
    house.use_cases.answered(final)
    house.use_cases.answered(final)  # somebody else read it at the same time
    with pytest.raises(AnalysisNotFound):
        house.use_cases.get(analysis.id)
    assert house.on_disk() == 0


def test_a_file_of_a_refused_call_is_withdrawn_unless_needed_or_sent_again(house: House) -> None:
    house.use_cases.withdraw(house.put(*MODEL))
    assert house.on_disk() == 0
    first = house.put(*MODEL)
    house.put(*MODEL)
    house.use_cases.withdraw(first)
    assert house.on_disk() == 1
    last = house.put(*MODEL)
    house.submit(last, "statistics")
    house.use_cases.withdraw(last)
    assert house.on_disk() == 1
    house.worker.work_once()
    assert house.on_disk() == 0
    house.use_cases.withdraw(last)  # gone already
