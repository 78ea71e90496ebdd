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
    symbolic = "from service.probing import symbolic; symbolic.warm_up()"
    code = WARMED.format("torch.cuda.is_initialized()")
    assert run(f"{code}\n{symbolic}\nprint(torch.cuda.is_initialized())") == "False\nFalse\n"


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=ENVIRONMENT,
    ).stdout


FAILING = """
from service.probing.trace import record
recorded = record(lambda x: x @ x, {}, {}, (torch.ones(2, 2, requires_grad=True),))
try:
    recorded.module(torch.ones(2, 3))
except RuntimeError as error:
    print("shapes" in str(error))
"""


def test_specs_and_torchscript_need_no_compiler() -> None:
    """Nor does an operation of theirs that fails."""
    symbolic = ("torch._dynamo", "torch.fx.experimental.symbolic_shapes", "sympy")
    found = f"import sys; print(set({symbolic}) & sys.modules.keys())"
    assert run(f"{WARMED.format(0)}\n{FAILING}\n{found}") == "0\nTrue\nset()\n"


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
    # Descriptors: the three standard ones, the sockets of its worker and of the child that waits.
    assert sorted(one.partition(":")[0] for one in opened) == [*["/dev/null"] * 3, *["socket"] * 2]
