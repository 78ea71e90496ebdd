"""What a child that computes on a GPU may reach besides its three descriptors.

The driver is spoken to by ioctl on its device files, and its libraries are loaded when the first
tensor is made, after the seal: they stay readable, and nothing else does. Not verified on a GPU:
until the hostile models have been run against this profile on a real one, uploads go to children
that have none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
"""Besides /dev/nvidia0, /dev/nvidia1 …; read, written and controlled."""
READABLE = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/cuda",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc/driver/nvidia",
    "/proc/devices",
    "/sys/bus/pci",
    "/sys/devices/system",
)
"""The driver's libraries and what it asks about itself."""
KEPT = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
"""What a zygote hears of its worker's environment: which devices are its own."""
OPEN_FILES = 256
"""RLIMIT_NOFILE: the driver opens its device files several times."""


def environment(own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Besides `limits.ENVIRONMENT`; compiled kernels are not kept, for which there is no place."""
    return {name: own[name] for name in KEPT if name in own} | {"CUDA_CACHE_DISABLE": "1"}


def device_files() -> tuple[str, ...]:
    """Those of this host."""
    numbered = (str(path) for path in sorted(Path("/dev").glob("nvidia[0-9]*")))
    return tuple(path for path in (*numbered, *DEVICE_FILES) if Path(path).exists())


def readable() -> tuple[str, ...]:
    """Those of this host, and the interpreter's own packages, where torch's libraries lie."""
    packages = (path for path in sys.path if path.endswith("site-packages"))
    return tuple(path for path in (*READABLE, *packages) if Path(path).exists())
