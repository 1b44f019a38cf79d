"""A page for each pricing model, and its example comes out as it says."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.pricing import rate_lines, validate_price
from domain.quantities import format_quantity
from schemas.priced_usage import PricedUsage, TermProgress
from schemas.prices import PRICE_MODELS, Price, RatedLine

PAGES = Path(__file__).parents[2] / "docs" / "pricing"
EXAMPLE = re.compile(r"^```pricing\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in sorted(PAGES.glob("*.md"))
    for number, text in enumerate(EXAMPLE.findall(page.read_text()), 1)
]


class Example(msgspec.Struct, forbid_unknown_fields=True):
    """`before` and `last` where the line is not the only one of its period; `lines` are what comes out."""

    price: Price
    currency: str
    usage: PricedUsage
    lines: list[dict[str, Any]]
    before: PricedUsage | None = None
    last: bool = True
    term: TermProgress = TermProgress()


def shown(line: RatedLine) -> dict[str, Any]:
    def step(kind: str, quantity: Decimal, unit_amount: Decimal, amount: Decimal) -> str:
        return f"{kind} {format_quantity(quantity)} x {format_quantity(unit_amount)} = {format_quantity(amount)}"

    return {
        "kind": line.kind,
        "steps": [step(each.kind, each.quantity, each.unit_amount, each.amount) for each in line.steps],
        "amount": f"{line.amount:f}",
    }


@pytest.mark.parametrize("model", PRICE_MODELS)
def test_every_model_has_a_page_with_an_example_of_it(model: str) -> None:
    examples = EXAMPLE.findall((PAGES / f"{model}.md").read_text())
    assert model in {msgspec.json.decode(text)["price"]["model"] for text in examples}
    assert f"({model}.md)" in (PAGES / "README.md").read_text()


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_comes_out_as_the_page_says(text: str) -> None:
    example = msgspec.json.decode(text, type=Example)
    validate_price(example.price)
    lines = rate_lines(
        example.price,
        example.usage,
        example.currency,
        before=example.before,
        last=example.last,
        term=example.term,
    )
    assert [shown(line) for line in lines] == example.lines
