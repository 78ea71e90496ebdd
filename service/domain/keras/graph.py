"""A Keras model as its layers, one entry for every use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.domain.errors import InvalidRequest
from service.domain.grammar.faults import below

WITHIN = "-"
"""In a spec between the names of a nested model and of its layer; no other name has it there."""
SEPARATOR = "\x1f"
"""The same before names are made plain: a Keras layer's own name may have a dash."""
HELD = f"{WITHIN}{WITHIN}layer"
"""Behind the name of a layer: the one that it holds."""
INPUT = "InputLayer"


class Untranslatable(InvalidRequest):
    """Something of a Keras model that a spec cannot express."""

    title = "Keras model cannot be translated"


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """One use of one layer."""

    class_name: str
    name: str
    """Its own, after those of the models that it is nested in."""
    config: Mapping[str, Any]
    """The arguments it was made with."""
    inputs: tuple[str, ...]
    """Keys of uses before it; empty: it is an input."""
    pointer: str
    """Where its config stands, relative to the Keras model."""
    turn: int = 0
    """Which use of the layer this is, from 0."""
    call: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of this use."""

    @property
    def key(self) -> str:
        """What later uses name this one by."""
        return f"{self.name}#{self.turn}"

    @property
    def shown(self) -> str:
        """Its name for people."""
        return self.name.replace(SEPARATOR, WITHIN)

    def refused(self, detail: str, *steps: str) -> Untranslatable:
        """An error that names the layer and points at an argument."""
        said = f"layer `{self.shown}` ({self.class_name}): {detail}"
        return Untranslatable(said, pointer=below(self.pointer, *steps))


@dataclass(frozen=True, slots=True)
class KerasGraph:
    """A whole model."""

    layers: tuple[KerasLayer, ...]
    """Every use; a layer's inputs stand before it."""
    inputs: tuple[str, ...]
    """Keys of the input layers, in the order in which the model takes them."""
    output: str
    """Key of the use that the model ends with."""
