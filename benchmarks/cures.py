"""What is known of the cures: writes docs/cures.md (half an hour).

    make cures, or python -m benchmarks.cures [--seeds 2] [--swaps 45]

The page says how often the recommended clipping norm is the right one (`benchmarks.clipping`), how
often the recommended activation and normalization are (`benchmarks.swaps`) and what greedy
pre-training is worth (`benchmarks.pretraining`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks import clipping, pretraining, swaps

PAGE = Path("docs/cures.md")
PRETRAINING_SEEDS = 5
JOBS = 2
TEXT = """# Cures, measured

Written by `python -m benchmarks.cures`; change it there. How often a prescription makes a sick
network train stands in `repair.md`.

## Clipping

Nine networks (multilayer perceptrons of 3 to 16 layers, RNN, GRU, LSTM, a convolutional
net) on the 8×8 digits, SGD with momentum at rates from 0.03 to 1. Counted are the runs whose
gradient norm exceeds five times its median, or is not finite, at some step without clipping. Each
is trained again with max_norm 0.1, 0.5, 1, 5, 10 and the one recommended for its network and rate.

{clipping}

The constant of the rule, a tenth of the function a step, was set on other seeds of the same
networks: other networks may do worse.

## Another activation

Sick networks that are offered another activation get it alone, and in its place each of ReLU,
leaky ReLU, ELU, SELU, GELU, SiLU and tanh, the weights drawn for it by the same rules. Each is
trained as the labels were (`tests/cases/oracle.py`); what counts is the best training accuracy,
mean of SGD and Adam, up to 0.93 where the oracle stops.

{activation}

## A normalization

The same for those that are offered a normalization: batch, layer and RMS normalization after
linear layers, batch and group normalization after convolutions, weights as they were.

{normalization}

## Greedy pre-training

{depth} hidden layers of {width} units on the same digits, one fifth kept for the test; SGD at the
best of three rates, {seeds} seeds. A rectifier as drawn does at least as well as a pre-trained
sigmoid: the remedy is for networks whose activation has to stay.

{pretraining}
"""


def page(seeds: int, cases: int) -> str:
    """The whole page, Markdown."""
    exchanged = list(swaps.compared(cases, JOBS))
    return TEXT.format(
        activation=swaps.summary(exchanged, "activation"),
        normalization=swaps.summary(exchanged, "normalization"),
        clipping=clipping.summary(list(clipping.outcomes(seeds))),
        pretraining=pretraining.table(list(pretraining.compared(PRETRAINING_SEEDS))),
        depth=pretraining.DEPTH,
        width=pretraining.WIDTH,
        seeds=PRETRAINING_SEEDS,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--swaps", type=int, default=45, help="cases for other activations")
    torch.set_num_threads(1)
    arguments = parser.parse_args()
    PAGE.write_text(page(arguments.seeds, arguments.swaps), encoding="utf-8")
