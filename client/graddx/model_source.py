"""What may be given as a model, and the request that it makes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graddx.errors import InvalidInput

SPEC_FIELDS = ("input", "layers")
"""What makes an object a spec."""
KERAS_FIELDS = ("class_name", "config")
"""What every JSON of Keras's model.to_json() has."""
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
"""Files of Keras's model.save(): graddx reads the architecture alone."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be sent."""

    request: dict[str, Any]
    """Body of `POST /v1/analyses`; without `model` when a file is to be uploaded first."""
    file: Path | None = None
    """The model file to upload."""


def read_model(model: object) -> Submission:
    """A spec, a whole request, or the path of a JSON file with one of them or of a model file.

    Raises InvalidInput."""
    if isinstance(model, Mapping):
        return _from_document(dict(model), "the model")
    if isinstance(model, str | os.PathLike):
        return _from_file(Path(model))
    raise InvalidInput(
        "a model is a spec, the path of a file or a torch.nn.Module, "
        f"not {type(model).__module__}.{type(model).__qualname__}"
    )


def _from_file(path: Path) -> Submission:
    if not path.is_file():
        raise InvalidInput(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    if path.suffix.lower() in KERAS_SUFFIXES:
        raise InvalidInput(
            f"{path}: a Keras model is sent as the JSON of its architecture: "
            f"keras.models.load_model({path.name!r}).to_json(), written to a file whose name ends "
            "in .json (docs/keras.md)"
        )
    try:
        if path.suffix != ".json" and not _looks_like_json(path):
            return Submission({}, file=path)
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(f"{path}: not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{path}: must hold a JSON object")
    return _from_document(document, str(path))


def _looks_like_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"{")


def _from_document(document: dict[str, Any], where: str) -> Submission:
    if "model" in document:
        return Submission(document)
    if all(name in document for name in KERAS_FIELDS):
        return Submission({"model": {"kind": "keras", "config": document}})
    if not any(name in document for name in SPEC_FIELDS):
        told = " and ".join(f'"{name}"' for name in SPEC_FIELDS)
        raise InvalidInput(
            f'{where}: neither a spec ({told}) nor a request with a "model" '
            "nor what Keras's model.to_json() gives"
        )
    return Submission({"model": {"kind": "spec", **document}})
