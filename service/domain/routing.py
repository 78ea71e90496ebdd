"""What kind of worker an analysis is for."""

from __future__ import annotations

from collections.abc import Callable

from service.domain.analysis import Queue
from service.domain.request import AnalysisRequest

GPU_PARAMETERS = 20_000_000
"""A spec with as many parameters goes to a GPU where `probe.device` leaves it open. Chosen, not
measured: below it a probe on two cores takes a few seconds, which is what moving it would save."""


def queue_for(
    request: AnalysisRequest, parameters: int | None, gpu_is_up: Callable[[], bool]
) -> Queue:
    """What the request names; else a GPU for large specs while there is one to take them.

    `parameters`: of a spec; None for an uploaded model. Uploads go to CPU workers unless a GPU is
    asked for: a child that may use one cannot be sealed as tightly.
    """
    device = request.probe.device
    if device.startswith("cuda"):
        return Queue.GPU
    large = parameters is not None and parameters >= GPU_PARAMETERS
    return Queue.GPU if device == "auto" and large and gpu_is_up() else Queue.CPU
