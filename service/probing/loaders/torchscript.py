"""TorchScript: `torch.jit.save` and `torch.jit.script/trace(...).save` files.

Loading runs code of the file: only a sealed child may do it.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from typing import IO, Any

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


def parameter_numbers(file: IO[bytes]) -> int:
    """Numbers in the tensors that require gradients, by the file's list of tensors: none is read,
    and no class of the file's is built. Raises whatever a broken file makes of it."""
    with zipfile.ZipFile(file) as archive:
        inside = {name.partition("/")[2]: name for name in archive.namelist()}
        listed = _Listed(io.BytesIO(archive.read(inside["data.pkl"])))
    listed.load()
    return sum(listed.learnable.values())


class _Anything:
    """Stands in for every object of the file."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


class _Listed(pickle.Unpickler):
    """Knows what a tensor is, and nothing else."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.learnable: dict[str, int] = {}
        """Numbers in a storage, by its name."""

    def persistent_load(self, pid: Any) -> Any:
        """("storage", type, name, device, numbers)."""
        return pid

    def find_class(self, module: str, name: str) -> Any:  # noqa: ARG002
        """A stand-in."""
        return self._tensor if name == "_rebuild_tensor_v2" else _Anything

    def _tensor(self, storage: tuple[Any, ...], *more: Any) -> None:
        _, _, _, requires_grad = more[:4]
        if requires_grad:
            self.learnable[storage[2]] = int(storage[4])


def plain_executor() -> None:
    """Run TorchScript operation by operation: its optimizer hands autograd fused blobs."""
    torch._C._jit_set_profiling_executor(False)
    torch._C._jit_set_profiling_mode(False)
    torch._C._set_graph_executor_optimize(False)
