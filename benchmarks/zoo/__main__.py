"""Visit the zoo.

    python -m benchmarks.zoo [--only NAME …] [--forms FORM …] [--jobs N] [--out docs/zoo.md]

Ends with status 1 when a healthy network came out unhealthy, or with an error.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.zoo.animals import ZOO
from benchmarks.zoo.forms import FORMS
from benchmarks.zoo.page import alarms, page, table, totals
from benchmarks.zoo.visit import visit


def main() -> int:
    """Visit them all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(ZOO), choices=list(ZOO))
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        judged = partial(visit, forms=tuple(arguments.forms))
        visits = [seen for found in pool.map(judged, arguments.only) for seen in found]
    if arguments.out is not None:
        arguments.out.write_text(page(visits), encoding="utf-8")
    print(table(visits), totals(visits), alarms(visits), sep="\n\n")
    return int(any(seen.errors or seen.verdict == "unhealthy" for seen in visits))


if __name__ == "__main__":
    sys.exit(main())
