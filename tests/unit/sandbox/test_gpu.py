"""What a child on a GPU may reach besides, and who gets one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from service.domain.architecture import Architecture, Sample
from service.domain.errors import DeviceUnavailable
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.sandbox import gpu
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seccomp import FOR_GPU, FREE

SPEC = SpecSource(Architecture((Sample((1,), "float32"),), ()))
FILE = ArtifactSource("", "torchscript")
Device = Callable[[ModelSource, str], str]


def device_of(**given: bool) -> Device:
    prober = ZygoteProber(Limits(), "", "", lambda _: Path(), **given)  # type: ignore[arg-type]
    return lambda source, name: prober._device(source, ProbePlan(device=name))


def test_specs_go_to_the_gpu_and_files_to_the_processor() -> None:
    device = device_of(gpu=True)
    assert [device(SPEC, name) for name in ("auto", "cuda:1", "cpu")] == ["cuda", "cuda:1", "cpu"]
    assert device(FILE, "auto") == "cpu"
    with pytest.raises(DeviceUnavailable, match=r"probe\.device is 'cuda' .* no uploaded model"):
        device(FILE, "cuda")
    assert device_of(gpu=True, run_uploads_on_gpu=True)(FILE, "auto") == "cuda"


def test_a_worker_without_a_gpu_says_so() -> None:
    device = device_of()
    assert device(SPEC, "auto") == "cpu"
    with pytest.raises(DeviceUnavailable, match=r"'cuda:0' and this worker has no GPU"):
        device(SPEC, "cuda:0")


def test_a_zygote_hears_of_its_devices_and_of_nothing_else() -> None:
    own = {"CUDA_VISIBLE_DEVICES": "2", "GRADDX_DATABASE_URL": "secret"}
    assert gpu.environment(own) == {"CUDA_VISIBLE_DEVICES": "2", "CUDA_CACHE_DISABLE": "1"}


@pytest.mark.parametrize("machine", FOR_GPU)
def test_a_gpu_opens_files_but_no_socket_and_no_process(machine: str) -> None:
    named = FOR_GPU[machine]
    assert {"ioctl", "openat"} <= set(named)
    assert not set(named) & {"socket", "connect", "execve", "fork", "vfork", "kill", "ptrace"}
    assert not set(named) & set(FREE)
    assert len(set(named.values())) == len(named)
