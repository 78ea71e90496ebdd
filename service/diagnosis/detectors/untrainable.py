"""The short training did not learn."""

from __future__ import annotations

from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.diagnosis.outcome import OPTIMIZERS, learned_by, still_learning
from service.domain.findings import Severity


class Untrainable:
    """
    ### What it sees
    The short trainings on a task made of the model's own inputs, at usual rates: did SGD with
    momentum leave chance behind, did Adam? With an optimizer named, only that one is asked.

    ### Why it matters
    It is the question itself. An error when none learned, a warning when only one did.

    ### Evidence
    Per run: `optimizer`, `lr`, `steps`, `progress` (0 chance … 1 solved), `learned`; `steps` of
    the longest, `task`.

    ### Known false alarms
    Few steps: very deep or recurrent models may need more than the trial gives. The verdict weighs
    a failed trial against the static statistics (see `service/diagnosis/verdict.py`).

    ### References
    Philipp & Carbonell 2018 (arXiv 1806.00179) on judging architectures by short training.
    """

    code = "untrainable"
    title = "The short training does not learn"

    def read(self, case: Case) -> Reading:
        """Tell what failed; the verdict itself is weighed elsewhere, hence no risk here."""
        learned = learned_by(case.trial)
        failed = [name for name, does in learned.items() if not does]
        if case.plan.optimizer is not None and case.trial and still_learning(case.trial.runs[0]):
            return QUIET
        if case.trial is None or not failed:
            return QUIET
        none = len(failed) == len(learned)
        who = " and ".join(OPTIMIZERS.get(name, name) for name in failed)
        do = "does" if len(failed) == 1 else "do"
        named = case.plan.optimizer
        steps = max(case.trial.steps, *(len(run.loss) for run in case.trial.runs))
        rates = "any rate tried" if named is None else f"the rate {named.lr:g} that was named"
        return Reading(
            finding(
                self,
                Severity.ERROR if none else Severity.WARNING,
                0.95,
                f"{who} {do} not learn in {steps} steps at {rates}. "
                f"The task was {case.trial.task.replace('_', ' ')}.",
                evidence={
                    "steps": steps,
                    "task": case.trial.task,
                    "runs": [
                        {
                            "optimizer": run.optimizer,
                            "lr": run.lr,
                            "steps": len(run.loss),
                            "progress": run.progress,
                            "learned": run.learned,
                        }
                        for run in case.trial.runs
                    ],
                },
            )
        )
