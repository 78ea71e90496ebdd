"""What is looked at before an analysis is taken: the model, its files, the device asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.domain.analysis import Queue
from service.domain.architecture import Architecture
from service.domain.errors import (
    ArtifactNotFound,
    ArtifactRejected,
    InvalidRequest,
    SandboxUnavailable,
    ShapeMismatch,
    UnsupportedArtifact,
)
from service.domain.exported_program import Program, UnreadableProgram
from service.domain.model_source import SpecSource, model_source
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.request import AnalysisRequest
from service.domain.tensor_file import Tensors, check_data, check_weights
from service.ports import Artifact, ArtifactStore, WorkerRegistry
from service.use_cases.identity import digest


@dataclass(frozen=True, slots=True)
class Admission:
    """Refuses what cannot be analysed here, naming the field. Loads no model."""

    artifacts: ArtifactStore
    """Of one owner."""
    workers: WorkerRegistry | None
    """Who is at work, where that is known."""
    why_uploads_are_refused: str | None
    """None when they are not."""
    uploads_may_use_gpus: bool
    """Run them in a seal that leaves a GPU within reach."""
    guess_inputs: Callable[[Path], tuple[InputPlan, ...]]
    """What a model file may take, when that can be seen without running it."""
    read_headers: Callable[[Path, str], Tensors]
    """What a safetensors or npz file (told by its format) holds; raises ArtifactRejected,
    FileNotFoundError."""
    check_model: Callable[[Path, str], None]
    """Looks at a model file of this format; raises ArtifactRejected, FileNotFoundError."""
    describe_unknown: Callable[[Path], str]
    """What a file of no known format seems to be."""
    read_program: Callable[[Path], Program]
    """What an exported program says of itself; raises UnreadableProgram, FileNotFoundError."""

    def check_device(self, request: AnalysisRequest) -> None:
        """Raises InvalidRequest for a device that nobody has."""
        device = request.probe.device
        if not device.startswith("cuda"):
            return
        if request.model.artifact_id is not None and not self.uploads_may_use_gpus:
            raise InvalidRequest(
                f"{device} is for specs: uploaded models run on the processor, since the seal of a "
                "child on a GPU was not tried against hostile models (GRADDX_RUN_UPLOADS_ON_GPU)",
                pointer="/probe/device",
            )
        if not self.gpu_is_up():
            raise InvalidRequest(
                f"{device} was asked for and no worker with a CUDA device is up; use auto or cpu",
                pointer="/probe/device",
            )

    def gpu_is_up(self) -> bool:
        """A worker with a CUDA device is at work."""
        return self.workers is not None and self.workers.up(Queue.GPU) > 0

    def checked_model(self, request: AnalysisRequest) -> tuple[str, str, int | None]:
        """Format, digest and, of a spec, parameters of the model. Raises what `submit` does."""
        if request.model.artifact_id is not None:
            return *self._checked_artifact(request, request.model.artifact_id), None
        with _within("/model"):
            source = model_source(request.model, "spec")
        if isinstance(source, SpecSource):
            _check_inputs_fit(request.probe.inputs, source.architecture)
            self._check_weights(source)
            self._check_data(request.probe, _input_of(source.architecture))
            return request.model.kind, digest(request.model), source.architecture.size
        return request.model.kind, digest(request.model), None

    def _checked_artifact(self, request: AnalysisRequest, artifact_id: str) -> tuple[str, str]:
        if self.why_uploads_are_refused is not None:
            raise SandboxUnavailable(
                f"uploaded models are refused on this host: {self.why_uploads_are_refused}"
            )
        artifact = self.artifacts.get(artifact_id)
        model_format = artifact.format
        _check_format(model_format)
        with _within("/model/id"):
            # Again: what is let pass may have changed since the file was stored.
            self.check_file(artifact)
        if model_format == "exported_program":
            self._check_program(request.probe, artifact_id)
            return model_format, artifact_id.removeprefix("sha256:")
        self._check_data(request.probe, request.probe.inputs)
        if not request.probe.inputs and request.probe.data is None:
            guess = self.guess_inputs(self.artifacts.path(artifact_id))
            raise InvalidRequest(_inputs_wanted(guess), pointer="/probe/inputs")
        return model_format, artifact_id.removeprefix("sha256:")

    def check_file(self, artifact: Artifact) -> None:
        """Raises UnsupportedArtifact, ArtifactRejected, ArtifactNotFound."""
        path = self.artifacts.path(artifact.id)
        try:
            if artifact.format == "unknown":
                raise UnsupportedArtifact(self.describe_unknown(path))
            self.check_model(path, artifact.format)
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {artifact.id}") from error

    def _check_program(self, probe: ProbePlan, artifact_id: str) -> None:
        """An exported program brings its inputs: what is said of them has to fit."""
        try:
            program = self.read_program(self.artifacts.path(artifact_id))
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
        found = self.artifacts.get(artifact_id).format
        if found not in formats:
            raise UnsupportedArtifact(f"this file is {found}; {' or '.join(formats)} is wanted")
        try:
            return self.read_headers(self.artifacts.path(artifact_id), found)
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {artifact_id}") from error


@contextmanager
def _within(pointer: str) -> Iterator[None]:
    try:
        yield
    except InvalidRequest as error:
        raise error.within(pointer) from error


def _input_of(architecture: Architecture) -> tuple[InputPlan, ...]:
    return tuple(InputPlan(one.shape, one.dtype) for one in architecture.inputs)


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
