"""What the figures are to reach on one machine with two cores, and which figure tells."""

import msgspec

from bench.figures import LESS_IS_BETTER, Result


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`value` of the figure `figure` of `scenario`, or at least `share` of its ceiling."""

    scenario: str
    figure: str
    value: float | None = None
    share: float | None = None

    def is_met(self, found: Result) -> bool:
        if self.share is not None:
            return found.ratio is not None and found.ratio >= self.share
        if self.value is None:
            return True
        return found.value <= self.value if found.unit in LESS_IS_BETTER else found.value >= self.value


TARGETS = (
    Target(scenario="ingest", figure="1,000 events a request, 8 clients", value=150_000),
    Target(scenario="ingest", figure="100 events a request, 16 clients", value=80_000),
    Target(scenario="ingest", figure="1 event a request, 64 clients", value=5_000),
    Target(scenario="ingest", figure="1 event a request, 64 clients, p99", value=50),
    Target(scenario="check", figure="16 clients", value=4_000),
    Target(scenario="check", figure="16 clients, p50", value=2),
    Target(scenario="check", figure="16 clients, p99", value=10),
    Target(scenario="check", figure="100 checks a request, 16 clients", value=100_000),
    Target(scenario="check", figure="in process, the decision", value=20),
    Target(scenario="usage", figure="10,000,000 stored events, one customer, a month by day, p95", value=50),
    Target(scenario="closing", figure="1,000 due subscriptions", value=200),
    Target(scenario="closing", figure="10,000 due subscriptions", value=200),
    Target(scenario="memory", figure="ingest worker, 10,000,000 identities, peak", value=600),
    Target(scenario="memory", figure="API, 100,000 customers with 10 features each", value=250),
)


def target_of(found: Result) -> Target | None:
    return next((one for one in TARGETS if (one.scenario, one.figure) == (found.scenario, found.figure)), None)
