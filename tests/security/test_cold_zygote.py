"""The real zygote touches no GPU: a driver that is open before the fork is open in every child, and
CUDA does not survive a fork."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from service.sandbox.limits import ENVIRONMENT, Limits
from service.sandbox.prober import ZygoteProber
from tests.integration.test_sandbox_prober import zygotes

ENTRY, WARM_UP = "service.probing.child:serve", "service.probing.child:warm_up"
WARMED = "import torch; from service.probing.child import warm_up; warm_up(); print({})"


def test_warming_up_initializes_no_cuda() -> None:
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WARMED.format("torch.cuda.is_initialized()")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=ENVIRONMENT,
    )
    assert said.stdout == "False\n"


def test_a_zygote_has_no_driver_open_or_mapped() -> None:
    before = zygotes()
    prober = ZygoteProber(Limits(), ENTRY, WARM_UP, lambda _: Path("/nowhere"))
    try:
        prober.start()
        (zygote,) = zygotes() - before
        opened = [str(one.readlink()) for one in Path(f"/proc/{zygote}/fd").iterdir()]
        mapped = Path(f"/proc/{zygote}/maps").read_text()
    finally:
        prober.close()
    assert "libtorch" in mapped
    assert not [one for one in ("libcuda.so", "libnvidia", "/dev/nvidia") if one in mapped]
    # Descriptors: the three standard ones and the socket of its worker.
    assert sorted(one.partition(":")[0] for one in opened) == [*["/dev/null"] * 3, "socket"]
