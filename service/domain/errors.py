"""Every error graddx raises on purpose, each with a stable code.

GraddxError
├── InvalidRequest            the caller's input, with JSON pointers
│   ├── UnknownLayerType
│   ├── ShapeMismatch
│   ├── NotYetSupported
│   ├── UnsupportedArtifact
│   └── ArtifactRejected
├── AnalysisNotFound
├── ArtifactNotFound
├── AnalysisUnfinished        what was asked for is there once the analysis has ended
├── NoPrescription            there is nothing to take away: the model is healthy, or …
├── SpecOnly                  what was asked for exists of specs alone
├── WeightsNotKept
├── IdempotencyConflict
├── IdempotencyInFlight
├── Unauthorized
├── PayloadTooLarge
├── QueueFull
├── StorageFull
├── SandboxUnavailable
├── ChangeRefused             a change that cannot be made to this model; the session goes on
└── ProbeFailure              what a failed analysis carries
    ├── ModelRaised
    ├── NotDifferentiable
    ├── Untraceable
    ├── ProbeTimeout
    ├── ProbeOutOfMemory
    ├── DeviceUnavailable
    ├── ProbeCrashed
    ├── ReplyTooLarge
    ├── WorkerLost
    └── InternalError
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request."""

    pointer: str
    """RFC 6901 pointer into the request body; "" is the whole body."""
    detail: str
    """What is wrong and what was expected, one sentence."""


class GraddxError(Exception):
    """Something went wrong that graddx can name."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidRequest(GraddxError):
    """The request cannot be understood."""

    code = "invalid_request"
    title = "Invalid request"

    def __init__(self, detail: str, *, pointer: str = "", faults: Iterable[Fault] = ()) -> None:
        super().__init__(detail)
        self.faults: tuple[Fault, ...] = tuple(faults) or (Fault(pointer, detail),)

    def within(self, prefix: str) -> InvalidRequest:
        """The same error seen from further out: every pointer behind `prefix`."""
        moved = (Fault(prefix + fault.pointer, fault.detail) for fault in self.faults)
        return type(self)(self.detail, faults=moved)


class UnknownLayerType(InvalidRequest):
    """A layer's type is not in the catalogue."""

    code = "unknown_layer_type"
    title = "Unknown layer type"


class ShapeMismatch(InvalidRequest):
    """Two layers do not fit together."""

    code = "shape_mismatch"
    title = "Shapes do not fit"


class NotYetSupported(InvalidRequest):
    """A field of the contract whose part is not built yet."""

    title = "Not yet supported"


class UnsupportedArtifact(InvalidRequest):
    """The file is neither TorchScript nor another format this server reads."""

    code = "unsupported_artifact"
    title = "Unsupported artifact"


class ArtifactRejected(InvalidRequest):
    """The file was refused before it was loaded."""

    code = "artifact_rejected"
    title = "Artifact rejected"


class AnalysisNotFound(GraddxError):
    """No analysis has this id."""

    code = "analysis_not_found"
    title = "Analysis not found"


class ArtifactNotFound(GraddxError):
    """No artifact has this id."""

    code = "artifact_not_found"
    title = "Artifact not found"


class AnalysisUnfinished(GraddxError):
    """What was asked for is there once the analysis has ended."""

    code = "analysis_unfinished"
    title = "Analysis not finished"


class NoPrescription(GraddxError):
    """Nothing was prescribed; the detail says why."""

    code = "no_prescription"
    title = "No prescription"


class SpecOnly(GraddxError):
    """What was asked for exists only of models that were sent as a spec."""

    code = "spec_only"
    title = "Only for specs"


class WeightsNotKept(GraddxError):
    """The repaired weights were not kept; the detail says why."""

    code = "weights_not_kept"
    title = "Weights not kept"


class IdempotencyConflict(GraddxError):
    """This Idempotency-Key was used with another request body."""

    code = "idempotency_conflict"
    title = "Idempotency conflict"


class IdempotencyInFlight(GraddxError):
    """The first request with this Idempotency-Key is just being stored."""

    code = "idempotency_in_flight"
    title = "Idempotency key in flight"


class Unauthorized(GraddxError):
    """The call needs an API key, and came without one that is good."""

    code = "unauthorized"
    title = "Unauthorized"


class PayloadTooLarge(GraddxError):
    """The body is larger than the server accepts."""

    code = "payload_too_large"
    title = "Payload too large"


class QueueFull(GraddxError):
    """Too many analyses are waiting."""

    code = "queue_full"
    title = "Queue full"


class StorageFull(GraddxError):
    """The server cannot store more."""

    code = "storage_full"
    title = "Storage full"


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a write that found no room: StorageFull."""


class SandboxUnavailable(GraddxError):
    """This host cannot seal a child, so uploaded models are refused."""

    code = "sandbox_unavailable"
    title = "Sandbox unavailable"


class ChangeRefused(GraddxError):
    """A change cannot be made to this model."""

    code = "change_refused"
    title = "Change refused"


class ProbeFailure(GraddxError):
    """The analysis failed; code, title and detail are stored with it."""

    code = "internal_error"
    title = "Analysis failed"


class ModelRaised(ProbeFailure):
    """The model's own code raised an error."""

    code = "model_raised"
    title = "The model raised an error"


class NotDifferentiable(ProbeFailure):
    """The loss does not depend on any parameter or input through gradients."""

    code = "not_differentiable"
    title = "The model's output carries no gradient"


class Untraceable(ProbeFailure):
    """The model could not be recorded as a graph of operations."""

    code = "untraceable"
    title = "The model could not be recorded"


class ProbeTimeout(ProbeFailure):
    """The probe took longer than its wall-clock or CPU limit."""

    code = "probe_timeout"
    title = "The probe ran out of time"


class ProbeOutOfMemory(ProbeFailure):
    """The probe needed more memory than its limit."""

    code = "probe_out_of_memory"
    title = "The probe ran out of memory"


class DeviceUnavailable(ProbeFailure):
    """The device that the request names is not there."""

    code = "device_unavailable"
    title = "Device unavailable"


class ProbeCrashed(ProbeFailure):
    """The probe's process died."""

    code = "probe_crashed"
    title = "The probe crashed"


class ReplyTooLarge(ProbeFailure):
    """The probe's answer was larger than its limit."""

    code = "reply_too_large"
    title = "The probe's reply is too large"


class WorkerLost(ProbeFailure):
    """Every worker that took this analysis was lost."""

    code = "worker_lost"
    title = "The worker was lost"


class InternalError(ProbeFailure):
    """A fault of graddx itself."""

    code = "internal_error"
    title = "Internal error"


PROBE_FAILURES: dict[str, type[ProbeFailure]] = {
    failure.code: failure
    for failure in (
        ModelRaised,
        NotDifferentiable,
        Untraceable,
        ProbeTimeout,
        ProbeOutOfMemory,
        DeviceUnavailable,
        ProbeCrashed,
        ReplyTooLarge,
        WorkerLost,
        InternalError,
    )
}
"""Failure codes as they cross the process wall, back to their classes."""
