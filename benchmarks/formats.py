"""Does it matter in what form a network is sent?  Labelled cases as spec, Keras model, TorchScript
and .pt2.

    python -m benchmarks.formats [--cases tests/cases/dev_cases.jsonl] [--trial-steps N]
        [--every N] [--jobs N] [--out docs/formats.md]

A file carries one initialization. So that all forms show the same weights, a spec is measured at
one seed only (`probe.seeds` 1), the files are written of the network that this seed draws, and the
translation of the Keras model is given its weights. What then differs is a fault of a form.
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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from benchmarks.keras_writer import Inexpressible, as_keras
from benchmarks.score import BUDGET_SECONDS, CASES, InProcessSession, unwatched
from service.domain.architecture import Architecture, resolve
from service.domain.keras import translate
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.probing.loaders.spec import build
from service.probing.pace import Pace
from service.probing.session import Session

FORMS = ("spec", "keras", "torchscript", "exported_program")
LEFT_OUT = "not expressible"
"""Instead of a verdict."""
BATCH = 64
"""Samples that a file is exported with, its batch size left free."""
STORED = "sha256:" + "0" * 64
ROUNDING = 1e-3
"""Relative difference of gradients that is more than another order of sums."""
_TWO_BIASES = "torch draws two biases for every gate, whose sum no initializer of Keras draws."
_WHY = dict.fromkeys(("RNN", "LSTM", "GRU"), _TWO_BIASES)


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of one case in one form."""

    case: str
    what: str
    label: str
    form: str
    verdict: str
    """A verdict, LEFT_OUT or "failed"."""
    findings: tuple[str, ...]
    """Severity and code of errors and warnings, in alphabetical order."""
    detail: str = ""
    """Of a failure, or of what cannot be expressed."""
    total_gain: float | None = None
    """Of the gradient from the last layer to the first."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A prober of one model, in this process."""

    file: bytes
    """The model; of a Keras model its weights, safetensors; of a spec nothing."""
    form: str

    @contextmanager
    def open(
        self, source: ModelSource, plan: ProbePlan, tell: Callable[[float], None]
    ) -> Iterator[InProcessSession]:
        """Load and record the model."""
        if isinstance(source, SpecSource):
            given = self.file or None
            session = Session.open(plan, source.architecture, None, weights=given, pace=Pace(tell))
        else:
            session = Session.open(
                plan, None, io.BytesIO(self.file), model_format=self.form, pace=Pace(tell)
            )
        yield InProcessSession(session)


def judged(case: dict[str, Any], form: str, trial_steps: int) -> Told:
    """One case in one form; no changes are tried, only the diagnosis counts here."""
    torch.set_num_threads(1)
    try:
        found = _report(case["spec"], form, trial_steps)
    except Inexpressible as error:
        return _told(case, form, LEFT_OUT, detail=str(error))
    except Exception as error:
        return _told(case, form, "failed", detail=f"{type(error).__name__}: {error}")
    diagnosis = found.diagnosis
    told = (one for one in diagnosis.findings if one.severity in ("error", "warning"))
    findings = tuple(sorted(f"{one.severity} {one.code}" for one in told))
    return _told(case, form, str(diagnosis.verdict), findings, gain=found.model.total_gain)


def _told(
    case: dict[str, Any],
    form: str,
    verdict: str,
    findings: tuple[str, ...] = (),
    *,
    detail: str = "",
    gain: float | None = None,
) -> Told:
    return Told(case["id"], case["what"], case["label"], form, verdict, findings, detail, gain)


def _report(spec: dict[str, Any], form: str, trial_steps: int) -> Report:
    architecture = resolve(spec)
    plan = ProbePlan(seeds=1, trial_steps=trial_steps, budget_seconds=BUDGET_SECONDS)
    if form in ("spec", "keras"):
        written_as = spec if form == "spec" else translate(as_keras(architecture)).spec
        model = ModelRequest(form, spec=written_as)
        source: ModelSource = SpecSource(resolve(written_as))
        file = b"" if form == "spec" else weights(architecture, resolve(written_as))
    else:
        model = ModelRequest("artifact", artifact_id=STORED)
        source, file = ArtifactSource(STORED, form), written(architecture, form)
    if form == "torchscript":
        inputs = tuple(InputPlan(i.shape, i.dtype, high=i.high) for i in architecture.inputs)
        plan = replace(plan, inputs=inputs)
    request = AnalysisRequest(model, plan, allowed_changes=())
    return analyse(request, source, _Sent(file, form), unwatched)


def drawn(architecture: Architecture) -> nn.Module:
    """The network as the spec's first seed draws it."""
    torch.manual_seed(0)
    return build(architecture).train()


def weights(architecture: Architecture, translated: Architecture) -> bytes:
    """The same weights by the names of the translation, whose layers stand in the same order. Its
    own draws would be others where torch's default stands: it is drawn first and replaced."""
    names = build(translated).state_dict()
    values = drawn(architecture).state_dict().values()
    return save(dict(zip(names, values, strict=True)))


def written(architecture: Architecture, form: str) -> bytes:
    """The same network as a file."""
    module = drawn(architecture)
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


_ABOUT = """
as an architecture spec, as a Keras model, as traced TorchScript and as an exported program
(`.pt2`), judged by the whole pipeline. A file carries one initialization, where a spec is measured
over three: so the spec is measured at one seed here (`probe.seeds` 1), the files are written of
the network that this seed draws, and the translation of the Keras model is given the same weights.
All forms then see the same random batches too, and what differs would be the fault of a form. With
`seeds` 3, as is the default of a spec, a verdict near an edge may differ from a file's by the luck
of the draw.
""".strip().splitlines()


def page(told: Sequence[Told], trial_steps: int, every: int) -> str:
    """docs/formats.md."""
    cases = len({one.case for one in told})
    return "\n".join(
        [
            "# The same network in other forms",
            "",
            f"{cases} labelled networks ({_every(every)} of `tests/cases/dev_cases.jsonl`), sent",
            *_ABOUT,
            "",
            f"Written by `python -m benchmarks.formats --every {every} --trial-steps {trial_steps} "
            f"--out docs/formats.md` with torch {torch.__version__} on {platform.machine()}.",
            "",
            *_totals(told),
            "",
            "Findings are compared with their severity; the last column is the largest relative",
            "difference, over the networks, of the gradient that reaches the first layer.",
            "",
            "## Where they differ",
            "",
            *_differences(told),
            "",
            "## Where gradients differ",
            "",
            *_other_gradients(told),
            "",
            "## What Keras cannot say",
            "",
            *_left_out(told),
            "",
        ]
    )


def _every(number: int) -> str:
    return "all" if number == 1 else f"one in {number}"


def _totals(told: Sequence[Told]) -> Iterable[str]:
    yield (
        "| form | judged | failed | sick caught | false alarms | "
        "as the spec: verdict | findings | gradient |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    specs = {one.case: one for one in told if one.form == "spec"}
    for form in FORMS:
        own = [one for one in told if one.form == form and one.verdict != LEFT_OUT]
        sick = [one for one in own if one.label == "sick"]
        well = [one for one in own if one.label == "healthy"]
        counts = Counter(
            failed=sum(one.verdict == "failed" for one in own),
            caught=sum(one.verdict == "unhealthy" for one in sick),
            alarms=sum(one.verdict == "unhealthy" for one in well),
            verdict=sum(one.verdict == specs[one.case].verdict for one in own),
            findings=sum(one.findings == specs[one.case].findings for one in own),
        )
        apart = max((_apart(one, specs[one.case]) for one in own), default=0.0)
        yield (
            f"| {form} | {len(own)} | {counts['failed']} | {counts['caught']}/{len(sick)} | "
            f"{counts['alarms']}/{len(well)} | {counts['verdict']}/{len(own)} | "
            f"{counts['findings']}/{len(own)} | {apart:.1g} |"
        )


def _apart(one: Told, other: Told) -> float:
    """Relative difference of the total gains; 0 where a form has none."""
    a, b = one.total_gain, other.total_gain
    return 0.0 if a is None or b is None or a == b else abs(a - b) / max(abs(a), abs(b))


def _by_case(told: Sequence[Told]) -> Iterable[list[Told]]:
    found: dict[str, list[Told]] = {}
    for one in told:
        found.setdefault(one.case, []).append(one)
    return found.values()


def _differences(told: Sequence[Told]) -> Iterable[str]:
    judged_ones = [one for one in told if one.verdict != LEFT_OUT]
    differing = [
        group
        for group in _by_case(judged_ones)
        if len({(one.verdict, one.findings) for one in group}) > 1
    ]
    if not differing:
        yield "Nowhere."
    for group in differing:
        yield f"* {group[0].what} ({group[0].label})"
        for one in group:
            said = ", ".join(one.findings) or one.detail or "–"
            yield f"  * {one.form}: {one.verdict}; {said}"


def _other_gradients(told: Sequence[Told]) -> Iterable[str]:
    specs = {one.case: one for one in told if one.form == "spec"}
    others = [one for one in told if _apart(one, specs[one.case]) > ROUNDING]
    if not others:
        yield f"Nowhere by more than {ROUNDING:g}."
    for one in others:
        yield f"* {one.what}, {one.form}: by {_apart(one, specs[one.case]):.2g}"


def _left_out(told: Sequence[Told]) -> Iterable[str]:
    why = Counter(one.detail.split()[0] for one in told if one.verdict == LEFT_OUT)
    if not why:
        yield "Nothing of these."
    for name, count in sorted(why.items()):
        yield f"* {name}, in {count}: {_WHY.get(name, 'has no like there.')}"


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
    text = page(told, given.trial_steps, given.every)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
