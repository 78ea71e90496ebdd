"""Changes are looked at briefly, and in full where something rests on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from service.domain.errors import ChangeRefused
from service.domain.findings import Diagnosis, Verdict
from service.domain.measurements import Measurements, Trial, TrialRun
from service.domain.recommendations import Recommendation
from service.verification.allowance import Allowance
from service.verification.bench import GLANCE, Bench, Judge, Submitted
from service.verification.verify import Verified, verify
from tests.unit.engine.changed_models import MODEL, Kinds, Session, advice, told

SICK = told(Verdict.UNHEALTHY, "rank_collapse")
NORMALIZED = frozenset({"normalization"})
OFFERED = advice("initializer", "normalization", "activation")


def rules(
    says: Callable[[Kinds, bool], Diagnosis], trained: Callable[[Kinds], Diagnosis] | None = None
) -> Judge:
    """A judge from the kinds of change and whether it was a glance; `trained`: after training."""

    def judge(
        measured: Measurements, _settled: Measurements | None, trial: Trial | None
    ) -> Diagnosis:
        kinds = frozenset(measured.notes) - {"at a glance"}
        if trial is not None and trained is not None:
            return trained(kinds)
        return says(kinds, "at a glance" in measured.notes)

    return judge


def verified(
    session: Session,
    judge: Judge,
    *,
    offered: Sequence[Recommendation] = OFFERED,
    before: Diagnosis = SICK,
    trial: Trial | None = None,
    allowance: Allowance | None = None,
    may_train: bool = True,
) -> Verified:
    submitted = Submitted(before, Measurements(MODEL, (), ()), trial)
    bench = Bench(session, submitted, judge, allowance or Allowance(lambda: 60.0))
    return verify(bench, offered, architecture=None, may_train=may_train)


def probe() -> Session:
    return Session([NORMALIZED], seeds=3, batches=4)


def normalizing(kinds: Kinds, _glance: bool) -> Diagnosis:
    return told(Verdict.HEALTHY) if "normalization" in kinds else SICK


def asked(session: Session) -> list[tuple[set[str], bool]]:
    """What was measured, and whether in full."""
    return [
        (set(kinds), look is None)
        for kinds, look in zip(session.measured, session.looks, strict=True)
    ]


def test_only_the_cure_is_measured_in_full() -> None:
    session = probe()
    found = verified(session, rules(normalizing))
    assert asked(session) == [
        (set(), False),
        ({"initializer"}, False),
        ({"normalization"}, False),
        ({"activation"}, False),
        ({"normalization"}, True),
    ]
    assert session.looks[0] == GLANCE
    (cure,) = found.recommendations
    assert cure.effect is not None
    assert cure.effect.resolved == ("rank_collapse",)
    for figures in (cure.effect.before, cure.effect.after):
        assert (figures["seeds"], figures["batches"]) == (3, 4)


def test_what_is_not_prescribed_says_how_briefly_it_was_looked_at() -> None:
    found = verified(probe(), rules(lambda kinds, _: told(Verdict.HEALTHY) if kinds else SICK))
    looks = [
        [(figures["seeds"], figures["batches"]) for figures in (effect.before, effect.after)]
        for effect in (one.effect for one in found.recommendations)
        if effect is not None
    ]
    # The initializer was trained in vain, the normalization is the cure.
    assert looks == [[(3, 4), (3, 4)], [(3, 4), (3, 4)], [(1, 2), (1, 2)]]


def test_a_model_that_shows_less_at_a_glance_is_always_looked_at_in_full() -> None:
    session = probe()

    def says(kinds: Kinds, glance: bool) -> Diagnosis:
        return told(Verdict.HEALTHY) if glance else normalizing(kinds, glance)

    verified(session, rules(says))
    assert [full for _, full in asked(session)] == [False, True, True, True]


@pytest.mark.parametrize("glance", [True, False])
def test_a_loss_scale_is_measured_as_the_submitted_model_was(*, glance: bool) -> None:
    session = probe()

    def says(_kinds: Kinds, brief: bool) -> Diagnosis:
        return told(Verdict.HEALTHY) if brief and not glance else SICK

    verified(session, rules(says), offered=advice("loss_scaling"))
    # A look at everything is asked for as the probe asked: a child knows again what it measured.
    assert session.looks == [GLANCE, GLANCE if glance else None]


def test_a_loss_scale_is_not_measured_without_time() -> None:
    session = probe()
    # A glance takes 2 s, the whole probe 12.
    brief = rules(lambda _, glance: told(Verdict.HEALTHY) if glance else SICK)
    short = Allowance(lambda: 10.0, 1.0)
    verified(session, brief, offered=advice("loss_scaling"), allowance=short)
    assert session.looks == [GLANCE]


def test_a_small_probe_is_not_made_smaller() -> None:
    session = Session([NORMALIZED], seeds=2, batches=1)
    verified(session, rules(normalizing))
    assert all(full for _, full in asked(session))


def test_what_is_healthy_at_a_glance_alone_is_not_trained() -> None:
    session = probe()

    def says(kinds: Kinds, glance: bool) -> Diagnosis:
        return told(Verdict.HEALTHY) if glance and kinds else SICK

    found = verified(session, rules(says))
    assert session.trained == []
    assert found.prescription is None


def test_what_a_glance_does_not_rule_out_for_sure_is_looked_at_in_full() -> None:
    session = probe()

    def says(kinds: Kinds, glance: bool) -> Diagnosis:
        unsure = replace(SICK, confidence=0.6)
        return unsure if glance and kinds else normalizing(kinds, glance)

    found = verified(session, rules(says))
    assert found.prescription is not None
    assert found.prescription.verdict_after == "healthy"


def test_without_training_the_prescription_rests_on_the_whole_probe() -> None:
    def says(kinds: Kinds, glance: bool) -> Diagnosis:
        # The initializer looks well at a glance.
        return told(Verdict.HEALTHY) if glance and kinds else normalizing(kinds, glance)

    found = verified(probe(), rules(says), may_train=False)
    assert found.prescription is not None
    kinds = {one.id: one.kind for one in found.recommendations}
    assert [kinds[each] for each in found.prescription.recommendations] == ["normalization"]


def run(optimizer: str, loss: float, *, learned: bool) -> TrialRun:
    return TrialRun(optimizer, 0.1, (2.3, loss), (1.0, 1.0), None, learned, float(learned))


def half(loss: float, *, sgd: bool = False, adam: bool = True) -> Trial:
    runs = (run("sgd", loss, learned=sgd), run("adam", loss, learned=adam))
    return Trial("gaussian_classes", 100, runs)


class Retrained(Session):
    """Its short training ends as it is told."""

    def __init__(self, after: Trial) -> None:
        super().__init__(())
        self.after = after

    def trial(self, *_changes: object, **_how: object) -> Trial:
        return self.after


@pytest.mark.parametrize(
    ("after", "offered"),
    [
        (half(0.5, sgd=True), True),
        (half(1.0, sgd=True), True),
        (half(2.0, sgd=True), False),
        (half(0.5, sgd=True, adam=False), False),
    ],
    ids=["lower loss", "the same loss", "higher loss", "what learned no longer does"],
)
def test_what_trains_half_way_is_changed_only_where_training_is_no_worse(
    after: Trial, *, offered: bool
) -> None:
    risky = told(Verdict.AT_RISK, "rank_collapse")
    judge = rules(
        lambda kinds, _: told(Verdict.HEALTHY) if kinds else risky,
        lambda kinds: told(Verdict.HEALTHY) if kinds else risky,
    )
    found = verified(Retrained(after), judge, before=risky, trial=half(1.0))
    assert (found.prescription is not None) is offered
    assert any("as good" in note for note in found.notes) is not offered


def test_what_trains_half_way_is_not_changed_without_training() -> None:
    risky = told(Verdict.AT_RISK, "rank_collapse")
    judge = rules(lambda kinds, _: told(Verdict.HEALTHY) if kinds else risky)
    found = verified(probe(), judge, before=risky, may_train=False)
    assert found.prescription is None
    assert [one.kind for one in found.recommendations] == ["initializer", "normalization",
                                                           "activation"]  # fmt: skip
    assert any("trial_steps" in note for note in found.notes)


def test_less_invasive_sets_are_trained_before_one_that_the_statistics_prefer() -> None:
    kinds = ("initializer", "input_scaling", "normalization", "activation")
    session = Session([NORMALIZED, frozenset({"activation"})], seeds=3, batches=4)
    judge = rules(
        lambda kinds, _: (
            told(Verdict.HEALTHY)
            if "activation" in kinds
            else told(Verdict.AT_RISK)
            if kinds
            else SICK
        ),
        lambda kinds: told(Verdict.HEALTHY if kinds & {"normalization", "activation"} else
                           Verdict.UNHEALTHY),
    )  # fmt: skip
    found = verified(session, judge, offered=advice(*kinds))
    assert found.prescription is not None
    chosen = {one.id: one.kind for one in found.recommendations}
    assert [chosen[each] for each in found.prescription.recommendations] == ["normalization"]


def test_nothing_is_begun_that_the_budget_does_not_cover() -> None:
    session = probe()
    # A glance takes 2 s, the whole probe 12.
    found = verified(session, rules(normalizing), allowance=Allowance(lambda: 10.0, 1.0))
    assert {full for _, full in asked(session)} == {False}
    assert found.prescription is None
    (kept,) = found.recommendations
    assert kept.effect is not None
    assert kept.effect.verified
    assert any(note.startswith("budget: budget_seconds ended") for note in found.notes)


def test_what_does_not_train_is_trained_where_the_cure_learned_and_after_it() -> None:
    session = probe()
    found = verified(session, rules(normalizing))
    assert session.trained == [NORMALIZED, frozenset()]
    assert session.rates == [{}, {"sgd": 0.1}]
    assert found.prescription is not None
    assert found.prescription.trial is not None


def test_what_trains_half_way_is_compared_at_every_usual_rate() -> None:
    risky = told(Verdict.AT_RISK, "rank_collapse")
    session = probe()
    judge = rules(
        lambda kinds, _: told(Verdict.HEALTHY) if kinds else risky,
        lambda kinds: told(Verdict.HEALTHY) if "normalization" in kinds else risky,
    )
    verified(session, judge, before=risky)
    assert frozenset() in session.trained
    assert set(map(len, session.rates)) == {0}


def test_the_curves_shown_are_of_one_optimizer() -> None:
    """Adam came farther as it was submitted, SGD with the changes."""
    before = Trial("gaussian_classes", 100, (far("sgd", 0.1), far("adam", 0.2)))
    after = Trial("gaussian_classes", 100, (far("sgd", 0.9), far("adam", 0.8)))
    judge = rules(normalizing, lambda kinds: normalizing(kinds, False))
    found = verified(Retrained(after), judge, trial=before)
    assert found.prescription is not None
    assert found.prescription.trial is not None
    shown = found.prescription.trial
    assert shown["before"]["optimizer"] == shown["after"]["optimizer"] == "sgd"


def far(optimizer: str, progress: float) -> TrialRun:
    return replace(run(optimizer, 0.1, learned=progress > 0.5), progress=progress)


class Late(Session):
    """Nothing is trained in time as it was submitted."""

    def trial(self, *changes: object, **how: object) -> Trial:
        assert how["seconds"] == 60.0
        if not changes or not changes[0]:
            raise ChangeRefused("its time was over")
        return half(0.1, sgd=True)


def test_a_cure_without_anything_to_compare_it_with_says_so() -> None:
    found = verified(Late([NORMALIZED]), rules(normalizing))
    assert found.prescription is not None
    assert found.prescription.trial is None
    assert any("as submitted" in note for note in found.notes)
