"""What a backtest asks for, looked up: who, at which cut, under which prices."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from litestar import Request
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from api.catalog_references import look_up
from api.cuts import as_of_answer
from api.deps import ApiDeps
from api.usage_question import clickhouse_of
from domain.backtest import MAX_SUBSCRIPTIONS, check_backtest, rated_to
from domain.errors import invalid_field
from domain.meter_rules import check_billable
from domain.plan_billable import check_version_billable
from domain.plan_drafts import cards_of, entitlements_of, resolved
from domain.plan_phases import standing_phase
from domain.plan_validation import validate_plan_version
from domain.plan_versions import spec_of
from domain.plans import validate_plan
from domain.rate_cards import kept_card
from schemas.backtests import Backtest, BacktestRequest, OtherPrices
from schemas.periods import Cadence
from schemas.plan_phases import PlanVersion, RateCardSpec
from schemas.plans import PlanSpec
from schemas.prices import PlanPriceSpec
from schemas.scope import Scope
from stores.backtest import backtest
from stores.postgres import plan_drafts, plans
from stores.postgres.backtests import customer_ids, subscriptions_between
from stores.postgres.cuts import Cuts
from stores.postgres.engine import transaction


class _Cohort(Struct, frozen=True, kw_only=True):
    customers: Sequence[str] | None
    plan_id: str | None


async def backtest_of(request: Request[Any, Any, Any], deps: ApiDeps, scope: Scope, asked: BacktestRequest) -> Backtest:
    """Raises what `check_backtest` and `backtest` do; NotFound `customer_not_found`, `plan_not_found`,
    `plan_version_not_found`, `cut_unknown`; Conflict `cut_open`; Invalid where the other prices are not valid.
    """
    check_backtest(asked)
    async with transaction(deps.engine) as conn:
        cohort = await _cohort(conn, scope, asked)
        other = await _other_prices(conn, deps, scope, asked)
    clickhouse = clickhouse_of(deps)
    cut = await Cuts(deps.engine).complete() if asked.at is None else asked.at
    as_of = await as_of_answer(request, deps, cut)
    start, end = asked.start.astimezone(UTC), rated_to(asked, as_of)
    async with transaction(deps.engine) as conn:
        found = await subscriptions_between(
            conn, scope, start, end, customers=cohort.customers, plan_id=cohort.plan_id, limit=MAX_SUBSCRIPTIONS + 1
        )
    return await backtest(deps.engine, clickhouse, found, other, start=start, end=end, cut=cut, as_of=as_of)


async def _cohort(conn: AsyncConnection, scope: Scope, asked: BacktestRequest) -> _Cohort:
    if asked.holders_of is not None:
        return _Cohort(customers=None, plan_id=(await plans.get_plan(conn, scope, asked.holders_of)).id)
    return _Cohort(customers=await customer_ids(conn, scope, asked.customers or ()), plan_id=None)


async def _other_prices(conn: AsyncConnection, deps: ApiDeps, scope: Scope, asked: BacktestRequest) -> OtherPrices:
    if asked.plan is None:
        return await _listed(conn, deps, scope, asked.currency or "", asked.prices or ())
    head = await plans.get_plan(conn, scope, asked.plan)
    wanted = str(head.version_id if asked.version is None else asked.version)
    version: PlanVersion = await plan_drafts.get_version(conn, scope, head.id, wanted)
    spec = spec_of(version)
    if version.status == "draft":
        named = await look_up(conn, scope, cards_of(spec), entitlements_of(spec))
        validate_plan_version(spec, named.catalog)
        version = resolved(version, named.features, named.meter_ids)
    check_version_billable(spec)
    prices = tuple(card.price for card in standing_phase(version.phases).rate_cards)
    return OtherPrices(currency=head.currency, cadence=version.cadence.unit, prices=prices)


async def _listed(
    conn: AsyncConnection, deps: ApiDeps, scope: Scope, currency: str, prices: Sequence[PlanPriceSpec]
) -> OtherPrices:
    """Prices that are no plan's, valid as if a plan were created with them."""
    validate_plan(PlanSpec(key="backtest", currency=currency, prices=tuple(prices)), "pla")
    cards = [RateCardSpec(price=price) for price in prices]
    named = await look_up(conn, scope, cards, ())
    for position, price in enumerate(prices):
        if price.meter is None:
            continue
        pointer = f"/prices/{position}/meter"
        if price.meter not in named.meters:
            raise invalid_field(pointer, "meter_unknown", f"there is no meter {price.meter!r}")
        check_billable(named.meters[price.meter], pointer)
    month = Cadence(unit="month")  # only a card has a cadence; the prices are billed at that of the plan that is held
    kept = tuple(kept_card(card, currency, month, named.meter_ids, deps.ids.new).price for card in cards)
    return OtherPrices(currency=currency, cadence=None, prices=kept)
