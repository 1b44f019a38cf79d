"""`/v1/prices/quote`: what usage costs at a price, and how that comes about. Nothing is stored."""

from litestar import Controller, post
from msgspec.structs import replace

from api.auth import require
from documents.steps import step_sentence
from domain.pricing.quote import quote
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
