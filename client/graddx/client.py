"""The calls of the server, one method each."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from graddx.catalog import Catalog
from graddx.comparison import Comparison, History, HistoryPoint
from graddx.errors import (
    AnalysisCancelled,
    AnalysisFailed,
    AnalysisUnfinished,
    ApiError,
    ConnectionFailed,
    InvalidInput,
    NotFinished,
    Problem,
)
from graddx.events import EVENT_STREAM, read_events
from graddx.export import export, is_module
from graddx.model_source import Submission, read_model
from graddx.reading import read, read_analysis, read_list, read_page
from graddx.results import Analysis, AnalysisHead, Artifact, Progress, Succeeded
from graddx.retries import Retries
from graddx.statistics import Layer
from graddx.transport import Transport

if TYPE_CHECKING:
    from graddx.export import Module

DEFAULT_URL = "http://127.0.0.1:8000"
API_KEY_VARIABLE = "GRADDX_API_KEY"
"""Where the API key is looked for."""
DEFAULT_WAIT = 300.0
"""Seconds to wait for a diagnosis."""
HOLD_SECONDS = 20.0
"""Longest that one call is held; short enough for proxies, which cut silent calls off."""
WATCHED_HOLD_SECONDS = 1.0
"""The same when somebody watches the progress."""
SILENCE_SECONDS = 20.0
"""Longest silence between events; the server sends a comment every 15 s."""
WAIT_PATIENCE = 2
"""Waiting repeats its calls twice as often: a server that restarts is waited for (some 30 s)."""

MARKDOWN = "text/markdown"

Json = Mapping[str, Any]
Watch = Callable[[Progress], None]


class Client:
    """A graddx server.

        with Client("http://127.0.0.1:8000") as client:
            analysis = client.analyze("net.pt", probe={"inputs": [{"shape": [3, 32, 32]}]})

    Every method raises ApiError when the server refuses and ConnectionFailed when no answer comes;
    calls that can be repeated without harm are (see graddx.retries)."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 4,
    ) -> None:
        """`api_key`: "gdx_…", for a server that wants one; default: the variable GRADDX_API_KEY.
        `timeout`: seconds until a silent server is given up, besides the time it was asked to
        wait. `retries`: repetitions of a call. Raises InvalidInput when `url` is none."""
        from graddx import __version__

        api_key = api_key or os.environ.get(API_KEY_VARIABLE)
        self._transport = Transport(
            url, api_key, timeout, Retries(retries), f"graddx/{__version__}"
        )

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._transport.url

    def address(self, analysis_id: str) -> str:
        """Address of an analysis."""
        return f"{self.url}{_analysis(analysis_id)}"

    def analyze(
        self,
        model: Json | str | os.PathLike[str] | Module,
        *,
        probe: Json | None = None,
        data: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        labels: Mapping[str, str] | None = None,
        allowed_changes: Sequence[str] | None = None,
        ignore: Sequence[Json] | None = None,
        fail_on: str | None = None,
        retain: str | None = None,
        baseline: Json | None = None,
        fresh: bool | None = None,
        wait: float = DEFAULT_WAIT,
    ) -> Succeeded:
        """Submit a model and wait for its diagnosis, at most `wait` seconds.

        `model` is a spec, the path of a JSON file with one, the path of a TorchScript file, which
        is streamed, or a torch.nn.Module, which is exported. `data` is the path of a real batch
        (safetensors or npz with x or x0, x1, …, and perhaps y), `weights` that of a safetensors
        file with the parameters of a spec. The rest is as in the request of `POST /v1/analyses`;
        what is None is left to the server. An analysis that does not pass is
        returned like any other: look at `passed`.

        Raises besides: InvalidInput, ExportFailed; AnalysisFailed, AnalysisCancelled; NotFinished,
        after which `wait` can be called again."""
        submitted = self.submit(
            model,
            probe=probe,
            data=data,
            weights=weights,
            labels=labels,
            allowed_changes=allowed_changes,
            ignore=ignore,
            fail_on=fail_on,
            retain=retain,
            baseline=baseline,
            fresh=fresh,
        )
        return self.wait(submitted.id, wait)

    def submit(
        self,
        model: Json | str | os.PathLike[str] | Module,
        *,
        probe: Json | None = None,
        data: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        labels: Mapping[str, str] | None = None,
        allowed_changes: Sequence[str] | None = None,
        ignore: Sequence[Json] | None = None,
        fail_on: str | None = None,
        retain: str | None = None,
        baseline: Json | None = None,
        fresh: bool | None = None,
    ) -> Analysis:
        """As `analyze`, without waiting.

        Where `model` is a whole request, what is given here goes before what stands there; `probe`
        and `labels` are merged, `ignore` adds to it."""
        options = {
            "probe": probe,
            "labels": labels,
            "allowed_changes": allowed_changes,
            "ignore": ignore,
            "fail_on": fail_on,
            "retain": retain,
            "baseline": baseline,
            "fresh": fresh,
        }
        given = {name: value for name, value in options.items() if value is not None}
        if not is_module(model):
            return self._post(read_model(model), given, data, weights)
        with tempfile.TemporaryDirectory(prefix="graddx-") as folder:
            file = export(model, probe or {}, Path(folder))
            return self._post(Submission({}, file=file), given, data, weights)

    def get(self, analysis_id: str) -> Analysis:
        """An analysis as it stands."""
        return read_analysis(self._transport.call("GET", _analysis(analysis_id)), Analysis)

    def wait(
        self, analysis_id: str, timeout: float = DEFAULT_WAIT, *, progress: Watch | None = None
    ) -> Succeeded:
        """The analysis once it succeeded. `progress` is called at every change until then: it is
        followed by events, and where those do not come through asked about every second. Raises
        NotFinished after `timeout` seconds, AnalysisFailed, AnalysisCancelled."""
        deadline = time.monotonic() + timeout
        if progress:
            self._watch(analysis_id, deadline, progress)
        longest = WATCHED_HOLD_SECONDS if progress else HOLD_SECONDS
        while True:
            hold = min(longest, max(0.0, deadline - time.monotonic()))
            answer = self._transport.call(
                "GET",
                _analysis(analysis_id),
                params={"wait": round(hold, 3)},
                hold=hold,
                patience=WAIT_PATIENCE,
                until=deadline,
            )
            analysis = read_analysis(answer, Analysis)
            if analysis.final:
                _refuse_failed(analysis)
                return read_analysis(answer, Succeeded)
            if time.monotonic() >= deadline:
                raise NotFinished(analysis, timeout)
            if progress:
                progress(Progress(analysis.status, analysis.stage, analysis.queue_position))

    def events(self, analysis_id: str) -> Iterator[Progress]:
        """Where an analysis stands, and every change until it is final, as it happens. Raises
        ConnectionFailed when the connection breaks."""
        lines = self._transport.lines(
            f"{_analysis(analysis_id)}/events", accept=EVENT_STREAM, silence=SILENCE_SECONDS
        )
        return read_events(lines)

    def cancel(self, analysis_id: str) -> Analysis:
        """Stop an analysis that is queued or running; one that is final stays as it is.

        The server has one call to cancel and to delete: an analysis that ends in the very moment
        of this one is deleted."""
        analysis = self.get(analysis_id)
        if analysis.final:
            return analysis
        answer = self._transport.call("DELETE", _analysis(analysis_id))
        return read_analysis(answer, Analysis) if answer.content else analysis

    def delete(self, analysis_id: str) -> None:
        """Remove an analysis, and stop it first where it is queued or running."""
        cancelled = self._transport.call("DELETE", _analysis(analysis_id)).status_code == 202
        if cancelled:
            self._transport.call("DELETE", _analysis(analysis_id))

    def layers(self, analysis_id: str) -> tuple[Layer, ...]:
        """Every statistic of every layer; empty until the analysis succeeded."""
        answer = self._transport.call("GET", f"{_analysis(analysis_id)}/layers")
        return read(answer, _Layers).layers

    def compare(self, before: str, after: str) -> Comparison:
        """What changed from one finished analysis to another: verdict, findings, and layer by layer
        every statistic with its spread. Raises AnalysisUnfinished."""
        path = f"{_analysis(before)}/compare/{quote(after, safe='')}"
        return read(self._transport.call("GET", path), Comparison)

    def layer_history(
        self, layer: str, statistic: str, *, labels: Mapping[str, str] | None = None
    ) -> Iterator[HistoryPoint]:
        """One statistic of one layer ("gradient.gain") over past analyses that carry these labels,
        newest first, page after page as they are asked for."""
        params: dict[str, Any] = {"layer": layer, "statistic": statistic}
        params |= {"label": [f"{key}:{value}" for key, value in (labels or {}).items()]}
        while True:
            answer = self._transport.call("GET", "/v1/layers/history", params=params)
            page = read(answer, History)
            yield from page.items
            if page.next_cursor is None:
                return
            params |= {"cursor": page.next_cursor}

    def sarif(self, analysis_id: str, path: str | None = None) -> str:
        """The findings as SARIF 2.1.0. `path`: where the model's file is in the repository. Raises
        AnalysisUnfinished."""
        return self._form(f"{_analysis(analysis_id)}/sarif", path)

    def junit(self, analysis_id: str, path: str | None = None) -> str:
        """Every detector as a test case of JUnit XML; as `sarif`."""
        return self._form(f"{_analysis(analysis_id)}/junit", path)

    def markdown(self, analysis_id: str, path: str | None = None) -> str:
        """A finished analysis for a comment or a page; as `sarif`. Given once where the request
        retains nothing, as `get`."""
        return self._form(_analysis(analysis_id), path, MARKDOWN)

    def report(self, analysis_id: str) -> str:
        """A finished analysis as one HTML page for people: charts, findings, code to copy. It needs
        no network. Raises AnalysisUnfinished."""
        return self._form(f"{_analysis(analysis_id)}/report", None)

    def prescription_spec(self, analysis_id: str) -> dict[str, Any]:
        """The repaired spec, expanded: it can be analyzed as it is, or with `weights` the repaired
        weights. Raises NoPrescription, AnalysisUnfinished, as do the next three."""
        answer = self._transport.call("GET", f"{_analysis(analysis_id)}/prescription/spec")
        return read(answer, dict[str, Any])

    def prescription_patch(self, analysis_id: str) -> Sequence[dict[str, Any]]:
        """RFC 6902 operations that repair the spec as it was submitted."""
        path = f"{_analysis(analysis_id)}/prescription/spec"
        answer = self._transport.call("GET", path, params={"format": "patch"})
        return read_list(answer)

    def prescription_code(self, analysis_id: str) -> str:
        """The repaired model as PyTorch source: `class RepairedModel(nn.Module)`."""
        return self._transport.call("GET", f"{_analysis(analysis_id)}/prescription/code").text

    def download_state_dict(self, analysis_id: str, path: str | os.PathLike[str]) -> Path:
        """The repaired weights as a safetensors file at `path`, streamed; nothing is there unless
        all of it came. Raises InvalidInput when it cannot be written."""
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        try:
            self._transport.call(
                "GET", f"{_analysis(analysis_id)}/prescription/state_dict", into=part
            )
            return part.replace(target)
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}") from error
        finally:
            with suppress(OSError):
                part.unlink()

    def list(
        self,
        *,
        status: str | None = None,
        verdict: str | None = None,
        labels: Mapping[str, str] | None = None,
        model_sha256: str | None = None,
    ) -> Iterator[AnalysisHead]:
        """Analyses without their results, newest first, page after page as they are asked for."""
        filters = {"status": status, "verdict": verdict, "model_sha256": model_sha256}
        params: dict[str, Any] = {name: value for name, value in filters.items() if value}
        params |= {"label": [f"{key}:{value}" for key, value in (labels or {}).items()]}
        params |= {"limit": 100}
        while True:
            answer = self._transport.call("GET", "/v1/analyses", params=params)
            items, cursor = read_page(answer, AnalysisHead)
            yield from items
            if cursor is None:
                return
            params |= {"cursor": cursor}

    def put_artifact(self, path: str | os.PathLike[str]) -> Artifact:
        """Store a file once; the same content has the same id. It is streamed, and sent again
        when the connection breaks. Raises InvalidInput when it cannot be read."""
        try:
            return read(self._transport.call("PUT", "/v1/artifacts", file=Path(path)), Artifact)
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}") from error

    def catalog(self) -> Catalog:
        """Everything the server can find, advise and build."""
        return read(self._transport.call("GET", "/v1/catalog"), Catalog)

    def _watch(self, analysis_id: str, deadline: float, progress: Watch) -> None:
        """Tell what happens, until it is final, the time is nearly over, or no events come."""
        if time.monotonic() + SILENCE_SECONDS > deadline:
            return  # asking keeps the time better than waiting for an event
        with suppress(ApiError, ConnectionFailed):
            for one in self.events(analysis_id):
                if one.final:
                    return
                progress(one)
                if time.monotonic() + SILENCE_SECONDS > deadline:
                    return

    def _form(self, where: str, path: str | None, accept: str | None = None) -> str:
        params = {"path": path} if path else None
        answer = self._transport.call("GET", where, params=params, accept=accept)
        if answer.status_code == 202:
            told = Problem(409, "analysis_unfinished", "Analysis not finished", "it goes on")
            raise AnalysisUnfinished(told)
        return answer.text

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _post(
        self,
        submission: Submission,
        given: dict[str, Any],
        data: str | os.PathLike[str] | None,
        weights: str | os.PathLike[str] | None,
    ) -> Analysis:
        body = _merged(submission.request, given)
        if weights is not None and submission.file is not None:
            raise InvalidInput("weights go with a spec; a model file brings its own")
        if submission.file is not None:
            body["model"] = {"kind": "artifact", "id": self.put_artifact(submission.file).id}
        for part, name, path in (("model", "weights", weights), ("probe", "data", data)):
            if path is not None:
                before = _object(body.get(part, {}), name)
                body[part] = {**before, name: self.put_artifact(path).id}
        answer = self._transport.call("POST", "/v1/analyses", body=body)
        return read_analysis(answer, Analysis)


def _analysis(analysis_id: str) -> str:
    return f"/v1/analyses/{quote(analysis_id, safe='')}"


def _refuse_failed(analysis: Analysis) -> None:
    """Raises AnalysisFailed, AnalysisCancelled."""
    if analysis.status == "cancelled":
        raise AnalysisCancelled(analysis)
    if analysis.status != "succeeded":
        raise AnalysisFailed(analysis)


def _object(part: Any, name: str) -> Json:
    """A part of the request that is to take one field more. Raises InvalidInput when it is no
    object."""
    if not isinstance(part, Mapping):
        raise InvalidInput(f"{name}: there is no object in the request to put it into")
    return part


def _merged(request: Json, given: Json) -> dict[str, Any]:
    """`given` over `request`; objects are merged by name, ignore rules are added."""
    merged = {**request, **given}
    for name in request.keys() & given.keys():
        match request[name], given[name]:
            case Mapping() as before, Mapping() as after:
                merged[name] = {**before, **after}
            case list() as before, after if name == "ignore":
                merged[name] = [*before, *after]
    return merged


@dataclass(frozen=True, slots=True)
class _Layers:
    """Answer of `GET /v1/analyses/{id}/layers`."""

    layers: tuple[Layer, ...] = ()
