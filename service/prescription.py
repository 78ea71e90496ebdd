"""A prescription to take away: the repaired spec, the patch to it, and the repaired weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jsonpatch import JsonPatchException, JsonPointerException

from service.domain.architecture import Architecture, resolve
from service.domain.errors import ChangeRefused, GraddxError, PayloadTooLarge, StorageFull
from service.domain.expanded import expanded
from service.domain.findings import Verdict
from service.domain.measurements import Measurements, Trial, TrialRun
from service.domain.recommendations import LayerAfter, Prescription, Recommendation
from service.domain.state_dict import renamed, tensor_names
from service.ports import ProbeSession
from service.recommendation.combination import combined
from service.recommendation.repaired import Repaired, repaired
from service.recommendation.spec_patch import applied
from service.recommendation.training_effects import best_runs

Keep = Callable[[bytes], str]
"""Store a file for the analysis; returns its artifact id. Raises StorageFull, PayloadTooLarge."""


@dataclass(frozen=True, slots=True)
class Cure:
    """Changes after which the model was found to train."""

    chosen: tuple[Recommendation, ...]
    """The smallest set."""
    before: Trial | None = None
    """Short training as submitted; None when it was off, or had no time."""
    after: Trial | None = None
    """The same with the changes."""
    verdict: Verdict = Verdict.HEALTHY
    """Of the changed model."""
    confidence: float = 1.0
    """In that verdict, with its short training, 0 … 1; 1 without one."""

    @property
    def changes(self) -> tuple[dict[str, Any], ...]:
        """As edits of the model."""
        return combined(self.chosen)


def prescribe(
    cure: Cure, session: ProbeSession, architecture: Architecture | None, keep: Keep | None
) -> tuple[Prescription, tuple[str, ...]]:
    """The prescription, and notes about what of it there is not. `architecture`: None for files.
    `keep`: None when weights are not to be kept. Raises ProbeFailure."""
    remade = None if architecture is None else _remade(cure, architecture)
    trial = None
    if cure.before is not None and cure.after is not None:
        after = _best(cure.after)
        before = best_runs(cure.before).get(after.optimizer) or _best(cure.before)
        trial = {"before": _curve(cure.before, before), "after": _curve(cure.after, after)}
    prescription = Prescription(
        recommendations=tuple(one.id for one in cure.chosen),
        verdict_after=cure.verdict.value,
        trial=trial,
        patched_spec=remade.spec if remade else None,
        patch=remade.patch if remade else None,
    )
    if keep is None or (architecture is not None and remade is None):
        return prescription, ()
    try:
        content = session.export(cure.changes)
        return replace(prescription, weights=keep(_fitting(content, remade))), ()
    except ChangeRefused:  # the child is gone, as the notes say
        return prescription, ()
    except (StorageFull, PayloadTooLarge, NotRenamed) as error:
        return prescription, (f"the repaired weights are not kept: {error}",)


def layers_after(measurements: Measurements) -> tuple[LayerAfter, ...]:
    """The repaired model layer by layer, to be laid beside the submitted one."""
    return tuple(
        LayerAfter(
            name=layer.name,
            gradient_norm=layer.gradient.norm,
            gradient_norm_range=layer.spread.get("gradient.norm"),
            gain=layer.gradient.gain,
            activation_rms=layer.activation.rms,
            saturated_fraction=layer.activation.saturated_fraction,
            dead_unit_fraction=layer.activation.dead_unit_fraction,
        )
        for layer in measurements.layers
    )


class NotRenamed(Exception):
    """The weights do not have the names of the repaired spec; the message says which."""


def _remade(cure: Cure, architecture: Architecture) -> Repaired | None:
    """The spec with the changes; where they can only be said one by one, their patches in turn."""
    done = repaired(architecture, cure.changes)
    patches = [one.patch for one in cure.chosen]
    if done is not None or None in patches:
        return done
    operations = tuple(operation for patch in patches for operation in patch or ())
    try:
        after = applied(architecture.submitted, operations)
    except (GraddxError, JsonPatchException, JsonPointerException):
        return None
    return Repaired(operations, expanded(after), {})


def _fitting(content: bytes, remade: Repaired | None) -> bytes:
    """The weights with the names of the repaired spec; those of a file stay as they are."""
    if remade is None:
        return content
    content = renamed(content, remade.names)
    layers = resolve(remade.spec).layers
    wanted = {f"{node.name}.{key}" for node in layers for key in node.stored}
    if missing := wanted - tensor_names(content):
        raise NotRenamed(f"{min(missing)} has no counterpart in the model that was measured")
    return content


def _best(trial: Trial) -> TrialRun:
    return max(trial.runs, key=lambda run: run.progress)


def _curve(trial: Trial, shown: TrialRun) -> dict[str, Any]:
    """One run of a trial: what it learned, and how."""
    learned = {run.optimizer: False for run in trial.runs}
    learned |= {run.optimizer: True for run in trial.runs if run.learned}
    return {
        "optimizer": shown.optimizer,
        "lr": shown.lr,
        "loss": list(shown.loss),
        "learned": all(learned.values()),
        "learned_by": [name for name, did in learned.items() if did],
    }
