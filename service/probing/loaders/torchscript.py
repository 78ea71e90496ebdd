"""TorchScript: `torch.jit.save` and `torch.jit.script/trace(...).save` files.

Loading runs code of the file: only a sealed child may do it.
"""

from __future__ import annotations

import warnings
from typing import IO

import torch

from service.domain.errors import ModelRaised
from service.probing.devices import CPU
from service.probing.loaders.loaded import LoadedModel, loaded


def load(
    file: IO[bytes], *, mode: str, dtype: torch.dtype, device: torch.device = CPU
) -> LoadedModel:
    """Read a TorchScript file. Raises ModelRaised when it is broken or its own code fails."""
    plain_executor()
    try:
        with warnings.catch_warnings():
            # The format is deprecated for writing; reading it is what this file is for.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(file, map_location="cpu")
    except Exception as error:
        gist = str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)
        raise ModelRaised(f"the file could not be loaded as TorchScript: {gist}") from error
    return loaded("torchscript", module, mode=mode, dtype=dtype, device=device)


def plain_executor() -> None:
    """Run TorchScript operation by operation: its optimizer hands autograd fused blobs."""
    torch._C._jit_set_profiling_executor(False)
    torch._C._jit_set_profiling_mode(False)
    torch._C._set_graph_executor_optimize(False)
