"""The files of an exported program (.pt2), read without unpickling anything that could run.

`torch.export.load` falls back to pickles that call what they like, and also reads the sample inputs
that it does not need. Here weights are raw bytes, or tensors of `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch._export.serde.serialize import _SERIALIZE_TO_TORCH_DTYPE

from service.domain.errors import ModelRaised

_PROGRAMS = ("models/", "serialized_exported_program.json")
_OLD_WEIGHTS = ("serialized_state_dict.pt", "serialized_state_dict.json")
_OLD_CONSTANTS = ("serialized_constants.pt", "serialized_constants.json")
"""What torch.export.save wrote up to version 2.7."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What the files hold."""

    program: dict[str, Any]
    """The graph, its signature and the ranges of its sizes, as JSON."""
    weights: dict[str, Tensor]
    """Parameters and buffers by name; shared ones are one tensor."""
    constants: dict[str, Tensor]
    """Tensors that are neither."""


def read(file: IO[bytes]) -> Saved:
    """Raises ModelRaised when a part is missing, or can only be unpickled by running it."""
    with zipfile.ZipFile(file) as archive:
        members = {_inside(name): name for name in archive.namelist()}
        program = json.loads(archive.read(members[_program(members)]))
        model = _program(members).removeprefix("models/").removesuffix(".json")
        return Saved(
            program,
            _tensors(archive, members, f"data/weights/{model}", "weights", _OLD_WEIGHTS),
            _tensors(archive, members, f"data/constants/{model}", "constants", _OLD_CONSTANTS),
        )


def parameter_numbers(file: IO[bytes]) -> int:
    """Numbers in the parameters, by the file's list of weights; 0 where it tells none apart, as
    before 2.8. No weight is read. Raises whatever a broken file makes of it."""
    with zipfile.ZipFile(file) as archive:
        members = {_inside(name): name for name in archive.namelist()}
        lists = [members[name] for name in members if name.endswith("_weights_config.json")]
        entries = [e for name in lists for e in json.loads(archive.read(name))["config"].values()]
    sizes = {
        entry["path_name"]: prod(size["as_int"] for size in entry["tensor_meta"]["sizes"])
        for entry in entries
        if entry["is_param"]
    }
    return sum(sizes.values())


def _inside(name: str) -> str:
    """torch puts everything into one folder named after the file; before 2.8 into none."""
    folder, _, rest = name.partition("/")
    return rest if rest and not folder.startswith("extra_files") else name


def _program(members: Mapping[str, str]) -> str:
    found = [name for name in members if name.startswith(_PROGRAMS) and name.endswith(".json")]
    if len(found) != 1:
        raise ModelRaised(f"the file holds {len(found)} programs, one is wanted")
    return found[0]


def _tensors(
    archive: zipfile.ZipFile,
    members: Mapping[str, str],
    path: str,
    kind: str,
    old: tuple[str, ...],
) -> dict[str, Tensor]:
    if (config := members.get(f"{path}_{kind}_config.json")) is not None:
        folder = path.rpartition("/")[0]
        return _raw(archive, members, folder, json.loads(archive.read(config))["config"])
    for name in (f"{path}.pt", *old):
        if name in members:
            return _saved(archive.read(members[name]))
    raise ModelRaised(f"the file has no {kind}")


def _saved(content: bytes) -> dict[str, Tensor]:
    if not content:
        return {}
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _raw(
    archive: zipfile.ZipFile,
    members: Mapping[str, str],
    folder: str,
    config: Mapping[str, Mapping[str, Any]],
) -> dict[str, Tensor]:
    contents: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}
    tensors = {}
    for name, entry in config.items():
        if entry["use_pickle"] or entry["tensor_meta"] is None:
            raise ModelRaised(f"{name} is a pickled object, not a dense tensor, and is not read")
        path = entry["path_name"]
        if path not in contents:
            contents[path] = _bytes(archive, members[f"{folder}/{path}"])
        same = json.dumps(entry, sort_keys=True)
        if same not in made:
            made[same] = _tensor(contents[path], entry["tensor_meta"], entry["is_param"])
        tensors[name] = made[same]
    return tensors


def _bytes(archive: zipfile.ZipFile, member: str) -> Tensor:
    content = torch.empty(archive.getinfo(member).file_size, dtype=torch.uint8)
    with archive.open(member) as file:
        file.readinto(content.numpy())  # type: ignore[attr-defined]
    return content


def _tensor(content: Tensor, meta: Mapping[str, Any], is_parameter: bool) -> Tensor:
    dtype = _SERIALIZE_TO_TORCH_DTYPE[meta["dtype"]]
    sizes, strides = ([one["as_int"] for one in meta[what]] for what in ("sizes", "strides"))
    flat = content.view(dtype) if content.numel() else torch.empty(0, dtype=dtype)
    tensor = flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])
    if not is_parameter:
        return tensor
    return nn.Parameter(tensor, requires_grad=meta["requires_grad"])
