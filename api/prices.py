"""`/v1/prices`: what usage costs at a price, and what a past range would have come to at others. Nothing is stored."""

from typing import Any

from litestar import Controller, Request, post
from msgspec.structs import replace

from api.auth import Principal, require
from api.backtest import backtest_of
from api.deps import ApiDeps
from documents.steps import step_sentence
from domain.pricing.quote import quote
from schemas.backtests import Backtest, BacktestRequest
from schemas.quotes import Quote, QuoteRequest


class PricesController(Controller):
    path = "/v1/prices"
    tags = ("prices",)

    @post("/quote", guards=[require("catalog:read")], status_code=200)
    async def quote(self, data: QuoteRequest) -> Quote:
        """The lines that this usage makes at this price, with every step. Safe to repeat: it changes nothing."""
        made = quote(data)
        sentences = [step_sentence(step, made.currency) for line in made.lines for step in line.steps]
        return replace(made, explanation=tuple(sentences))

    @post("/backtest", guards=[require("invoices:read")], status_code=200)
    async def backtest(
        self, request: Request[Any, Any, Any], data: BacktestRequest, principal: Principal, deps: ApiDeps
    ) -> Backtest:
        """Past billing periods rated twice by what closes periods: as they are sold, and under other prices.

        Safe to repeat: it changes nothing. At one cut it answers the same for ever.
        """
        return await backtest_of(request, deps, principal.scope, data)
