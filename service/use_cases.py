"""What a caller may ask of graddx. HTTP, CLI and tests come in here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from secrets import randbits
from typing import Any, Protocol
from uuid import UUID

from service.domain.analysis import Analysis, Queue, Status
from service.domain.api_keys import ANYONE, LOCAL, Caller, parse
from service.domain.architecture import Architecture
from service.domain.comparison import Comparison, compare
from service.domain.errors import (
    AnalysisNotFound,
    AnalysisUnfinished,
    ArtifactNotFound,
    ArtifactRejected,
    InvalidRequest,
    SandboxUnavailable,
    ShapeMismatch,
    Unauthorized,
    UnsupportedArtifact,
)
from service.domain.exported_program import Program, UnreadableProgram
from service.domain.measurements import LayerMeasurements
from service.domain.model_source import SpecSource, model_source
from service.domain.prescribed import patch_of, spec_of, weights_of
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.request import AnalysisRequest, ModelRequest
from service.domain.routing import queue_for
from service.domain.tensor_file import Tensors, check_data, check_weights
from service.ports import (
    PROBE_SECONDS,
    AnalysisRepository,
    ApiKeyRepository,
    Artifact,
    ArtifactStore,
    Backlog,
    Clock,
    Dispatcher,
    Filter,
    LayerPage,
    Once,
    Page,
    WorkerRegistry,
    WorkerSeen,
)
from service.source import pytorch_source

__all__ = [
    "PROBE_SECONDS",
    "Artifact",
    "Backlog",
    "Engine",
    "Filter",
    "LayerPage",
    "Page",
    "Readiness",
    "Submitted",
    "UseCases",
    "WorkerSeen",
    "new_id",
]

REPEATED = ("labels", "retain", "fresh")
"""Fields of a request that do not decide its answer."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Can this server take and finish work?"""

    ready: bool
    checks: dict[str, bool]
    """database, workers."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came of a request."""

    analysis: Analysis
    """The one that was made, now or before."""
    repeated: bool
    """The Idempotency-Key had made it before; nothing was done."""


class Engine(Protocol):
    """The use cases as the front door sees them, for one owner; `bootstrap` gives the real one."""

    def caller(self, token: str | None) -> Caller:
        """Who comes with this API key, or without any. Raises Unauthorized."""

    def owned_by(self, owner: str) -> Engine:
        """The same for another owner, for whom nobody else's analyses and files exist."""

    def submit(self, request: AnalysisRequest, *, request_id: str | None = None) -> Analysis:
        """Validate, store and dispatch. `request_id`: of the call, for the logs. Raises
        InvalidRequest, ArtifactNotFound, QueueFull, SandboxUnavailable, StorageFull."""

    def submit_once(
        self, request: AnalysisRequest, key: str, *, request_id: str | None = None
    ) -> Submitted:
        """As `submit`, unless this owner has used the Idempotency-Key before. Raises besides:
        IdempotencyConflict, IdempotencyInFlight."""

    def get(self, analysis_id: str) -> Analysis:
        """With report and queue position. Raises AnalysisNotFound."""

    def head(self, analysis_id: str) -> Analysis:
        """Without its report. Raises AnalysisNotFound."""

    def status(self, analysis_id: str) -> Status:
        """Cheap. Raises AnalysisNotFound."""

    def list(self, where: Filter, *, limit: int, cursor: str | None) -> Page:
        """Newest first."""

    def layers(self, analysis_id: str) -> tuple[LayerMeasurements, ...]:
        """Every per-layer statistic. Raises AnalysisNotFound."""

    def compare(self, before: str, after: str) -> Comparison:
        """What changed from one analysis to another. Raises AnalysisNotFound,
        AnalysisUnfinished."""

    def history(
        self, layer: str, labels: Mapping[str, str], *, limit: int, cursor: str | None
    ) -> LayerPage:
        """A layer in past analyses that carry these labels, newest first. Raises InvalidRequest
        for a bad cursor."""

    def repaired_spec(self, analysis_id: str) -> dict[str, Any]:
        """Expanded. Raises AnalysisNotFound, AnalysisUnfinished, NoPrescription, SpecOnly."""

    def repairing_patch(self, analysis_id: str) -> tuple[dict[str, Any], ...]:
        """RFC 6902 operations on the submitted spec. Raises what `repaired_spec` does."""

    def repaired_source(self, analysis_id: str) -> str:
        """PyTorch source of the repaired model. Raises what `repaired_spec` does."""

    def repaired_weights(self, analysis_id: str) -> Artifact:
        """A safetensors file. Raises AnalysisNotFound, AnalysisUnfinished, NoPrescription,
        WeightsNotKept, ArtifactNotFound."""

    def remove(self, analysis_id: str) -> bool:
        """True: cancelled (was queued or running); False: deleted. Raises AnalysisNotFound."""

    def answered(self, analysis: Analysis) -> None:
        """The caller has been given this answer: when it is final, what was not to be retained
        is deleted."""

    def put_artifact(self, chunks: Iterable[bytes]) -> Artifact:
        """Store a file once. Raises StorageFull, UnsupportedArtifact, ArtifactRejected."""

    def withdraw(self, artifact: Artifact) -> None:
        """Delete a file that was just put for an analysis that was refused, unless it was put
        again since or another analysis needs it."""

    def artifact(self, artifact_id: str) -> Artifact:
        """Raises ArtifactNotFound."""

    def artifact_path(self, artifact_id: str) -> Path:
        """Raises ArtifactNotFound."""

    def delete_artifact(self, artifact_id: str) -> None:
        """Raises ArtifactNotFound."""

    def readiness(self) -> Readiness:
        """Database answers, schema current, a worker is up."""

    def backlog(self, queue: Queue) -> Backlog:
        """What waits in this queue and what of it is at work."""

    def workers(self) -> tuple[WorkerSeen, ...]:
        """Who is at work, and who was lately."""


class UseCases:
    """`Engine` over the ports."""

    def __init__(
        self,
        analyses: AnalysisRepository,
        artifacts: ArtifactStore,
        keys: ApiKeyRepository,
        dispatcher: Dispatcher,
        clock: Clock,
        *,
        version: str,
        open_without_keys: bool,
        queue_limit: int,
        needs_worker: bool,
        workers: WorkerRegistry | None = None,
        why_uploads_are_refused: str | None,
        uploads_may_use_gpus: bool = False,
        guess_inputs: Callable[[Path], tuple[InputPlan, ...]],
        read_headers: Callable[[Path, str], Tensors],
        check_model: Callable[[Path, str], None],
        describe_unknown: Callable[[Path], str],
        read_program: Callable[[Path], Program],
    ) -> None:
        """Asks as the owner `local`. `version`: of the engine; another one may answer otherwise.
        `open_without_keys`: while no API key was made, anyone is the owner `local`.
        `queue_limit`: analyses that may wait. `needs_worker`: not ready without a worker.
        `workers`: who is at work, where that is known.
        `why_uploads_are_refused`: None when they are not. `uploads_may_use_gpus`: run them in a
        seal that leaves a GPU within reach.
        `guess_inputs`: what a model file may take, when that can be seen without running it.
        `read_headers`: what a safetensors or npz file (told by its format) holds; raises
        ArtifactRejected, FileNotFoundError.
        `check_model`: looks at a model file of this format without loading it; raises
        ArtifactRejected, FileNotFoundError. `describe_unknown`: what a file of no known format
        seems to be. `read_program`: what an exported program says of itself; raises
        UnreadableProgram, FileNotFoundError."""
        self._owner = LOCAL
        self._analyses = analyses.owned_by(LOCAL)
        self._artifacts = artifacts.owned_by(LOCAL)
        self._keys = keys
        self._dispatcher = dispatcher
        self._clock = clock
        self._version = version
        self._open_without_keys = open_without_keys
        self._queue_limit = queue_limit
        self._needs_worker = needs_worker
        self._workers = workers
        self._why_uploads_are_refused = why_uploads_are_refused
        self._uploads_may_use_gpus = uploads_may_use_gpus
        self._guess_inputs = guess_inputs
        self._read_headers = read_headers
        self._check_model = check_model
        self._describe_unknown = describe_unknown
        self._read_program = read_program

    def caller(self, token: str | None) -> Caller:
        """Who comes with this API key, or without any. Raises Unauthorized."""
        if self._open_without_keys and not self._keys.any():
            return ANYONE
        if token is None:
            raise Unauthorized("send an API key: Authorization: Bearer gdx_…")
        key_id, secret = parse(token) or ("", "")
        key = self._keys.find(key_id)
        if key is None or not (key.opened_by(secret) and key.active(self._clock.now())):
            raise Unauthorized("this API key is unknown, expired or revoked")
        return Caller(key.owner, key.scopes, key.id)

    def owned_by(self, owner: str) -> UseCases:
        """The same for another owner, for whom nobody else's analyses and files exist."""
        theirs = copy(self)
        theirs._owner = owner
        theirs._analyses = self._analyses.owned_by(owner)
        theirs._artifacts = self._artifacts.owned_by(owner)
        return theirs

    def submit(self, request: AnalysisRequest, *, request_id: str | None = None) -> Analysis:
        """Validate, store and dispatch. `request_id`: of the call, for the logs. Raises
        InvalidRequest, ArtifactNotFound, QueueFull, SandboxUnavailable, StorageFull."""
        return self._submit(request, None, request_id).analysis

    def submit_once(
        self, request: AnalysisRequest, key: str, *, request_id: str | None = None
    ) -> Submitted:
        """As `submit`, unless this owner has used the Idempotency-Key before. Raises besides:
        IdempotencyConflict, IdempotencyInFlight."""
        once = Once(key, _fingerprint(request))
        # Before anything is checked: a file that the first one gave up is not needed again.
        if (made := self._analyses.made_by(once)) is not None:
            return Submitted(self._analyses.get(made), True)
        return self._submit(request, once, request_id)

    def _submit(
        self, request: AnalysisRequest, once: Once | None, request_id: str | None
    ) -> Submitted:
        _check_labels(request)
        request = self._with_baseline(request)
        self._check_device(request)
        model_format, sha256, parameters = self._checked_model(request)
        now = self._clock.now()
        analysis = Analysis(
            id=new_id(now),
            status=Status.QUEUED,
            created_at=now,
            request=request,
            labels=request.labels,
            owner=self._owner,
            model_format=model_format,
            model_sha256=sha256,
            queue=queue_for(request, parameters, self._gpu_is_up),
            request_id=request_id,
        )
        question = _fingerprint(request, without=REPEATED, version=self._version)
        made = self._answered(analysis, question, once)
        if made is None:
            made = self._analyses.add(
                analysis, question=question, queue_limit=self._queue_limit, once=once
            )
            if made == analysis.id:
                self._dispatcher.dispatch(made, analysis.queue)
        return Submitted(self._analyses.get(made), made != analysis.id)

    def _with_baseline(self, request: AnalysisRequest) -> AnalysisRequest:
        """With the id of what it is to be compared with, as things stand now."""
        wanted = request.baseline
        if wanted is None:
            return request
        labelled = Filter(status=Status.SUCCEEDED, labels={wanted.key: wanted.value})
        newest = self._analyses.list(labelled, limit=1, cursor=None).items
        found = newest[0].id if newest else None
        return replace(request, baseline=replace(wanted, id=found))

    def _answered(self, analysis: Analysis, question: str, once: Once | None) -> str | None:
        """Id of a new analysis with the answer of an identical one that this owner asked for
        before, if there is any and nothing fresh is wanted."""
        source = None if analysis.request.fresh else self._analyses.answer_to(question)
        if source is None:
            return None
        at = analysis.created_at
        final = replace(analysis, started_at=at, finished_at=at)
        with suppress(AnalysisNotFound):  # deleted since
            made = self._analyses.add(final, question=question, copied_from=source, once=once)
            self._artifacts.discard()
            return made
        return None

    def get(self, analysis_id: str) -> Analysis:
        """With report and queue position. Raises AnalysisNotFound."""
        analysis = self._analyses.get(analysis_id)
        if analysis.status.final and analysis.request.retain != "all":
            # A worker does so too, but may be a moment late, or dead.
            self._artifacts.discard()
        return analysis

    def head(self, analysis_id: str) -> Analysis:
        """Without its report. Raises AnalysisNotFound."""
        return self._analyses.head(analysis_id)

    def status(self, analysis_id: str) -> Status:
        """Cheap. Raises AnalysisNotFound."""
        return self._analyses.status(analysis_id)

    def list(self, where: Filter, *, limit: int, cursor: str | None) -> Page:
        """Newest first. Raises InvalidRequest for a bad cursor."""
        return self._analyses.list(where, limit=limit, cursor=cursor)

    def layers(self, analysis_id: str) -> tuple[LayerMeasurements, ...]:
        """Every per-layer statistic. Raises AnalysisNotFound."""
        return self._analyses.layers(analysis_id)

    def compare(self, before: str, after: str) -> Comparison:
        """What changed from one analysis to another. Raises AnalysisNotFound,
        AnalysisUnfinished."""
        both = self._analyses.get(before), self._analyses.get(after)
        for analysis in both:
            if not analysis.status.final:
                raise AnalysisUnfinished(
                    f"analysis {analysis.id} is still {analysis.status}; it goes on"
                )
        return compare(*both)

    def history(
        self, layer: str, labels: Mapping[str, str], *, limit: int, cursor: str | None
    ) -> LayerPage:
        """A layer in past analyses that carry these labels, newest first. Raises InvalidRequest
        for a bad cursor."""
        return self._analyses.history(layer, labels, limit=limit, cursor=cursor)

    def repaired_spec(self, analysis_id: str) -> dict[str, Any]:
        """Expanded. Raises AnalysisNotFound, AnalysisUnfinished, NoPrescription, SpecOnly."""
        return spec_of(self._analyses.get(analysis_id))

    def repairing_patch(self, analysis_id: str) -> tuple[dict[str, Any], ...]:
        """RFC 6902 operations on the submitted spec. Raises what `repaired_spec` does."""
        return patch_of(self._analyses.get(analysis_id))

    def repaired_source(self, analysis_id: str) -> str:
        """PyTorch source of the repaired model. Raises what `repaired_spec` does."""
        return pytorch_source(self.repaired_spec(analysis_id))

    def repaired_weights(self, analysis_id: str) -> Artifact:
        """A safetensors file. Raises AnalysisNotFound, AnalysisUnfinished, NoPrescription,
        WeightsNotKept, ArtifactNotFound."""
        return self._artifacts.get(weights_of(self._analyses.get(analysis_id)))

    def remove(self, analysis_id: str) -> bool:
        """True: cancelled (was queued or running); False: deleted. Raises AnalysisNotFound."""
        was_open = not self._analyses.status(analysis_id).final
        cancelled = was_open and self._analyses.cancel(analysis_id) is Status.CANCELLED
        if not cancelled:
            self._analyses.delete(analysis_id)
        self._artifacts.discard()
        return cancelled

    def answered(self, analysis: Analysis) -> None:
        """The caller has been given this answer: when it is final, what was not to be retained
        is deleted."""
        if analysis.status.final and analysis.request.retain == "nothing":
            with suppress(AnalysisNotFound):  # somebody else has read it at the same time
                self._analyses.delete(analysis.id)

    def put_artifact(self, chunks: Iterable[bytes]) -> Artifact:
        """Store a file once. Raises StorageFull, PayloadTooLarge, UnsupportedArtifact,
        ArtifactRejected."""
        artifact = self._artifacts.put(chunks)
        try:
            self._check_file(artifact)
        except InvalidRequest:
            self._artifacts.withdraw(artifact)
            raise
        return artifact

    def withdraw(self, artifact: Artifact) -> None:
        """Delete a file that was just put for an analysis that was refused, unless it was put
        again since or another analysis needs it."""
        self._artifacts.withdraw(artifact)

    def artifact(self, artifact_id: str) -> Artifact:
        """Raises ArtifactNotFound."""
        return self._artifacts.get(artifact_id)

    def artifact_path(self, artifact_id: str) -> Path:
        """Raises ArtifactNotFound."""
        return self._artifacts.path(artifact_id)

    def delete_artifact(self, artifact_id: str) -> None:
        """Raises ArtifactNotFound."""
        self._artifacts.delete(artifact_id)

    def readiness(self) -> Readiness:
        """Database answers, schema current, a worker is up."""
        checks = {
            "database": self._analyses.ready(),
            "workers": not self._needs_worker or self._dispatcher.workers_alive() > 0,
        }
        return Readiness(all(checks.values()), checks)

    def backlog(self, queue: Queue) -> Backlog:
        """What waits in this queue and what of it is at work."""
        return self._analyses.backlog(queue)

    def workers(self) -> tuple[WorkerSeen, ...]:
        """Who is at work, and who was lately."""
        return () if self._workers is None else self._workers.all()

    def _check_device(self, request: AnalysisRequest) -> None:
        """Raises InvalidRequest for a device that nobody has."""
        device = request.probe.device
        if not device.startswith("cuda"):
            return
        if request.model.artifact_id is not None and not self._uploads_may_use_gpus:
            raise InvalidRequest(
                f"{device} is for specs: uploaded models run on the processor, since the seal of a "
                "child on a GPU was not tried against hostile models (GRADDX_RUN_UPLOADS_ON_GPU)",
                pointer="/probe/device",
            )
        if not self._gpu_is_up():
            raise InvalidRequest(
                f"{device} was asked for and no worker with a CUDA device is up; use auto or cpu",
                pointer="/probe/device",
            )

    def _gpu_is_up(self) -> bool:
        return self._workers is not None and self._workers.up(Queue.GPU) > 0

    def _checked_model(self, request: AnalysisRequest) -> tuple[str, str, int | None]:
        """Format, digest and, of a spec, parameters of the model. Raises what `submit` does."""
        if request.model.artifact_id is not None:
            return *self._checked_artifact(request, request.model.artifact_id), None
        with _within("/model"):
            source = model_source(request.model, "spec")
        if isinstance(source, SpecSource):
            _check_inputs_fit(request.probe.inputs, source.architecture)
            self._check_weights(source)
            self._check_data(request.probe, _input_of(source.architecture))
            return request.model.kind, _digest(request.model), source.architecture.size
        return request.model.kind, _digest(request.model), None

    def _checked_artifact(self, request: AnalysisRequest, artifact_id: str) -> tuple[str, str]:
        if self._why_uploads_are_refused is not None:
            raise SandboxUnavailable(
                f"uploaded models are refused on this host: {self._why_uploads_are_refused}"
            )
        artifact = self._artifacts.get(artifact_id)
        model_format = artifact.format
        _check_format(model_format)
        with _within("/model/id"):
            # Again: what is let pass may have changed since the file was stored.
            self._check_file(artifact)
        if model_format == "exported_program":
            self._check_program(request.probe, artifact_id)
            return model_format, artifact_id.removeprefix("sha256:")
        self._check_data(request.probe, request.probe.inputs)
        if not request.probe.inputs and request.probe.data is None:
            guess = self._guess_inputs(self._artifacts.path(artifact_id))
            raise InvalidRequest(_inputs_wanted(guess), pointer="/probe/inputs")
        return model_format, artifact_id.removeprefix("sha256:")

    def _check_file(self, artifact: Artifact) -> None:
        """Raises UnsupportedArtifact, ArtifactRejected, ArtifactNotFound."""
        path = self._artifacts.path(artifact.id)
        try:
            if artifact.format == "unknown":
                raise UnsupportedArtifact(self._describe_unknown(path))
            self._check_model(path, artifact.format)
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {artifact.id}") from error

    def _check_program(self, probe: ProbePlan, artifact_id: str) -> None:
        """An exported program brings its inputs: what is said of them has to fit."""
        try:
            program = self._read_program(self._artifacts.path(artifact_id))
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {artifact_id}") from error
        except UnreadableProgram as error:
            raise ArtifactRejected(str(error), pointer="/model/id") from error
        self._check_data(probe, program.fitted(probe).inputs)

    def _check_weights(self, source: SpecSource) -> None:
        if source.weights_id is not None:
            with _within("/model/weights"):
                tensors = self._tensors(source.weights_id, "safetensors")
                check_weights(tensors, source.architecture)

    def _check_data(self, probe: ProbePlan, wanted: tuple[InputPlan, ...]) -> None:
        if probe.data is not None:
            with _within("/probe/data"):
                check_data(self._tensors(probe.data, "safetensors", "npz"), wanted)

    def _tensors(self, artifact_id: str, *formats: str) -> Tensors:
        """Raises ArtifactNotFound, UnsupportedArtifact, ArtifactRejected."""
        found = self._artifacts.get(artifact_id).format
        if found not in formats:
            raise UnsupportedArtifact(f"this file is {found}; {' or '.join(formats)} is wanted")
        try:
            return self._read_headers(self._artifacts.path(artifact_id), found)
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {artifact_id}") from error


def new_id(now: datetime) -> str:
    """A UUID of version 7 (RFC 9562, method 3): sorts by creation, to a quarter microsecond."""
    microseconds = int(now.timestamp() * 1_000_000)
    milliseconds, rest = divmod(microseconds, 1000)
    number = (
        milliseconds << 80 | 0x7 << 76 | (rest * 4096 // 1000) << 64 | 0b10 << 62 | randbits(62)
    )
    return str(UUID(int=number))


def _fingerprint(
    request: AnalysisRequest, *, without: Collection[str] = (), version: str = ""
) -> str:
    """Digest of what a request says, defaults filled in and files by their content; the same for
    JSON and a form."""
    said = {name: value for name, value in asdict(request).items() if name not in without}
    canonical = json.dumps([version, said], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _digest(model: ModelRequest) -> str:
    """Of the model as submitted, without its kind: a spec and, when given, the id of its weights.
    JSON with sorted keys and without spaces."""
    weights = {} if model.weights_id is None else {"weights": model.weights_id}
    described = {**(model.spec or {}), **weights}
    canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@contextmanager
def _within(pointer: str) -> Iterator[None]:
    try:
        yield
    except InvalidRequest as error:
        raise error.within(pointer) from error


def _input_of(architecture: Architecture) -> tuple[InputPlan, ...]:
    return tuple(InputPlan(one.shape, one.dtype) for one in architecture.inputs)


def _check_labels(request: AnalysisRequest) -> None:
    # PostgreSQL's text has no NUL; both databases are to take the same labels.
    for key, value in request.labels.items():
        if "\0" in key + value:
            raise InvalidRequest("a label has no NUL character", pointer="/labels")


def _check_inputs_fit(inputs: tuple[InputPlan, ...], architecture: Architecture) -> None:
    """`probe.inputs` may say how a spec's inputs are drawn, not that they are others."""
    if not inputs:
        return
    count = len(architecture.inputs)
    if len(inputs) != count:
        has = "one input" if count == 1 else f"{count} inputs"
        raise InvalidRequest(
            f"this spec has {has}", pointer=f"/probe/inputs/{min(count, len(inputs))}"
        )
    for index, (said, meant) in enumerate(zip(inputs, architecture.inputs, strict=True)):
        if (said.shape, said.dtype) != (meant.shape, meant.dtype):
            what = "the spec's input" if count == 1 else f"the spec's input `{meant.name}`"
            raise ShapeMismatch(
                f"{what} is {meant.dtype} {list(meant.shape)}, not {said.dtype} {list(said.shape)}",
                pointer=f"/probe/inputs/{index}",
            )


def _check_format(model_format: str) -> None:
    if model_format not in ("torchscript", "exported_program"):
        raise UnsupportedArtifact(
            f"this file is {model_format}, not a model; "
            "save with torch.export.save(torch.export.export(model, (example,)), path) or "
            "torch.jit.save(torch.jit.trace(model, example), path)",
            pointer="/model/id",
        )


def _inputs_wanted(guess: tuple[InputPlan, ...]) -> str:
    plans = guess or (InputPlan((3, 224, 224)),)
    paste = json.dumps({"probe": {"inputs": [_entry(plan) for plan in plans]}})
    origin = "guessed from the file, please check" if guess else "with your own sizes"
    return (
        "a TorchScript file does not say what it takes: give one entry per input, the sizes of "
        f"one sample without the batch dimension; {origin}: {paste}"
    )


def _entry(plan: InputPlan) -> dict[str, Any]:
    high = {} if plan.high is None else {"high": plan.high}
    return {"shape": list(plan.shape), "dtype": plan.dtype} | high
