"""`Engine` over the ports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.domain.analysis import Analysis, Queue, Status
from service.domain.api_keys import ANYONE, LOCAL, Caller, parse
from service.domain.comparison import Comparison, compare
from service.domain.errors import (
    AnalysisNotFound,
    AnalysisUnfinished,
    InvalidRequest,
    Unauthorized,
)
from service.domain.exported_program import Program
from service.domain.measurements import LayerMeasurements
from service.domain.prescribed import patch_of, spec_of, weights_of
from service.domain.probe_plan import InputPlan
from service.domain.request import AnalysisRequest
from service.domain.routing import queue_for
from service.domain.tensor_file import Tensors
from service.ports import (
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
from service.use_cases.admission import Admission
from service.use_cases.engine import Readiness, Submitted
from service.use_cases.identity import fingerprint, new_id

REPEATED = ("labels", "retain", "fresh")
"""Fields of a request that do not decide its answer."""


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
        The others: see `Admission`."""
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
        self._admission = Admission(
            artifacts=self._artifacts,
            workers=workers,
            why_uploads_are_refused=why_uploads_are_refused,
            uploads_may_use_gpus=uploads_may_use_gpus,
            guess_inputs=guess_inputs,
            read_headers=read_headers,
            check_model=check_model,
            describe_unknown=describe_unknown,
            read_program=read_program,
        )

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
        theirs._admission = replace(self._admission, artifacts=theirs._artifacts)
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
        once = Once(key, fingerprint(request))
        # Before anything is checked: a file that the first one gave up is not needed again.
        if (made := self._analyses.made_by(once)) is not None:
            return Submitted(self._analyses.get(made), True)
        return self._submit(request, once, request_id)

    def _submit(
        self, request: AnalysisRequest, once: Once | None, request_id: str | None
    ) -> Submitted:
        _check_labels(request)
        request = self._with_baseline(request)
        self._admission.check_device(request)
        model_format, sha256, parameters = self._admission.checked_model(request)
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
            queue=queue_for(request, parameters, self._admission.gpu_is_up),
            request_id=request_id,
        )
        question = fingerprint(request, without=REPEATED, version=self._version)
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

    def layers(
        self, analysis_id: str, *, after: int = -1, limit: int | None = None
    ) -> tuple[LayerMeasurements, ...]:
        """Every per-layer statistic of the layers behind index `after`, at most `limit` of them.
        Raises AnalysisNotFound."""
        return self._analyses.layers(analysis_id, after=after, limit=limit)

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
            self._admission.check_file(artifact)
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


def _check_labels(request: AnalysisRequest) -> None:
    # PostgreSQL's text has no NUL; both databases are to take the same labels.
    for key, value in request.labels.items():
        if "\0" in key + value:
            raise InvalidRequest("a label has no NUL character", pointer="/labels")
