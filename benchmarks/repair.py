"""Do prescriptions make sick networks train?  Judged by the oracle, beside rules of thumb.

    python -m benchmarks.repair [--own N] [--healthy N] [--jobs N] [--out docs/repair.md]

The sick cases of the development set and N own ones, evenly spread over the families, are repaired
by our prescription with every change allowed, and each repaired network is trained as the labels
were (`tests/cases/oracle.py`). Some quick ones, evenly spread, are repaired in other ways, too: our
prescription with initializers alone, and with the activations fixed; He initialization everywhere;
He, ReLU and batch normalization everywhere; and a random search that draws as many networks as we
train of one size, and keeps the one whose short training learns most. Our own detectors have no say
in the result. Where our set has several changes, or there is none, every smaller set of what was
advised is trained by the oracle too: is there a shorter cure?
Healthy cases go through the pipeline as well: what is prescribed for one is trained.

Each case and way is a line of `.repair/records.jsonl` when it is done; the command goes on from
there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import torch

from benchmarks.accuracy import OWN_CASES, family_of, spread
from benchmarks.repair_page import (
    FIXED,
    HE,
    INITIALIZERS,
    OURS,
    RANDOM,
    RECIPE,
    WAYS,
    Record,
    page,
    table,
)
from benchmarks.rules_of_thumb import Spec, best_of, he, recipe
from benchmarks.score import BUDGET_SECONDS, CASES, InProcessProber, oracle, unwatched
from benchmarks.shortest import shorter_cure
from service.domain.architecture import resolve
from service.domain.expanded import expanded
from service.domain.model_source import model_source
from service.domain.probe_plan import ProbePlan
from service.domain.report import Report
from service.domain.request import ALL_KINDS, AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.probing.loaders.spec import build
from service.verification.search import MOST_TRIALS

Case = Mapping[str, Any]
PAGE, RECORDS = Path("docs/repair.md"), Path(".repair/records.jsonl")
PLAN = ProbePlan(budget_seconds=BUDGET_SECONDS, loss="cross_entropy")
LONGEST_SECONDS = 25.0
"""Processor time that labelling an own case took, beyond which it is passed over."""
ALLOWED: Mapping[str, tuple[str, ...]] = {
    OURS: ALL_KINDS,
    INITIALIZERS: ("initializer",),
    FIXED: tuple(kind for kind in ALL_KINDS if kind != "activation"),
}
RIVALS_SECONDS = 25.0
"""The same, beyond which a case is not repaired in other ways: each costs as much as a label."""
BATCH, PASSES = 64, 9
"""Samples, and how often the bare pass is timed, before the analysis and after."""


class Judged:
    """What the oracle says of specs trained on one kind of data; each is trained once."""

    def __init__(self, data: str, known: Mapping[str, str]) -> None:
        self.data = data
        self.labels = dict(known)
        """By the spec's digest."""

    def __call__(self, spec: Spec) -> str:
        """healthy, mixed or sick."""
        key = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
        if key not in self.labels:
            self.labels[key] = str(oracle().judge(spec, self.data, seeds=(0, 1, 2))["label"])
        return self.labels[key]


def recorded(case: Case, way: str, known: Mapping[str, str]) -> Record:
    """One case repaired in one way; `known`: labels that the oracle has given already."""
    torch.set_num_threads(1)
    label = Judged(case["data"], known)
    record: Record = {"id": case["id"], "way": way, "case": case["label"], "what": case["what"]}
    record["family"] = family_of(case)
    if way in THUMBS:
        began = time.process_time()
        thumb = THUMBS[way](case)
        record |= {"seconds": time.process_time() - began, "label": label(thumb), "changes": 0}
    else:
        times = list(_bare_passes(case["spec"]))
        report, took = _timed_report(case["spec"], ALLOWED[way])
        times += _bare_passes(case["spec"])
        given = report.prescription
        spec = given.patched_spec if given else None
        record |= {
            "seconds": took,
            "bare_seconds": median(times),
            "verdict": report.diagnosis.verdict.value,
            "label": None if spec is None else label(spec),
            "changes": 0 if given is None else len(given.recommendations),
        }
        if way == OURS and case["label"] == "sick":
            record["shorter"] = shorter_cure(resolve(case["spec"]), report, label)
    return {**record, "labels": label.labels}


def _timed_report(spec: Spec, allowed: tuple[str, ...]) -> tuple[Report, float]:
    began = time.process_time()
    report = prescribing(spec, allowed)
    return report, time.process_time() - began


def prescribing(spec: Spec, allowed: tuple[str, ...]) -> Report:
    """The pipeline's report, in this process."""
    model = ModelRequest("spec", spec=spec)
    request = AnalysisRequest(model, PLAN, allowed_changes=allowed)
    return analyse(request, model_source(model, "spec"), InProcessProber(), unwatched)


def _bare_passes(spec: Spec) -> Iterator[float]:
    """Processor seconds of one forward and backward of the network alone."""
    architecture = resolve(spec)
    model, x = build(architecture), torch.randn(BATCH, *architecture.inputs[0].shape)
    y = torch.arange(BATCH) % 10
    for number in range(PASSES + 1):
        began = time.process_time()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        if number:  # the first one warms up
            yield time.process_time() - began


def _written_out(case: Case) -> Spec:
    return expanded(resolve(case["spec"]))


def _random_search(case: Case) -> Spec:
    """As many draws as we train sets of one size, by both optimizers' best progress."""
    return best_of(_written_out(case), Random(f"repair/{case['id']}"), MOST_TRIALS, _progress)


def _progress(spec: Spec) -> float:
    model = ModelRequest("spec", spec=spec)
    with InProcessProber().open(model_source(model, "spec"), PLAN) as session:
        runs = session.trial().runs
    return sum(max(run.progress for run in runs if run.optimizer == o) for o in ("sgd", "adam"))


THUMBS: Mapping[str, Callable[[Case], Spec]] = {
    HE: lambda case: he(_written_out(case)),
    RECIPE: lambda case: recipe(_written_out(case)),
    RANDOM: _random_search,
}


def chosen_cases(own: int, healthy: int) -> list[dict[str, Any]]:
    """Every sick one of the development cases and `own` of ours; `healthy` of each file."""
    dev, ours = (_read(path) for path in (CASES, OWN_CASES))
    quick = [case for case in ours if case["s"] <= LONGEST_SECONDS]
    sick = [case for case in dev if case["label"] == "sick"]
    sick += _stratified([case for case in quick if case["label"] == "sick"], own)
    for cases in (dev, ours):
        well = [case for case in cases if case["label"] == "healthy"]
        sick += [well[index] for index in sorted(spread(len(well), healthy))]
    return sick


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _stratified(cases: Sequence[dict[str, Any]], wanted: int) -> list[dict[str, Any]]:
    """Family after family, each evenly spread, as many of each as there are or nearly the same."""
    families: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for case in cases:
        families[family_of(case)].append(case)
    chosen: list[dict[str, Any]] = []
    left = wanted
    groups = sorted(families.values(), key=len)
    for number, group in enumerate(groups):
        share = min(len(group), left // (len(groups) - number))
        left -= share
        chosen += [group[index] for index in sorted(spread(len(group), share))]
    return chosen


class Records:
    """What is done, by case and way; written down as it comes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.path = path
        self.found = {(one["id"], one["way"]): one for one in _read(path)}

    def known(self, case: str) -> dict[str, str]:
        """Labels that the oracle has given to repairs of this case."""
        known: dict[str, str] = {}
        for (name, _), record in self.found.items():
            known |= record["labels"] if name == case else {}
        return known

    def fill(self, jobs: Sequence[tuple[Case, str]], workers: int) -> None:
        """Do what is not done yet, in an order that leaves something of everything at any time."""
        waiting = [job for job in jobs if (job[0]["id"], job[1]) not in self.found]
        Random(0).shuffle(waiting)
        with ProcessPoolExecutor(workers) as pool, self.path.open("a", encoding="utf-8") as file:
            futures = [pool.submit(recorded, c, way, self.known(c["id"])) for c, way in waiting]
            for future in as_completed(futures):
                one = future.result()
                self.found[one["id"], one["way"]] = one
                file.write(json.dumps(one) + "\n")
                file.flush()


def main() -> None:
    """Repair and train them all, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repair", description=__doc__)
    parser.add_argument("--own", type=int, default=40)
    parser.add_argument("--healthy", type=int, default=60, help="of each file")
    parser.add_argument("--rivals", type=int, default=8, help="cases for the other ways")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--page", action="store_true", help="from the records, nothing is run")
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args()
    cases = chosen_cases(arguments.own, arguments.healthy)
    records = Records(arguments.records)
    if not arguments.page:
        _fill(records, cases, arguments)
    ids = {case["id"] for case in cases}
    found = [one for one in records.found.values() if one["id"] in ids]
    drawn = sum(case["label"] == "sick" for case in cases)
    arguments.out.write_text(page(found, drawn), encoding="utf-8")
    print("\n".join(table(found)))


def _fill(records: Records, cases: Sequence[Case], arguments: argparse.Namespace) -> None:
    """Ours for all, then the other ways for some."""
    sick = [case for case in cases if case["label"] == "sick"]
    if OURS in arguments.ways:
        records.fill([(case, OURS) for case in cases], arguments.jobs)
    others = [way for way in arguments.ways if way != OURS]
    quick = [case for case in sick if case["s"] <= RIVALS_SECONDS]
    some = [quick[index] for index in sorted(spread(len(quick), arguments.rivals))]
    records.fill([(case, way) for case in some for way in others], arguments.jobs)


if __name__ == "__main__":
    main()
