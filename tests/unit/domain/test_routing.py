"""What kind of worker an analysis is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.domain.analysis import Queue
from service.domain.probe_plan import ProbePlan
from service.domain.request import AnalysisRequest, ModelRequest
from service.domain.routing import GPU_PARAMETERS, queue_for


@pytest.mark.parametrize(
    ("device", "parameters", "gpu_is_up", "queue"),
    [
        ("auto", 1000, True, Queue.CPU),
        ("auto", GPU_PARAMETERS, True, Queue.GPU),
        ("auto", GPU_PARAMETERS, False, Queue.CPU),
        ("auto", None, True, Queue.CPU),  # an upload
        ("cpu", GPU_PARAMETERS, True, Queue.CPU),
        ("cuda", 1000, False, Queue.GPU),
        ("cuda:1", None, False, Queue.GPU),
    ],
)
def test_device_and_size_decide(
    device: str, parameters: int | None, gpu_is_up: bool, queue: Queue
) -> None:
    request = AnalysisRequest(ModelRequest("spec", spec={}))
    asked = replace(request, probe=replace(request.probe or ProbePlan(), device=device))
    assert queue_for(asked, parameters, lambda: gpu_is_up) is queue
