"""Whatever a draft of the right types says: it is kept as it was said, and published or refused with reasons."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import event, given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.plan_billable import check_version_billable
from domain.plan_drafts import resolved, revised
from domain.plan_validation import Catalog
from domain.plan_versions import draft_version, publish, spec_of
from domain.pricing import rate_lines
from schemas.features import Feature
from schemas.plan_drafts import PlanVersionPatch
from schemas.plan_phases import Phase, PhaseSpec, PlanVersion, PlanVersionSpec
from tests.support.lives import MONTH

NOW = datetime(2026, 3, 1, tzinfo=UTC)
METERS = {"calls": "met_1"}
FEATURES = {
    name: Feature(
        id=f"fea_{name}",
        key=name,
        name="",
        kind="metered" if name == "calls" else "boolean",
        meter_id="met_1" if name == "calls" else None,
        revision=1,
        created_at=NOW,
        archived_at=None,
    )
    for name in ("calls", "sso")
}
ODD = ("0", "1", "0.01", "-1", "NaN", "sNaN", "Infinity", "1e30", "1e999999", "0.0000000000001")

numbers = st.one_of(st.sampled_from(("0", "1", "2.5", "10")), st.sampled_from(ODD))
counts = st.one_of(st.just(1), st.sampled_from((-1, 0, 2, 12, 10**30)))
cadences = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"unit": st.sampled_from(("month", "year", "week", "day", "minute", "never")), "count": counts}
    ),
)
tiers = st.lists(
    st.fixed_dictionaries({"up_to": st.one_of(st.none(), numbers), "unit_amount": numbers, "flat_amount": numbers}),
    max_size=3,
)
prices = st.one_of(
    st.fixed_dictionaries({"model": st.just("flat"), "amount": numbers}),
    st.fixed_dictionaries(
        {"model": st.just("per_unit"), "unit_amount": numbers},
        optional={"minimum_amount": numbers, "maximum_amount": numbers, "free_units": numbers},
    ),
    st.fixed_dictionaries({"model": st.just("package"), "amount": numbers, "package_size": numbers}),
    st.fixed_dictionaries({"model": st.sampled_from(("graduated", "volume")), "tiers": tiers}),
    st.fixed_dictionaries({"model": st.just("percentage"), "rate_percent": numbers}, optional={"free_events": counts}),
)
listed = st.fixed_dictionaries(
    {"key": st.sampled_from(("a", "b", "c", "pri_x")), "price": prices},
    optional={"meter": st.sampled_from(("calls", "met_1", "none")), "quantity": numbers},
)
cards = st.fixed_dictionaries(
    {"price": listed}, optional={"cadence": cadences, "timing": st.sampled_from(("in_advance", "in_arrears"))}
)
entitlements = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("metered"), "feature": st.sampled_from(("calls", "sso", "none"))},
            optional={"limit": numbers, "thresholds": st.lists(counts, max_size=3)},
        ),
        st.fixed_dictionaries({"type": st.just("boolean"), "feature": st.sampled_from(("sso", "calls"))}),
    ),
    max_size=2,
)
phases = st.lists(
    st.fixed_dictionaries(
        {"key": st.sampled_from(("x", "y"))},
        optional={
            "duration": cadences,
            "trial": st.booleans(),
            "rate_cards": st.lists(cards, max_size=2),
            "entitlements": entitlements,
        },
    ),
    max_size=3,
    unique_by=lambda phase: str(phase["key"]),
)
patches = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"prices": st.lists(listed, max_size=2), "entitlements": entitlements, "level": st.integers(0, 9)}
    ),
    st.fixed_dictionaries({"phases": phases}, optional={"cadence": st.sampled_from(("month", "year", "hour"))}),
)
BASE = PlanVersionSpec(key="pro", currency="EUR", cadence=MONTH, phases=(PhaseSpec(key="standard"),))


def _ids() -> Callable[[str], str]:
    made = iter(range(10**6))
    return lambda prefix: f"{prefix}_{next(made)}"


def _drafted(spec: PlanVersionSpec) -> PlanVersion:
    return draft_version(spec, plan_id="pla_1", version=2, features=FEATURES, meters=METERS, new_id=_ids())


def _published(draft: PlanVersion) -> PlanVersion | Invalid:
    catalog = Catalog(features={**FEATURES, **{one.id: one for one in FEATURES.values()}}, meters={"calls", "met_1"})
    try:
        made = publish(draft, catalog, NOW)
        check_version_billable(spec_of(made))
    except Invalid as refused:
        event(f"refused: {refused.code}")
        return refused
    event("published")
    return resolved(made, FEATURES, METERS)


@given(patches)
def test_a_draft_is_kept_as_it_was_said_and_published_or_refused_with_every_reason(said: dict[str, Any]) -> None:
    patch = msgspec.convert(msgspec.json.decode(msgspec.json.encode(said)), PlanVersionPatch)
    draft = _drafted(revised(BASE, patch))
    kept = msgspec.json.encode(msgspec.to_builtins(draft.phases))
    read = msgspec.convert(msgspec.json.decode(kept), tuple[Phase, ...])
    assert msgspec.json.encode(msgspec.to_builtins(read)) == kept
    published = _published(draft)
    if isinstance(published, Invalid):
        assert published.details, "every refusal says which fields are wrong"
        return
    for card in (card for phase in published.phases for card in phase.rate_cards):
        assert card.price.meter_id in {None, "met_1"}
        assert rate_lines(card.price.price, card.price.quantity, "EUR"), "what is sold can be rated"
    granted = {each.feature for phase in published.phases for each in phase.entitlements}
    assert granted <= {"fea_calls", "fea_sso"}


@given(patches, patches)
def test_an_edit_is_the_same_whether_its_draft_was_read_in_between(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = (msgspec.convert(each, PlanVersionPatch) for each in (one, other))
    try:
        at_once = revised(revised(BASE, first), second)
    except Invalid as refused:
        if refused.code != "prices_or_phases":
            raise
        return
    stored = spec_of(_drafted(revised(BASE, first)))
    ids = _drafted(revised(stored, second))
    meant = _drafted(at_once)
    assert msgspec.json.encode(ids) == msgspec.json.encode(meant)
