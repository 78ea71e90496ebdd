"""Send a model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graddx.calling import as_json, call
from graddx.errors import GraddxError, InvalidInput
from graddx.export import export, is_module
from graddx.model_source import Submission, read_model
from graddx.operations.analyses import DEFAULT_WAIT, Watch, cancel, wait
from graddx.operations.paths import ANALYSES, ARTIFACTS
from graddx.reading import read, read_analysis
from graddx.results import Analysis, Artifact, Succeeded
from graddx.server import Server
from graddx.steps import Send, Sent, Steps

if TYPE_CHECKING:
    from graddx.export import Module

Json = Mapping[str, Any]
File = str | os.PathLike[str]


def analyze(
    server: Server,
    model: Json | File | Module,
    *,
    probe: Json | None = None,
    data: File | None = None,
    weights: File | None = None,
    labels: Mapping[str, str] | None = None,
    allowed_changes: Sequence[str] | None = None,
    ignore: Sequence[Json] | None = None,
    fail_on: str | None = None,
    retain: str | None = None,
    baseline: Json | None = None,
    fresh: bool | None = None,
    wait: float = DEFAULT_WAIT,
    progress: Watch | None = None,
    sent: Sent | None = None,
) -> Steps[Succeeded]:
    """Submit a model and wait for its diagnosis, at most `wait` seconds.

    `model` is a spec, the path of a JSON file with one, the path of a TorchScript file, which
    is streamed, or a torch.nn.Module, which is exported. `data` is the path of a real batch
    (safetensors or npz with x or x0, x1, …, and perhaps y), `weights` that of a safetensors
    file with the parameters of a spec. The rest, down to `fresh`, is as in the request of
    `POST /v1/analyses`; what is None is left to the server. `sent` is called while a file is
    sent, with the bytes sent so far and the bytes in all, and `progress` at every change
    afterwards. An analysis that does not pass is returned like any other: look at `passed`.

    Interrupted (Ctrl-C, a task that is cancelled) it cancels the analysis: nobody knows its id.

    Raises besides: InvalidInput, ExportFailed; AnalysisFailed, AnalysisCancelled; NotFinished,
    after which `wait` can be called again."""
    submitted = yield from submit(
        server,
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
        sent=sent,
    )
    return (yield from _waited(server, submitted.id, wait, progress))


def submit(
    server: Server,
    model: Json | File | Module,
    *,
    probe: Json | None = None,
    data: File | None = None,
    weights: File | None = None,
    labels: Mapping[str, str] | None = None,
    allowed_changes: Sequence[str] | None = None,
    ignore: Sequence[Json] | None = None,
    fail_on: str | None = None,
    retain: str | None = None,
    baseline: Json | None = None,
    fresh: bool | None = None,
    sent: Sent | None = None,
) -> Steps[Analysis]:
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
    files = {"weights": weights, "data": data}
    if not is_module(model):
        return (yield from _post(server, read_model(model), given, files, sent))
    with tempfile.TemporaryDirectory(prefix="graddx-") as folder:
        exported = Submission({}, file=export(model, probe or {}, Path(folder)))
        return (yield from _post(server, exported, given, files, sent))


def put_artifact(server: Server, path: File, *, sent: Sent | None = None) -> Steps[Artifact]:
    """Store a file once; the same content has the same id. It is streamed, and sent again
    when the connection breaks; `sent` is called with the bytes sent so far and the bytes in all.
    Raises InvalidInput when it cannot be read."""
    try:
        return read(
            (yield from call(server, Send("PUT", ARTIFACTS, file=Path(path), sent=sent))), Artifact
        )
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error


def _waited(
    server: Server, analysis_id: str, seconds: float, progress: Watch | None
) -> Steps[Succeeded]:
    try:
        return (yield from wait(server, analysis_id, seconds, progress=progress))
    except (Exception, GeneratorExit):
        raise
    except BaseException:
        # Nobody will ask for it: the server is to spend no more time on it.
        with suppress(GraddxError):
            yield from cancel(server, analysis_id, patience=0)
        raise


def _post(
    server: Server,
    submission: Submission,
    given: dict[str, Any],
    files: Mapping[str, File | None],
    sent: Sent | None,
) -> Steps[Analysis]:
    body = _merged(submission.request, given)
    if submission.file is not None:
        if files["weights"] is not None:
            raise InvalidInput("weights go with a spec; a model file brings its own")
        model = yield from put_artifact(server, submission.file, sent=sent)
        body["model"] = {"kind": "artifact", "id": model.id}
    for part, name in (("model", "weights"), ("probe", "data")):
        path = files[name]
        if path is not None:
            before = _object(body.get(part, {}), name)
            stored = yield from put_artifact(server, path, sent=sent)
            body[part] = {**before, name: stored.id}
    answer = yield from call(server, Send("POST", ANALYSES, content=as_json(body)))
    return read_analysis(answer, Analysis)


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
