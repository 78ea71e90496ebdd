"""Devices, as far as a processor alone can show."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from service.domain.architecture import resolve
from service.domain.errors import DeviceUnavailable, ProbeOutOfMemory
from service.domain.probe_plan import ProbePlan
from service.probing import child, devices
from service.probing.budget import MicroBatch, fit
from service.probing.session import Session

SPEC = {"input": {"shape": [4]}, "layers": [{"type": "Linear", "args": {"out_features": 2}}]}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this host has what the test lacks")
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match=rf"probe.device is '{name}' and .* sees 0 CUDA"):
        devices.opened(name, 0.5)


def test_a_device_is_bounded_and_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *given: told.append(given)
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 1000 * devices.MIB))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    found = devices.opened("cuda:1", 0.5)
    assert told == [(0.5, torch.device("cuda:1"))]
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic
    assert devices.memory_mb(found, 64, 0.5) == 500
    assert devices.memory_mb(devices.CPU, 64, 0.5) == 64


def test_no_memory_says_what_would_fit() -> None:
    micro = MicroBatch(0.0, 0.001, sample_bytes=devices.MIB, parameter_bytes=0)
    with pytest.raises(ProbeOutOfMemory, match="batch_size 20 would fit"):
        fit(ProbePlan(batch_size=100), micro, 60)
    assert fit(ProbePlan(batch_size=20), micro, 60).largest == 20
    heavy = replace(micro, parameter_bytes=60 * devices.MIB)
    with pytest.raises(ProbeOutOfMemory, match="a smaller model"):
        fit(ProbePlan(batch_size=1), heavy, 60)


def test_out_of_memory_on_the_way_says_what_would_fit() -> None:
    session = Session.open(ProbePlan(batch_size=8, trial_steps=0), resolve(SPEC), None)
    failure = child._as_failure(torch.OutOfMemoryError("CUDA out of memory. Tried …"), session)
    assert isinstance(failure, ProbeOutOfMemory)
    assert failure.detail.endswith("batch_size was 8, 4 is estimated to fit")
    session.fits = 3
    failure = child._as_failure(RuntimeError("CUDA out of memory"), session)
    assert failure.detail.endswith("3 is estimated to fit")
