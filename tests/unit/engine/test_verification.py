"""What is offered and prescribed, by what changes are said to do together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from service.domain.findings import Diagnosis, Verdict
from service.domain.measurements import Measurements, Trial
from service.domain.recommendations import Recommendation
from service.verification.allowance import Allowance
from service.verification.bench import Bench, Submitted
from service.verification.search import MOST_LOOKS
from service.verification.verify import Verified, verify
from tests.unit.engine.changed_models import MODEL, Kinds, Session, advice, told


def verified(
    offered: Sequence[Recommendation],
    *,
    cures: Sequence[Kinds],
    helps: Kinds = frozenset(),
    before: Diagnosis | None = None,
    session: Session | None = None,
    eases: Kinds = frozenset(),
    doubted: Mapping[str, float] | None = None,
    behind: Sequence[Recommendation] = (),
) -> Verified:
    """`cures`: sets of kinds that bring the verdict to healthy; `helps`: kinds that each take one
    of two findings away; `eases`: kinds that each bring the verdict to at_risk; `doubted`: how sure
    the verdict is with a kind, where that is not sure; `behind`: what is advised where the verdict
    is at_risk."""
    sick = before or told(Verdict.UNHEALTHY, "saturated_activation", "rank_collapse")
    session = session or Session(cures)

    def judge(
        measured: Measurements, _settled: Measurements | None, _trial: Trial | None
    ) -> Diagnosis:
        kinds = frozenset(measured.notes)
        if any(cure <= kinds for cure in cures):
            odds = [confidence for kind, confidence in (doubted or {}).items() if kind in kinds]
            return replace(told(Verdict.HEALTHY), confidence=min(odds, default=1.0))
        if kinds & eases:
            return told(Verdict.AT_RISK)
        return told(Verdict.UNHEALTHY, "rank_collapse") if kinds & helps else sick

    submitted = Submitted(sick, Measurements(MODEL, (), ()), None)
    bench = Bench(session, submitted, judge, Allowance(lambda: 60.0))

    def advise(
        diagnosis: Diagnosis, _measured: Measurements, _trial: Trial | None
    ) -> Sequence[Recommendation]:
        return behind if diagnosis.verdict is Verdict.AT_RISK else offered

    return verify(bench, offered, architecture=None, may_train=True, advise=advise)


def prescribed(found: Verified) -> list[str]:
    assert found.prescription is not None
    kinds = {one.id: one.kind for one in found.recommendations}
    return [kinds[each] for each in found.prescription.recommendations]


def test_what_does_nothing_alone_is_tried_in_company() -> None:
    pair = frozenset({"initializer", "activation"})
    offered = advice("initializer", "normalization", "activation")
    found = verified(offered, cures=[pair])
    assert prescribed(found) == ["initializer", "activation"]
    for one in found.recommendations:
        assert one.effect is not None
        assert one.effect.verified
        assert one.effect.after["verdict"] == "healthy"
        assert one.effect.resolved == ("saturated_activation", "rank_collapse")
        assert "Alone it is not enough" in one.why
    assert [note for note in found.notes if "tried and dropped" in note] == [
        "tried and dropped: the normalization; the verdict stayed unhealthy"
    ]


def test_one_that_helps_keeps_its_own_effect_in_company() -> None:
    pair = frozenset({"initializer", "activation"})
    offered = advice("initializer", "activation")
    found = verified(offered, cures=[pair], helps=frozenset({"initializer"}))
    first, second = found.recommendations
    assert first.effect is not None
    assert first.effect.after["verdict"] == "unhealthy"
    assert first.effect.resolved == ("saturated_activation",)
    assert first.why == "because."
    assert "it and “the initializer” together" in second.why


@pytest.mark.parametrize(
    ("cures", "expected"),
    [
        ([{"residual"}, {"initializer", "normalization"}], ["residual"]),
        ([{"initializer", "residual"}, {"normalization", "activation"}], [
            "initializer", "residual",
        ]),
        ([{"normalization", "activation", "residual"}], [
            "normalization", "activation", "residual",
        ]),
    ],
)  # fmt: skip
def test_the_smallest_set_then_the_least_invasive(
    cures: list[set[str]], expected: list[str]
) -> None:
    offered = advice("initializer", "normalization", "activation", "residual")
    assert prescribed(verified(offered, cures=list(map(frozenset, cures)))) == expected


def test_sets_of_what_helps_come_first() -> None:
    both = [frozenset({"initializer", "normalization"}), frozenset({"activation", "residual"})]
    offered = advice("initializer", "normalization", "activation", "residual")
    found = verified(offered, cures=both, helps=frozenset({"activation", "residual"}))
    assert prescribed(found) == ["activation", "residual"]


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ({"initializer"}, ["normalization"]),
        ({"initializer", "normalization", "residual"}, ["initializer"]),
    ],
)
def test_a_cure_that_works_at_any_usual_rate_is_preferred(
    late: set[str], expected: list[str]
) -> None:
    cures = [frozenset({"initializer"}), frozenset({"normalization"})]
    session = Session(cures, frozenset(late))
    offered = advice("initializer", "normalization", "residual")
    assert prescribed(verified(offered, cures=cures, session=session)) == expected


@pytest.mark.parametrize(
    ("doubted", "late", "expected"),
    [
        ({"initializer": 0.9}, set(), "initializer"),
        ({"initializer": 0.89}, set(), "normalization"),
        ({"initializer": 0.6, "normalization": 0.79, "residual": 0.79}, set(), "initializer"),
        ({"initializer": 0.6, "normalization": 0.81, "residual": 0.85}, set(), "normalization"),
        ({"initializer": 0.6, "normalization": 0.81, "residual": 0.95}, set(), "residual"),
        ({"initializer": 0.8, "normalization": 0.6}, {"initializer", "residual"}, "normalization"),
        ({"initializer": 0.6}, {"normalization", "residual"}, "initializer"),
    ],
)
def test_a_doubtful_cure_yields_to_one_that_leaves_half_the_doubt(
    doubted: dict[str, float], late: set[str], expected: str
) -> None:
    cures = [frozenset({kind}) for kind in ("initializer", "normalization", "residual")]
    session = Session(cures, frozenset(late))
    offered = advice("initializer", "normalization", "residual")
    found = verified(offered, cures=cures, session=session, doubted=doubted)
    assert prescribed(found) == [expected]


def test_a_sure_cure_is_the_last_that_is_trained() -> None:
    cures = [frozenset({kind}) for kind in ("initializer", "normalization", "residual")]
    for confidence, trained in ((0.9, ["initializer"]), (0.8, ["initializer", "normalization"])):
        session = Session(cures)
        doubted = {"initializer": confidence}
        offered = advice("initializer", "normalization", "residual")
        verified(offered, cures=cures, session=session, doubted=doubted)
        assert [one for one in session.trained if one] == [frozenset({kind}) for kind in trained]


def test_a_larger_set_does_not_replace_a_doubtful_cure() -> None:
    cures = [frozenset({"initializer"}), frozenset({"normalization", "residual"})]
    offered = advice("initializer", "normalization", "residual")
    found = verified(offered, cures=cures, doubted={"initializer": 0.6})
    assert prescribed(found) == ["initializer"]


def test_a_disease_behind_another_is_cured_with_it() -> None:
    """Dropout that hides nearly all makes what is left larger: no gradient seems to vanish."""
    pair = frozenset({"regularization", "activation"})
    behind = advice("regularization", "initializer", "activation")
    eases = frozenset({"regularization"})
    found = verified(advice("regularization"), cures=[pair], eases=eases, behind=behind)
    assert prescribed(found) == ["regularization", "activation"]
    assert found.prescription is not None
    assert found.prescription.verdict_after == "healthy"
    assert [one.kind for one in found.recommendations] == ["regularization", "activation"]
    together = found.recommendations[1]
    assert "Alone it is not enough" in together.why
    assert together.effect is not None
    assert together.effect.verified
    assert any("tried and dropped: the initializer" in note for note in found.notes)


def test_where_nothing_lies_behind_half_way_stays() -> None:
    behind = advice("initializer")
    eases = frozenset({"regularization"})
    found = verified(advice("regularization"), cures=[], eases=eases, behind=behind)
    assert prescribed(found) == ["regularization"]
    assert found.prescription is not None
    assert found.prescription.verdict_after == "at_risk"


def test_half_way_is_prescribed_where_nothing_heals_a_sick_model() -> None:
    offered = advice("initializer", "normalization")
    found = verified(offered, cures=(), eases=frozenset({"normalization"}))
    assert prescribed(found) == ["normalization"]
    assert found.prescription is not None
    assert found.prescription.verdict_after == "at_risk"
    assert any("from unhealthy to at_risk" in note for note in found.notes)
    pair = frozenset({"initializer", "normalization"})
    healed = verified(offered, cures=[pair], eases=frozenset({"normalization"}))
    assert prescribed(healed) == ["initializer", "normalization"]
    assert healed.prescription is not None
    assert healed.prescription.verdict_after == "healthy"
    assert not any("at_risk" in note for note in healed.notes)
    risky = told(Verdict.AT_RISK, "saturated_activation", "rank_collapse")
    none = verified(offered, cures=(), before=risky, eases=frozenset({"normalization"}))
    assert none.prescription is None


def test_the_search_is_bounded() -> None:
    kinds = ("initializer", "input_scaling", "normalization", "activation", "residual",
             "recurrent_cell", "pretraining")  # fmt: skip
    session = Session(())
    found = verified(advice(*kinds), cures=(), session=session)
    assert found.prescription is None
    assert len(session.measured) == len(kinds) + MOST_LOOKS
    assert any("sets of several measured" in note for note in found.notes)


def test_a_width_that_no_change_alters_is_told() -> None:
    narrow = told(Verdict.UNHEALTHY, "narrow_layer", classes=10)
    found = verified(advice("normalization"), cures=(), before=narrow)
    (note,) = (note for note in found.notes if note.startswith("narrow_layer"))
    assert "fc with 10 units or more" in note
    cured = verified(advice("residual"), cures=[frozenset({"residual"})], before=narrow)
    assert not any(note.startswith("narrow_layer") for note in cured.notes)


@pytest.mark.parametrize(("precision", "notes"), [("float32", 0), ("float16", 1)])
def test_a_loss_scale_that_does_not_help_is_told_to_who_asked_for_float16(
    precision: str, notes: int
) -> None:
    code = "half_precision_underflow"
    before = told(Verdict.HEALTHY, code, precision=precision)
    offered = [Recommendation("", "loss_scaling", (), "a scale", "", (code,), {"loss_scale": 2.0})]
    found = verified(offered, cures=(), before=before)
    assert found.recommendations == ()
    assert sum("a scale" in note for note in found.notes) == notes
