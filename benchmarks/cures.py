"""What is known of the cures: writes docs/cures.md (a quarter of an hour).

    make cures, or python -m benchmarks.cures [--seeds 2]

The page says how often the recommended clipping norm is the right one (`benchmarks.clipping`) and
what greedy pre-training is worth (`benchmarks.pretraining`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks import clipping, pretraining

PAGE = Path("docs/cures.md")
PRETRAINING_SEEDS = 5
TEXT = """# Cures, measured

Written by `python -m benchmarks.cures`; change it there. How often a prescription makes a sick
network train stands in `accuracy.md`.

## Clipping

Nine networks (multilayer perceptrons of 3 to 16 layers, RNN, GRU, LSTM, a convolutional
net) on the 8×8 digits, SGD with momentum at rates from 0.03 to 1. Counted are the runs whose
gradient norm exceeds five times its median, or is not finite, at some step without clipping. Each
is trained again with max_norm 0.1, 0.5, 1, 5, 10 and the one recommended for its network and rate.

{clipping}

The constant of the rule, a tenth of the function a step, was set on other seeds of the same
networks: other networks may do worse.

## Greedy pre-training

{depth} hidden layers of {width} units on the same digits, one fifth kept for the test; SGD at the
best of three rates, {seeds} seeds. A rectifier as drawn does at least as well as a pre-trained
sigmoid: the remedy is for networks whose activation has to stay.

{pretraining}
"""


def page(seeds: int) -> str:
    """The whole page, Markdown."""
    return TEXT.format(
        clipping=clipping.summary(list(clipping.outcomes(seeds))),
        pretraining=pretraining.table(list(pretraining.compared(PRETRAINING_SEEDS))),
        depth=pretraining.DEPTH,
        width=pretraining.WIDTH,
        seeds=PRETRAINING_SEEDS,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    torch.set_num_threads(1)
    PAGE.write_text(page(parser.parse_args().seeds))
