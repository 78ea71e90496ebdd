"""Tests run beside each other: each process keeps to its own core."""

from __future__ import annotations

import os

# Before anything imports torch: threads of its own would wait for those of the process beside it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
