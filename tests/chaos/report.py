"""What a run came to, for people, and one line for programs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

from tests.chaos.faults import Survived
from tests.chaos.load import Counts

SHOWN = 25


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`spoiled` are the inserts that came to a fate; `stored`, `duplicates` and `rejected` are what the system says (GET /v1/reconciliation)."""

    seed: int
    survived: Sequence[Survived]
    counts: Counts
    spoiled: Mapping[str, int]
    stored: int
    duplicates: int
    rejected: int
    invoices: int
    compared: int
    differences: Sequence[str]
    logs: Path

    @property
    def passed(self) -> bool:
        return not self.differences


def lines_of(result: Result) -> list[str]:
    """The table of faults, the events, the differences, and last the verdict."""
    by_kind: defaultdict[str, list[Survived]] = defaultdict(list)
    happened = [one for one in result.survived if one.effect]
    for one in happened:
        by_kind[str(one.fault.kind)].append(one)
    lines = ["", f"{'fault':<38}{'times':>6}{'recovered after, median':>26}{'longest':>10}"]
    lines += [f"{kind:<38}{len(by_kind[kind]):>6}{_recovery(by_kind[kind])}" for kind in sorted(by_kind)]
    lines.append(f"{'in all':<38}{len(happened):>6}{_recovery(happened)}")
    lines += [f"without effect, since no insert came: {one.fault}" for one in result.survived if not one.effect]
    counts = result.counts
    spoiled = ", ".join(f"{times} {fate}" for fate, times in sorted(result.spoiled.items()))
    answered = f"{counts.accepted:,} accepted, {counts.refused:,} refused, {counts.unanswered:,} without an answer"
    counted = f"{result.stored:,} stored, {result.duplicates:,} duplicates, {result.rejected:,} rejected"
    lines += [
        f"inserts: {spoiled or 'none spoiled'}",
        "",
        f"{counts.sent:,} events sent in {counts.requests:,} requests: {answered}",
        f"{counted}; {result.invoices} invoices; {result.compared:,} comparisons",
    ]
    if not result.passed:
        lines += ["", *(f"DIFFERENCE {text[:600]}" for text in result.differences[:SHOWN])]
        lines += [f"... {len(result.differences)} in all", f"data and logs are kept in {result.logs}"]
    verdict = "PASS" if result.passed else "FAIL"
    lines.append(
        f"chaos: {verdict} seed={result.seed} faults={len(happened)} accepted={counts.accepted}"
        f" duplicates={result.duplicates} rejected={result.rejected} differences={len(result.differences)}"
    )
    return lines


def _recovery(survived: Sequence[Survived]) -> str:
    known = [one.recovered_s for one in survived if one.recovered_s is not None]
    if not known:
        return f"{'-':>26}{'-':>10}"
    return f"{median(known):>24.1f} s{max(known):>8.1f} s"
