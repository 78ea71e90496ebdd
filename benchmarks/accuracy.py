"""How far can the verdict be trusted?  Writes docs/accuracy.md.

    python -m benchmarks.accuracy [--cases FILE …] [--out FILE] [--jobs N] [--rival N] [--flap N]

Every case of the files goes through the real pipeline, with the short training and without it, and
through the published rule sets; N of them, evenly spread, through a plain training and through four
more probe seeds. All times are processor seconds of one thread, so that a busy machine changes
nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy_page import (
    DEFAULT,
    RIVAL,
    SEEDS,
    STATIC,
    Answer,
    Examined,
    judges_table,
    page,
)
from benchmarks.rivals import RULES, plain_training, snapshot
from benchmarks.score import BUDGET_SECONDS, CASES, EXPECTED, report_on
from service.domain.probe_plan import ProbePlan

OWN_CASES = Path("tests/cases/own_cases.jsonl")
PLAIN_CASES = Path("tests/cases/plain_cases.jsonl")
PAGE = Path("docs/accuracy.md")


def family_of(case: Mapping[str, Any]) -> str:
    """Its own, or what the first word of its description says."""
    if "family" in case:
        return str(case["family"])
    kind = str(case["what"]).split()[0].lower()
    return kind if kind in ("mlp", "cnn") else "rnn"


def graddx(case: Mapping[str, Any], plan: ProbePlan) -> Answer:
    """The pipeline's verdict, no cure asked for."""
    began = time.process_time()
    try:
        found = report_on(case, plan, allowed_changes=()).diagnosis
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        return Answer("failed", time.process_time() - began, why=why)
    codes = ", ".join(f"{f.code} {f.confidence:.2f}" for f in found.findings) or "no finding"
    why = f"{found.summary} [{found.decided_by}; {codes}]"
    return Answer(found.verdict.value, time.process_time() - began, found.confidence, why)


def timed(judge: Callable[[], str]) -> Answer:
    """A judge without a confidence."""
    began = time.process_time()
    verdict = judge()
    return Answer(verdict, time.process_time() - began)


def ruled(case: Mapping[str, Any]) -> dict[str, Answer]:
    """Every published rule set on the same snapshot, whose time each of them needs."""
    began = time.process_time()
    seen = snapshot(case)
    took = time.process_time() - began
    return {
        name: Answer("unhealthy" if rule(seen) else "healthy", took) for name, rule in RULES.items()
    }


def examine(job: tuple[dict[str, Any], bool, bool]) -> Examined:
    """All judges on one case; (case, also the plain training, also other seeds)."""
    case, rival, flap = job
    torch.set_num_threads(1)
    plan = partial(ProbePlan, budget_seconds=BUDGET_SECONDS, loss="cross_entropy")
    answers = {DEFAULT: graddx(case, plan()), STATIC: graddx(case, plan(trial_steps=0))}
    answers |= ruled(case)
    if rival:
        answers[RIVAL] = timed(lambda: plain_training(case))
    seeds = range(1, SEEDS) if flap else ()
    others = [graddx(case, plan(seed=1000 * seed)).verdict for seed in seeds]
    return Examined(
        id=case["id"],
        family=family_of(case),
        what=case["what"],
        label=case["label"],
        sgd=tuple(case["sgd"]),
        adam=tuple(case["adam"]),
        answers=answers,
        flaps=(answers[DEFAULT].verdict, *others) if flap else (),
    )


def spread(count: int, wanted: int) -> frozenset[int]:
    """`wanted` indices out of `count`, evenly spread."""
    chosen = min(wanted, count)
    return frozenset(i * count // chosen for i in range(chosen))


def main() -> None:
    """Examine every case and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--cases", type=Path, nargs="+", default=[CASES, PLAIN_CASES, OWN_CASES])
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rival", type=int, default=10**6, help="cases for the plain training")
    parser.add_argument("--flap", type=int, default=300, help="cases for other probe seeds")
    arguments = parser.parse_args()
    found = [
        case
        for path in arguments.cases
        for line in path.read_text(encoding="utf-8").splitlines()
        if (case := json.loads(line))["label"] in EXPECTED
    ]
    rivals, flaps = (spread(len(found), n) for n in (arguments.rival, arguments.flap))
    jobs = [(case, i in rivals, i in flaps) for i, case in enumerate(found)]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        cases = list(pool.map(examine, jobs))
    command = "python -m benchmarks.accuracy"
    command += f" --rival {arguments.rival}" if arguments.rival < len(found) else ""
    command += f" --flap {arguments.flap}" if arguments.flap < len(found) else ""
    arguments.out.write_text(page(cases, arguments.cases, command), encoding="utf-8")
    print("\n".join(judges_table(cases)))


if __name__ == "__main__":
    main()
