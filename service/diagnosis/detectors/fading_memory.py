"""A recurrent layer forgets its first time steps."""

from __future__ import annotations

from collections.abc import Sequence

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.diagnosis.profile import fall_in_time
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements, TimeSteps


class FadingMemory:
    """
    ### What it sees
    For every recurrent layer, how far a gradient that stands at its last output alone falls on its
    way to the input of the first time step; and how far the gradient of the loss itself falls.
    The loss decides: where it reads every step (a tagger, a language model), early inputs are
    learned from the answers next to them, and a short memory is told as information.

    ### Why it matters
    Over T steps the gradient shrinks by a factor each: after 64 steps of 0.6 nothing is left, and
    what the first inputs say about the last output cannot be learned. The weights, shared by all
    steps, still get the gradient of the last ones: the training goes half-way and stops.

    ### Evidence
    `steps`, `remembered` (last steps that receive a hundredth of the largest gradient or more),
    `per_step` factor, `memory_decades`, `gradient_decades`.

    ### Known false alarms
    Over few steps (8) recurrent weights that start far too small grow in time: such a network lost
    7.7 decades and trained. Tasks whose answer lies in the last steps need no memory. Loops over
    RNNCell, LSTMCell or GRUCell are not seen: each call has one step.

    ### References
    Bengio, Simard & Frasconi 1994; Hochreiter & Schmidhuber 1997; Pascanu et al. 2013 (arXiv
    1211.5063); Jozefowicz et al. 2015 on the forget bias.
    """

    code = "fading_memory"
    title = "Memory fades"

    def read(self, case: Case) -> Reading:
        """Judge every recurrent layer; the worst one speaks."""
        readings = [
            self._judge(layer, layer.time_steps)
            for layer in case.measured.layers
            if layer.time_steps is not None
        ]
        return max(readings, key=lambda r: (r.warning, r.finding is not None), default=QUIET)

    def _judge(self, layer: LayerMeasurements, steps: TimeSteps) -> Reading:
        memory, gradient = fall_in_time(steps.memory), fall_in_time(steps.gradient)
        if memory is None:
            return QUIET
        limits = thresholds.MEMORY_FALL
        warning = thresholds.MEMORY_CEILING * limits.at_risk(gradient or 0.0)
        if memory < limits.warning:
            return Reading(warning=warning, halfway=True, unseen=True)
        count, kept = len(steps.memory), _remembered(steps.memory)
        per_step = 10.0 ** (-memory / max(count - 1, 1))
        everywhere = warning < 0.5
        found = finding(
            self,
            Severity.INFO if everywhere else Severity.WARNING,
            0.9 if everywhere else warning,
            f"{layer.name} remembers about {kept} of {count} time steps: the first step's input "
            f"receives {wording.power(-memory)} of the largest gradient "
            f"({wording.times(per_step)} per step). "
            + (
                "The loss reaches the early steps by their own outputs."
                if everywhere
                else f"Training is at risk from {limits.warning:g} decades; here are {memory:.1f}."
            ),
            layers=[layer],
            evidence={
                "steps": count,
                "remembered": kept,
                "per_step": per_step,
                "memory_decades": memory,
                "gradient_decades": gradient,
                "threshold": limits.warning,
            },
            causes=_causes(layer, per_step),
        )
        return Reading(found, 0.0, warning, halfway=True, unseen=True)


def _remembered(norms: Sequence[float | None]) -> int:
    """How many of the last steps, in a row, receive a hundredth of the largest gradient."""
    least = max(norm or 0.0 for norm in norms) / 100.0
    kept = 0
    for norm in reversed(norms):
        if (norm or 0.0) < least:
            break
        kept += 1
    return kept


def _causes(layer: LayerMeasurements, per_step: float) -> list[str]:
    causes = [f"The {layer.op.upper()} at {layer.name} passes {wording.times(per_step)} a step."]
    if layer.op == "lstm":
        causes.append(
            "An LSTM whose forget gate starts half open (bias 0) halves its cell at every step "
            "(Jozefowicz et al. 2015)."
        )
    return causes + list(wording.default_initialization([layer]))
