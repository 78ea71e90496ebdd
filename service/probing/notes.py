"""What the reader of the measurements should know."""

from __future__ import annotations

from collections.abc import Iterator

from service.probing.loaders.loaded import LoadedModel

NAMED = 5
"""Frozen parameters that are named, at most."""


def notes_on(
    model: LoadedModel, device: str, cuts: tuple[str, ...], *, recorded: bool
) -> Iterator[str]:
    """Of the file, the precision, what was cut, the path that depends on data, frozen weights."""
    yield from model.notes
    yield from model.precision.notes(device)
    yield from cuts
    if not recorded:
        yield (
            "data_dependent: the model takes another path for other data; every batch was "
            "measured on its own path"
        )
    if model.frozen:
        names = ", ".join(sorted(model.frozen)[:NAMED])
        yield (
            f"frozen: {len(model.frozen)} parameters were saved with "
            f"requires_grad=False and measured as trainable ({names} …)"
        )
