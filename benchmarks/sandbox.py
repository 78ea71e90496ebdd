"""What the wall costs: fork, seal and one reply, with torch warm in the zygote.

`python -m benchmarks.sandbox` prints medians; run it when the machine is quiet.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from service.domain.architecture import Architecture, Sample
from service.domain.measurements import ModelFacts
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import InputPlan, ProbePlan
from service.intake.check import check_model
from service.probe_protocol import HEADER, Opened, encode
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import why_unsealable

WARM_UP = "service.probing.child:warm_up"
PLAN = ProbePlan(inputs=(InputPlan((64,)),), batch_size=4, batches=1, seeds=1, trial_steps=0)


def serve(model_fd: int | None, channel: int, output: int) -> None:  # noqa: ARG001
    """A child that answers the first message at once."""
    (length,) = HEADER.unpack(os.read(channel, HEADER.size))
    os.read(channel, length)
    facts = ModelFacts("spec", parameters=1, layers=1, recorded=True, torch="none", device="cpu")
    os.write(channel, encode(Opened(facts)))
    os.read(channel, 1)


def milliseconds(act: Callable[[], object], times: int) -> str:
    """Median and 90th percentile of so many calls."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        act()
        taken.append(1000 * (time.perf_counter() - begun))
    median, most = statistics.median(taken), statistics.quantiles(taken, n=10)[-1]
    return f"median {median:.1f} ms, p90 {most:.1f} ms"


def job(prober: ZygoteProber, source: ModelSource, *, measure: bool) -> None:
    """One session, from the fork to the child's burial."""
    with prober.open(source, PLAN) as session:
        if measure:
            session.measure()


def scripted(folder: Path) -> Path:
    """A perceptron of four layers as TorchScript."""
    import torch
    from torch import nn

    path = folder / "model.pt"
    parts = [part for _ in range(4) for part in (nn.Linear(64, 64), nn.ReLU())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Sequential(*parts)), path)
    return path


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    times: int = parser.parse_args().times
    print(f"sealed: {why_unsealable() or 'yes'}")
    with tempfile.TemporaryDirectory() as folder:
        model = scripted(Path(folder))
        spec = SpecSource(Architecture((Sample((1,)),), ()))
        artifact = ArtifactSource("", "torchscript")
        check = milliseconds(lambda: check_model(model, "torchscript"), times)
        print(f"filter of a small file: {check}")
        for name, entry, source, measure in (
            ("fork, seal, reply", "benchmarks.sandbox:serve", spec, False),
            ("TorchScript: load, probe", "service.probing.child:serve", artifact, True),
        ):
            prober = ZygoteProber(Limits(), entry, WARM_UP, lambda _: model)
            try:
                prober.start()
                taken = milliseconds(partial(job, prober, source, measure=measure), times)
                print(f"{name}: {taken}")
            finally:
                prober.close()


if __name__ == "__main__":
    main()
