"""What the figures are to reach on one machine with two cores, and which figure tells."""

from collections.abc import Sequence

import msgspec

from bench.figures import LESS_IS_BETTER, Result
from bench.report import number


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """For the figure `figure` of `scenario` one of three: a `value`, at least the `share` of its ceiling, or at most so
    many `times` the figure `than`.
    """

    scenario: str
    figure: str
    value: float | None = None
    share: float | None = None
    times: float = 1.0
    than: str = ""

    @property
    def aim(self) -> str:
        if self.than:
            return f"{self.times} x ({self.than})"
        return number(self.value) if self.share is None else f"{self.share} of the ceiling"

    def is_met(self, results: Sequence[Result]) -> bool | None:
        """None where what it takes was not measured."""
        found = self.found(results)
        if found is None:
            return None
        if self.share is not None:
            return found.ratio is not None and found.ratio >= self.share
        if self.than:
            other = _named(results, self.scenario, self.than)
            return None if other is None else found.value <= self.times * other.value
        least = self.value or 0.0
        return found.value <= least if found.unit in LESS_IS_BETTER else found.value >= least

    def found(self, results: Sequence[Result]) -> Result | None:
        return _named(results, self.scenario, self.figure)


def _named(results: Sequence[Result], scenario: str, figure: str) -> Result | None:
    return next((one for one in results if (one.scenario, one.figure) == (scenario, figure)), None)


_MONTH = "one customer, a month by day, p95"
_PIPELINE = "log to visible in windows, 1 worker"

TARGETS = (
    Target(scenario="ingest", figure="1,000 events a request, 8 clients", value=150_000),
    Target(scenario="ingest", figure="100 events a request, 16 clients", value=80_000),
    Target(scenario="ingest", figure="1 event a request, 64 clients", value=5_000),
    Target(scenario="ingest", figure="1 event a request, 64 clients, p99", value=50),
    Target(scenario="pipeline", figure=_PIPELINE, value=60_000),
    Target(scenario="pipeline", figure=_PIPELINE, share=0.6),
    Target(scenario="end-to-end", figure="held for 60 s, 1,000 events a request", value=40_000),
    *(
        Target(scenario="freshness", figure=f"at 1,000 events/s, visible {where}, p{percent}", value=value)
        for where in ("in check", "on the event stream")
        for percent, value in ((50, 300), (99, 1000))
    ),
    Target(scenario="check", figure="16 clients, p50", value=2),
    Target(scenario="check", figure="16 clients, p99", value=10),
    Target(scenario="check", figure="16 clients", value=4_000),
    Target(scenario="check", figure="100 checks a request, 16 clients", value=100_000),
    Target(scenario="check", figure="in process, the decision", value=20),
    Target(scenario="usage", figure=f"10,000,000 stored events, {_MONTH}", value=50),
    Target(
        scenario="usage",
        figure=f"100,000,000 stored events, {_MONTH}",
        times=1.5,
        than=f"10,000,000 stored events, {_MONTH}",
    ),
    Target(scenario="closing", figure="1,000 due subscriptions", value=200),
    Target(scenario="closing", figure="10,000 due subscriptions", value=200),
    Target(
        scenario="cost",
        figure="100,000,000 stored events, all processes",
        times=1.2,
        than="1,000,000 stored events, all processes",
    ),
    Target(scenario="memory", figure="ingest worker, 10,000,000 identities, peak", value=600),
    Target(scenario="memory", figure="API, 100,000 customers with 10 features each", value=250),
)
