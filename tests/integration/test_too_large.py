"""A model that cannot fit its child fails at once and says why: nothing of its size is allocated,
in a sealed child under a small limit."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bootstrap import WARM_UP_SYMBOLIC
from service.domain.architecture import resolve
from service.domain.errors import ProbeOutOfMemory
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import InputPlan, ProbePlan
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import why_unsealable

UNSEALABLE = why_unsealable()
pytestmark = pytest.mark.skipif(UNSEALABLE is not None, reason=f"cannot seal here: {UNSEALABLE}")
MEMORY_MB = 512
WIDE = [{"type": "Linear", "args": {"out_features": 11_000}}] * 8
MAPS = [{"type": "Conv2d", "args": {"out_channels": 64, "kernel_size": 3, "padding": 1}}] * 8
SPECS = {
    "a billion parameters": {"input": {"shape": [11_000]}, "layers": WIDE},
    "outputs of two gigabytes a sample": {"input": {"shape": [1, 1024, 1024]}, "layers": MAPS},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 MiB of parameters in 32 tensors."""
    import torch

    path = tmp_path_factory.mktemp("models") / "wide.pt"
    model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(32)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(model, torch.randn(2, 1024)), path)
    return path


@pytest.fixture(scope="module")
def prober(file: Path) -> Iterator[ZygoteProber]:
    children = "tests.integration.probing_children"
    prober = ZygoteProber(
        Limits(memory_mb=MEMORY_MB),
        f"{children}:serve_and_tell_what_it_took",
        f"{children}:warm_up",
        lambda _: file,
        warm_up_symbolic=WARM_UP_SYMBOLIC,
    )
    prober.prepare(SpecSource(resolve(next(iter(SPECS.values())))), ProbePlan())
    yield prober
    prober.close()


@pytest.mark.parametrize("name", [*SPECS, "a file"])
def test_what_cannot_fit_fails_at_once(name: str, prober: ZygoteProber) -> None:
    source: ModelSource = ArtifactSource("sha256:1", "torchscript")
    plan = ProbePlan(inputs=(InputPlan((1024,)),))
    if name in SPECS:
        source, plan = SpecSource(resolve(SPECS[name])), ProbePlan()
    began = time.perf_counter()
    with pytest.raises(ProbeOutOfMemory) as raised, prober.open(source, plan):
        pass
    assert time.perf_counter() - began < 2
    detail = raised.value.detail
    assert re.search(rf"needs about \d[\d,]* MiB and {MEMORY_MB} MiB are allowed; ", detail)
    grown = re.search(r"grown by (\d+) MiB", detail)
    assert grown is not None
    assert int(grown[1]) < 64, detail
