"""Which GPUs this process may use, asked of the driver's own tool: a worker never imports torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
ANSWER_SECONDS = 20
"""The first question after a start wakes the driver, which takes seconds."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    index: str
    """As the driver counts."""
    uuid: str
    name: str
    memory_mb: int
    """All of it, MiB."""


def visible_gpus(environment: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order; none where there is no driver."""
    try:
        told = subprocess.run(
            QUERY, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = [_gpu(line) for line in told.splitlines() if line.strip()]
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return tuple(found)
    chosen = []
    for name in (name.strip() for name in wanted.split(",")):
        match = [gpu for gpu in found if name == gpu.index or gpu.uuid.startswith(name or " ")]
        if not match:
            break  # as CUDA does: what follows an unknown name is not seen
        chosen.append(match[0])
    return tuple(chosen)


def _gpu(line: str) -> Gpu:
    index, uuid, name, memory = (part.strip() for part in line.split(","))
    return Gpu(index, uuid, name, int(memory) if memory.isdecimal() else 0)
