"""Another learning rate, where the one named does not suit."""

from __future__ import annotations

import math
from statistics import median

from service.domain.measurements import TrialRun
from service.domain.recommendations import Recommendation
from service.recommendation.case import Case
from service.recommendation.initialization import significant

HEALTHY_UPDATE = 1e-3
"""Share of its own size by which a step usually changes a weight."""
FURTHEST = 1e5
"""Factor by which a rate is changed, at most."""
STEP = 10.0
"""Factor where no update was measured."""
BLOWN_UP = 2.0
"""Times the first loss from which a run has blown up."""


class ChangeRate:
    """Use a learning rate at which this model's steps are of a healthy size.

    ### What it changes
    The rate of the optimizer that the request names: so that the first step changes the median
    weight by a thousandth of its size; a tenth where the loss blew up, ten times where nothing
    moved and no update was measured.

    ### When it is offered
    When the request names an optimizer, and the first update is out of proportion or the short
    training with it does not learn. It is kept only when the short training at the new rate learns
    more.

    ### Why it works
    A step that changes weights by more than a few percent leaves the region where its gradient was
    measured; one that changes them by a millionth needs as many steps. The ratio does not depend on
    the scale of the weights or the gradient, so it can be read off one step.

    ### Limits
    Found by a short training at a constant rate: a schedule with warm-up may allow a larger peak.
    It never is the cure of a model that no rate trains, and the verdict does not rest on it.

    ### References
    * Bottou 2012, Stochastic gradient descent tricks. Smith 2017, arXiv:1506.01186.
    * You et al. 2017, arXiv:1708.03888, on update-to-weight ratios by layer.
    """

    kind = "learning_rate"
    cures = frozenset({"extreme_update_ratio", "untrainable"})

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        run = _named_run(case)
        named = _named_rate(case, run)
        if not codes or named is None or (run is not None and run.learned):
            return ()
        optimizer, lr = named
        ratio = _update_ratio(case)
        new = significant(lr * _factor(ratio, run))
        if new == lr:
            return ()
        change = {"optimizer": optimizer, "lr": new, "replaces": lr}
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=(),
                title=f"Train at lr={new:g} instead of {lr:g}",
                why=_why(lr, ratio, run),
                resolves=codes,
                change=change,
                code=f"for group in optimizer.param_groups:\n    group['lr'] = {new!r}",
            ),
        )


def _named_run(case: Case) -> TrialRun | None:
    """The one run of a named optimizer: where none is named, several are tried."""
    runs = case.trial.runs if case.trial else ()
    return runs[0] if len(runs) == 1 else None


def _named_rate(case: Case, run: TrialRun | None) -> tuple[str, float] | None:
    if run is not None:
        return run.optimizer, run.lr
    for found in case.diagnosis.findings:
        if found.code == "extreme_update_ratio" and "lr" in found.evidence:
            return str(found.evidence["optimizer"]), float(found.evidence["lr"])
    return None


def _update_ratio(case: Case) -> float | None:
    ratios = [
        p.update_ratio
        for layer in case.measurements.layers
        for p in layer.parameters
        if p.update_ratio and len(p.shape) > 1
    ]
    return median(ratios) if ratios else None


def _factor(ratio: float | None, run: TrialRun | None) -> float:
    if run is not None and _blew_up(run):
        wanted = HEALTHY_UPDATE / ratio if ratio else 1.0 / STEP
        return min(max(wanted, 1.0 / FURTHEST), 1.0 / STEP)
    wanted = HEALTHY_UPDATE / ratio if ratio else STEP
    return min(max(wanted, 1.0 / FURTHEST), FURTHEST)


def _blew_up(run: TrialRun) -> bool:
    first = run.loss[0] if run.loss else None
    if first is None:
        return True
    return any(loss is None or math.isnan(loss) or loss > BLOWN_UP * first for loss in run.loss)


def _why(lr: float, ratio: float | None, run: TrialRun | None) -> str:
    told = (
        f"The first step at {lr:g} changes the median weight by {ratio:.2g} of its size, where"
        f" {HEALTHY_UPDATE:g} is usual."
        if ratio
        else f"At {lr:g} nothing is learned."
    )
    return f"{told} The loss blew up." if run is not None and _blew_up(run) else told
