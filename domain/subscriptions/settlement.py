"""What is still to be charged or given back: the fees that a life owes, against the lines that were booked for it.

It compares two states instead of following changes, so it comes out the same whenever and however often it is run, and
whatever was changed in between: once its lines are booked, there is nothing more to book.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from msgspec import structs

from domain.money import EXACT, ZERO
from domain.proration import part_of
from domain.subscriptions.fees import charged_of, creditable
from domain.subscriptions.segments import closed_at, held_cards, segments
from domain.subscriptions.service_periods import service_period
from schemas.subscription_life import BookedFee, FeeLine, FeeLineKind, Life, Segment, Sold


class _Fee(NamedTuple):
    """One fee in one of its periods."""

    price_id: str
    addon_version_id: str | None
    start: datetime
    end: datetime


class _Span(NamedTuple):
    """A span with the fee of a full period that is owed for it, and the one that is booked."""

    start: datetime
    end: datetime
    owed: Decimal
    booked: Decimal


def settle(
    life: Life,
    sold: Sold,
    booked: Sequence[BookedFee],
    since: datetime,
    advance_to: datetime,
    arrears_to: datetime | None = None,
) -> list[FeeLine]:
    """The lines to book, by when they are due; credits before what is charged instead. Fees only, not usage.

    It looks at periods that end after `since` (what ended before is settled) and takes all lines that were booked for
    them. In advance, a segment is due when it begins; in arrears, when its period has ended, or the subscription has:
    up to `advance_to` and `arrears_to` (the same instant, unless told). A credit never exceeds what was paid.
    """
    arrears_to = advance_to if arrears_to is None else arrears_to
    kept = [each for each in booked if each.line.whole_end > since]
    start, end = _reach(life, sold, kept, since, max(advance_to, arrears_to))
    owed: dict[_Fee, list[Segment]] = {}
    for segment in segments(life, sold, start, end):
        if segment.whole.end > since and charged_of(segment):
            owed.setdefault(_fee_of(segment), []).append(segment)
    lines: list[FeeLine] = []
    for fee in dict.fromkeys([*owed, *map(_fee_of_line, kept)]):
        mine = [each for each in kept if _fee_of_line(each) == fee]
        due = [_Due(each, _due_at(life, each)) for each in owed.get(fee, [])]
        to = _limit(due, mine, advance_to, arrears_to)
        lines += _settled(fee, [each for each in due if each.at <= to], mine, to, life.currency)
    return sorted(lines, key=_order)


class _Due(NamedTuple):
    segment: Segment
    at: datetime


def _due_at(life: Life, segment: Segment) -> datetime:
    return segment.start if segment.held.card.timing == "in_advance" else closed_at(life, segment)


def _limit(due: Sequence[_Due], booked: Sequence[BookedFee], advance_to: datetime, arrears_to: datetime) -> datetime:
    """How far this fee is looked at. A fee in arrears is booked when its period is over: no part of it is to come."""
    in_arrears = any(each.segment.held.card.timing == "in_arrears" for each in due)
    return arrears_to if in_arrears or any(each.line.due_at >= each.line.end for each in booked) else advance_to


def _reach(
    life: Life, sold: Sold, booked: Sequence[BookedFee], since: datetime, to: datetime
) -> tuple[datetime, datetime]:
    """From the start of the first period that ends after `since` to the end of the last that begins by `to`."""
    starts = [since, *(each.line.whole_start for each in booked)]
    ends = [to]
    if life.start_at is not None:
        for held in held_cards(life, sold):
            starts.append(service_period(life, held.card.cadence, max(since, life.start_at)).start)
            ends.append(service_period(life, held.card.cadence, max(to, life.start_at)).end)
    return min(starts), max(ends)


def _fee_of(segment: Segment) -> _Fee:
    held = segment.held
    return _Fee(held.card.price.id, held.addon_version_id, segment.whole.start, segment.whole.end)


def _fee_of_line(booked: BookedFee) -> _Fee:
    line = booked.line
    return _Fee(line.price_id, line.addon_version_id, line.whole_start, line.whole_end)


def _settled(
    fee: _Fee, due: Sequence[_Due], booked: Sequence[BookedFee], to: datetime, currency: str
) -> Iterator[FeeLine]:
    spans = [span for span in _spans(due, booked) if span.start <= to and span.owed != span.booked]
    whole = (fee.start, fee.end)
    left = creditable(booked)
    for start, end, amount in _runs(spans, _booked):
        credit = min(part_of(amount, whole, start, end, currency), left)
        left = EXACT.subtract(left, credit)
        if credit:
            source = next(each.line for each in booked if each.line.start <= start < each.line.end)
            yield _credit(source, start, end, amount, credit)
    for start, end, amount in _runs(spans, _owed):
        holding = next(each for each in due if each.segment.start <= start < each.segment.end)
        charge = part_of(amount, whole, start, end, currency)
        if charge:
            at = max(start, holding.at)
            yield line_of("charge", holding.segment, start, end, whole_amount=amount, amount=charge, due_at=at)


def _spans(due: Sequence[_Due], booked: Sequence[BookedFee]) -> Iterator[_Span]:
    """The period cut wherever either side is cut."""
    edges = {at for each in due for at in (each.segment.start, each.segment.end)}
    edges |= {at for each in booked for at in (each.line.start, each.line.end)}
    for start, end in pairwise(sorted(edges)):
        owed = [charged_of(each.segment) for each in due if each.segment.start <= start < each.segment.end]
        yield _Span(start, end, owed[0] if owed else ZERO, _booked_at(booked, start))


def _booked_at(booked: Iterable[BookedFee], at: datetime) -> Decimal:
    """The full fee that stands booked at an instant: charges less the credits that took them back."""
    standing = ZERO
    for each in booked:
        if each.line.start <= at < each.line.end:
            whole = each.line.whole_amount
            standing = EXACT.subtract(standing, whole) if each.line.kind == "credit" else EXACT.add(standing, whole)
    return standing


def _owed(span: _Span) -> Decimal:
    return span.owed


def _booked(span: _Span) -> Decimal:
    return span.booked


def _runs(spans: Iterable[_Span], side: Callable[[_Span], Decimal]) -> Iterator[tuple[datetime, datetime, Decimal]]:
    """Neighbouring spans of one amount as one; none where it is 0."""
    run: tuple[datetime, datetime, Decimal] | None = None
    for span in spans:
        amount = side(span)
        if run is not None and run[1] == span.start and run[2] == amount:
            run = (run[0], span.end, amount)
            continue
        if run is not None and run[2]:
            yield run
        run = (span.start, span.end, amount)
    if run is not None and run[2]:
        yield run


def line_of(
    kind: FeeLineKind,
    segment: Segment,
    start: datetime,
    end: datetime,
    *,
    whole_amount: Decimal,
    amount: Decimal | None,
    due_at: datetime,
) -> FeeLine:
    held = segment.held
    return FeeLine(
        kind=kind,
        price_id=held.card.price.id,
        price_key=held.card.price.key,
        plan_version_id=held.plan_version_id,
        addon_version_id=held.addon_version_id,
        quantity=EXACT.multiply(held.quantity, Decimal(held.times)),
        whole_start=segment.whole.start,
        whole_end=segment.whole.end,
        whole_amount=whole_amount,
        start=start,
        end=end,
        amount=amount,
        due_at=due_at,
    )


def _credit(source: FeeLine, start: datetime, end: datetime, whole_amount: Decimal, credit: Decimal) -> FeeLine:
    return structs.replace(
        source,
        kind="credit",
        start=start,
        end=end,
        whole_amount=whole_amount,
        amount=EXACT.minus(credit),
        due_at=start,
    )


def _order(line: FeeLine) -> tuple[datetime, datetime, bool]:
    return line.due_at, line.start, line.kind != "credit"
