"""Does it matter in what form a network is sent?  Labelled cases as spec, TorchScript and .pt2.

    python -m benchmarks.formats [--cases tests/cases/dev_cases.jsonl] [--trial-steps N]
        [--every N] [--jobs N] [--out docs/formats.md]

A spec is measured over three fresh initializations; a file carries one, the first of those, and is
measured over batches alone. What then differs is the luck of the draw, or a fault of a loader.
Files are made from the spec's own network in this process, so they are judged without the sandbox.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.score import BUDGET_SECONDS, CASES, EXPECTED, InProcessSession, unwatched
from service.domain.architecture import Architecture, resolve
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.probing.loaders.spec import build
from service.probing.pace import Pace
from service.probing.session import Session

FORMS = ("spec", "torchscript", "exported_program")
BATCH = 64
"""Samples that a file is exported with, its batch size left free."""
STORED = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of one case in one form."""

    case: str
    what: str
    label: str
    form: str
    verdict: str
    """A verdict, or "failed"."""
    findings: tuple[str, ...]
    """Codes of errors and warnings, in alphabetical order."""
    detail: str = ""
    """Of a failure."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A prober of one model, in this process."""

    file: bytes
    form: str

    @contextmanager
    def open(
        self, source: ModelSource, plan: ProbePlan, tell: Callable[[float], None]
    ) -> Iterator[InProcessSession]:
        """Load and record the model."""
        if isinstance(source, SpecSource):
            session = Session.open(plan, source.architecture, None)
        else:
            session = Session.open(plan, None, io.BytesIO(self.file), model_format=self.form)
        session.pace = Pace(tell)
        yield InProcessSession(session)


def judged(case: dict[str, Any], form: str, trial_steps: int) -> Told:
    """One case in one form; no changes are tried, only the diagnosis counts here."""
    torch.set_num_threads(1)
    architecture = resolve(case["spec"])
    plan = ProbePlan(trial_steps=trial_steps, budget_seconds=BUDGET_SECONDS)
    source: ModelSource = SpecSource(architecture)
    model, file = ModelRequest("spec", spec=case["spec"]), b""
    try:
        if form != "spec":
            model = ModelRequest("artifact", artifact_id=STORED)
            source, file = ArtifactSource(STORED, form), written(architecture, form)
        if form == "torchscript":
            inputs = tuple(InputPlan(i.shape, i.dtype, high=i.high) for i in architecture.inputs)
            plan = ProbePlan(inputs, trial_steps=trial_steps, budget_seconds=BUDGET_SECONDS)
        request = AnalysisRequest(model, plan, allowed_changes=())
        found = analyse(request, source, _Sent(file, form), unwatched).diagnosis
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        return Told(case["id"], case["what"], case["label"], form, "failed", (), why)
    codes = {one.code for one in found.findings if one.severity in ("error", "warning")}
    return Told(
        case["id"], case["what"], case["label"], form, str(found.verdict), tuple(sorted(codes))
    )


def written(architecture: Architecture, form: str) -> bytes:
    """The network as the spec's first seed draws it, as a file."""
    torch.manual_seed(0)
    module = build(architecture).train()
    example = tuple(
        torch.randint(0, one.high or 1, (BATCH, *one.shape))
        if one.dtype.startswith("int")
        else torch.randn(BATCH, *one.shape)
        for one in architecture.inputs
    )
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated for writing
        if form == "torchscript":
            torch.jit.save(torch.jit.trace(module, example, check_trace=False), file)
        else:
            free = (tuple({0: torch.export.Dim.AUTO} for _ in example),)
            torch.export.save(torch.export.export(module, example, dynamic_shapes=free), file)
    return file.getvalue()


def page(told: Sequence[Told], trial_steps: int) -> str:
    """docs/formats.md."""
    return "\n".join(
        [
            "# The same network in other forms",
            "",
            "Labelled cases (`tests/cases/dev_cases.jsonl`) sent as an architecture spec, as",
            "traced TorchScript and as an exported program (`.pt2`). A spec is measured over",
            "three fresh initializations, a file over its own: near an edge a verdict may",
            "differ by the luck of the draw; the two kinds of file carry the same weights.",
            "",
            f"Written by `python -m benchmarks.formats` with torch {torch.__version__} on "
            f"{platform.machine()}, `trial_steps` {trial_steps}, "
            f"{len({one.case for one in told})} cases.",
            "",
            *_totals(told),
            "",
            "## Where they differ",
            "",
            *_differences(told),
            "",
        ]
    )


def _totals(told: Sequence[Told]) -> Iterable[str]:
    yield (
        "| form | failed | right verdicts | sick caught | false alarms | "
        "as the spec: verdict | findings |"
    )
    yield "|---|---|---|---|---|---|---|"
    specs = {one.case: one for one in told if one.form == "spec"}
    for form in FORMS:
        own = [one for one in told if one.form == form]
        sick = [one for one in own if one.label == "sick"]
        well = [one for one in own if one.label == "healthy"]
        counts = Counter(
            failed=sum(one.verdict == "failed" for one in own),
            right=sum(one.verdict == EXPECTED[one.label] for one in own),
            caught=sum(one.verdict == "unhealthy" for one in sick),
            alarms=sum(one.verdict == "unhealthy" for one in well),
            verdict=sum(one.verdict == specs[one.case].verdict for one in own),
            findings=sum(one.findings == specs[one.case].findings for one in own),
        )
        yield (
            f"| {form} | {counts['failed']} | {counts['right']}/{len(own)} | "
            f"{counts['caught']}/{len(sick)} | {counts['alarms']}/{len(well)} | "
            f"{counts['verdict']}/{len(own)} | {counts['findings']}/{len(own)} |"
        )


def _differences(told: Sequence[Told]) -> Iterable[str]:
    by_case: dict[str, list[Told]] = {}
    for one in told:
        by_case.setdefault(one.case, []).append(one)
    differing = [
        group for group in by_case.values() if len({(o.verdict, o.findings) for o in group}) > 1
    ]
    if not differing:
        yield "Nowhere."
    for group in differing:
        yield f"* {group[0].what} ({group[0].label})"
        for one in group:
            said = ", ".join(one.findings) or one.detail or "–"
            yield f"  * {one.form}: {one.verdict}; {said}"


def _all_forms(case: dict[str, Any], trial_steps: int) -> list[Told]:
    return [judged(case, form, trial_steps) for form in FORMS]


def main() -> None:
    """Judge the cases in every form."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__)
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--trial-steps", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="of the cases, every n-th")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = given.cases.read_text(encoding="utf-8").splitlines()[:: given.every]
    cases = [json.loads(line) for line in lines if line]
    with ProcessPoolExecutor(given.jobs) as pool:
        found = pool.map(partial(_all_forms, trial_steps=given.trial_steps), cases)
        told = [one for group in found for one in group]
    text = page(told, given.trial_steps)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
