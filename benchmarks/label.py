"""Label networks of our own families by training them.

    python -m benchmarks.label OUT.jsonl [--seed N] [--minutes M] [--families a,b]
        [--enough N]

Goes round the families (benchmarks/families.py), one network each, until the time is over, and
appends a line for each to OUT.jsonl: `spec`, `data`, `label` and what tests/cases/oracle.py adds.
A network is drawn from (seed, family, number) alone; one that OUT.jsonl already has is not trained
again, so the command can be stopped and called again. Networks whose training would take too long
are passed over, and so is a family that has N sick and N healthy ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.families import FAMILIES, Drawing
from benchmarks.score import oracle
from service.domain.model_source import model_source
from service.domain.request import ModelRequest

LONGEST_SECONDS = 12.0
"""Processor time of the oracle, for one seed of a network that does not train, beyond which it is
passed over."""
ORACLE_STEPS = 7 * 400
"""Steps of an oracle that nothing cuts short: seven rates, one seed."""
TIMED_STEPS = 8


def seconds_to_label(drawing: Drawing) -> float:
    """Processor time that the oracle takes for one seed of a network that does not train."""
    train = oracle().train
    train(drawing.spec, drawing.data, "sgd", 1e-3, 1)
    began = time.process_time()
    train(drawing.spec, drawing.data, "sgd", 1e-3, TIMED_STEPS)
    return (time.process_time() - began) / TIMED_STEPS * ORACLE_STEPS


def labelled(family: str, seed: int, number: int) -> dict[str, Any] | None:
    """One case; None where it would take too long."""
    drawing = FAMILIES[family](Random(f"{seed}/{family}/{number}"))
    model_source(ModelRequest("spec", spec=drawing.spec), "spec")  # the grammar must accept it
    if seconds_to_label(drawing) > LONGEST_SECONDS:
        return None
    began = time.process_time()
    verdict = oracle().judge(drawing.spec, drawing.data, seeds=(0, 1, 2))
    return {
        "id": f"{family}-{seed}-{number}",
        "family": family,
        "what": drawing.what,
        "data": drawing.data,
        "spec": drawing.spec,
        "s": round(time.process_time() - began, 1),
        **verdict,
    }


def known(path: Path) -> dict[str, dict[str, Any]]:
    """The cases that the file already has, by id."""
    if not path.exists():
        return {}
    cases = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {case["id"]: case for case in cases}


def main() -> None:
    """Label until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--enough", type=int, default=10**9, help="sick and healthy per family")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done, until = known(arguments.out), time.monotonic() + 60.0 * arguments.minutes
    counts = Counter((case["family"], case["label"]) for case in done.values())
    with arguments.out.open("a", encoding="utf-8") as out:
        for number in count():
            wanted = [
                family
                for family in arguments.families.split(",")
                if min(counts[family, "sick"], counts[family, "healthy"]) < arguments.enough
            ]
            if not wanted:
                return
            for family in wanted:
                if time.monotonic() > until:
                    return
                if f"{family}-{arguments.seed}-{number}" in done:
                    continue
                case = labelled(family, arguments.seed, number)
                if case is not None:
                    counts[family, case["label"]] += 1
                    out.write(json.dumps(case, separators=(",", ":")) + "\n")
                    out.flush()


if __name__ == "__main__":
    main()
