"""Writes the files that the examples of /docs speak of: a small model, its weights, real samples.

    python examples/make_files.py [FOLDER]

Ids are made of content, and the examples carry those of the files that are in examples/files.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

FEATURES, HIDDEN, CLASSES, ROWS = 8, 16, 4, 64
HERE = Path(__file__).parent / "files"


def write(folder: Path) -> None:
    """All of them, into an existing folder."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(FEATURES, HIDDEN))
    model.add_module("act", nn.ReLU())
    model.add_module("head", nn.Linear(HIDDEN, CLASSES))
    save_file(model.state_dict(), folder / "weights.safetensors")
    with warnings.catch_warnings():
        # TorchScript is deprecated, and still what many deploy.
        warnings.simplefilter("ignore")
        torch.jit.script(model).save(str(folder / "net.pt"))
    rows = torch.randn(ROWS, FEATURES)
    np.savez(folder / "samples.npz", x=rows.numpy(), y=rows[:, :CLASSES].argmax(1).numpy())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
