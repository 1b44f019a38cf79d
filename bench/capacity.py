"""What a rate of events needs: partitions, processes, servers, storage and money, from the costs that were measured.

`python -m bench.capacity [RESULTS.json ...]` prints the table. Every number is a measured cost times a rate, rounded up to
whole processes and servers; the assumptions are the constants below, and what they leave out is said on the page.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench.figures import Result
from bench.published import published_results

RATES = (1_000, 100_000, 1_000_000)  # events/s, held all the time

# --- assumptions ------------------------------------------------------------------------------------------------------

UTILISATION = 0.6  # of a core, at the held rate: the rest is for peaks, restarts and catching up
PARTITIONS_A_WORKER = 2  # so that workers can be doubled without a new topic generation (protocol 5)
CORES_A_SERVER = 8  # of ClickHouse, Kafka and PostgreSQL
CLICKHOUSE_REPLICAS, KAFKA_REPLICAS = 2, 3
KAFKA_KEPT_DAYS = 7
EVENTS_KEPT_MONTHS = 3
DISK_FILLED = 0.7  # merges need room beside what they merge
PRICE_A_CORE_HOUR = 0.04  # USD, with 4 GB of memory
PRICE_A_GB_MONTH = 0.08  # USD, of network SSD
HOURS_A_MONTH = 730
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
SECONDS_A_DAY = 86_400

_MILLION = 1_000_000
_GB = 1_000_000_000
# Ours run on one core each; the servers' processes are threaded.
API, WORKER, BALANCES = "api", "worker-ingest", "worker-balances"
KAFKA, POSTGRES, CLICKHOUSE = "kafka", "postgres", "clickhouse"
PROCESSES = (API, WORKER, BALANCES, KAFKA, POSTGRES, CLICKHOUSE)


class MissingFigure(LookupError):  # noqa: N818 - it is the results that are incomplete
    """The results do not hold a cost that is needed: says which."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Of one event: CPU seconds per million by process, and bytes on disk without replicas."""

    cpu_s_a_million: Mapping[str, float]
    event_bytes: float  # in ClickHouse, events and windows
    log_bytes: float  # in Kafka


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one rate needs. `cores` are those that are paid for; money is USD a month."""

    events_per_second: int
    partitions: int
    api: int
    workers: int
    balances: int
    kafka: int
    clickhouse_shards: int
    clickhouse: int
    postgres: int
    cores: int
    storage_gb: float
    compute_money: float
    storage_money: float

    @property
    def money(self) -> float:
        return self.compute_money + self.storage_money

    @property
    def money_a_million(self) -> float:
        return self.money / (self.events_per_second * SECONDS_A_MONTH / _MILLION)


def plan(costs: Costs, events_per_second: int) -> Plan:
    cores = {name: cores_for(costs.cpu_s_a_million[name], events_per_second) for name in PROCESSES}
    api, workers, balances = (math.ceil(cores[name]) for name in (API, WORKER, BALANCES))
    # Three brokers and two of each database are the least that outlives one of them.
    kafka = max(KAFKA_REPLICAS, math.ceil(cores[KAFKA] * KAFKA_REPLICAS / CORES_A_SERVER))
    shards = math.ceil(cores[CLICKHOUSE] / CORES_A_SERVER)
    postgres = 2 * math.ceil(cores[POSTGRES] / CORES_A_SERVER)
    # Where a server is not filled by its work, a smaller one is paid for: at least two cores of each.
    paid = api + workers + balances
    paid += server_cores(cores[KAFKA] * KAFKA_REPLICAS, kafka)
    paid += server_cores(cores[CLICKHOUSE], shards) * CLICKHOUSE_REPLICAS
    paid += server_cores(2 * cores[POSTGRES], postgres)
    storage = storage_gb(costs, events_per_second)
    return Plan(
        events_per_second=events_per_second,
        partitions=partitions_for(workers),
        api=api,
        workers=workers,
        balances=balances,
        kafka=kafka,
        clickhouse_shards=shards,
        clickhouse=shards * CLICKHOUSE_REPLICAS,
        postgres=postgres,
        cores=paid,
        storage_gb=storage,
        compute_money=paid * HOURS_A_MONTH * PRICE_A_CORE_HOUR,
        storage_money=storage * PRICE_A_GB_MONTH,
    )


def cores_for(cpu_s_a_million: float, events_per_second: float) -> float:
    """Cores that are busy to `UTILISATION` at this rate."""
    return cpu_s_a_million / _MILLION * events_per_second / UTILISATION


def partitions_for(workers: int) -> int:
    """A power of two with at least `PARTITIONS_A_WORKER` for each worker, and no fewer than 4."""
    return max(4, 1 << math.ceil(math.log2(workers * PARTITIONS_A_WORKER)))


def server_cores(cores: float, servers: int) -> int:
    """Cores of `servers` equal machines that have `cores` together: two at least, and an even number each."""
    each = max(2, 2 * math.ceil(cores / servers / 2))
    return each * servers


def storage_gb(costs: Costs, events_per_second: float) -> float:
    """Gigabytes of disk with replicas and room, once everything is kept for as long as it is to be."""
    stored = costs.event_bytes * SECONDS_A_MONTH * EVENTS_KEPT_MONTHS * CLICKHOUSE_REPLICAS
    logged = costs.log_bytes * SECONDS_A_DAY * KAFKA_KEPT_DAYS * KAFKA_REPLICAS
    return (stored + logged) * events_per_second / DISK_FILLED / _GB


def costs_of(results: Sequence[Result]) -> Costs:
    """The costs with the most stored events that were measured. Raises MissingFigure."""
    found: dict[str, tuple[int, float]] = {}
    for one in results:
        level, _, name = one.figure.partition(" stored events, ")
        if one.scenario == "cost" and name:
            stored = int(level.replace(",", ""))
            if stored >= found.get(name, (0, 0.0))[0]:
                found[name] = (stored, one.value)
    wanted = (*PROCESSES, "bytes of events", "bytes of windows", "bytes of the log")
    if missing := [name for name in wanted if name not in found]:
        raise MissingFigure(f"no figure for {', '.join(missing)}: run the scenario `usage`")
    values = {name: value for name, (_, value) in found.items()}
    return Costs(
        cpu_s_a_million={name: values[name] for name in PROCESSES},
        event_bytes=values["bytes of events"] + values["bytes of windows"],
        log_bytes=values["bytes of the log"],
    )


def rows_of(plans: Sequence[Plan]) -> list[tuple[str, ...]]:
    """The table: a heading row, then one row a line."""
    rows: list[tuple[str, ...]] = [("events/s", *(f"{one.events_per_second:,}" for one in plans))]
    for label, values in _counted(plans).items():
        rows.append((label, *(f"{value:,.0f}" for value in values)))
    rows.append(("USD per million events", *(f"{one.money_a_million:.4f}" for one in plans)))
    return rows


def _counted(plans: Sequence[Plan]) -> dict[str, list[float]]:
    return {
        "partitions of usage.raw": [one.partitions for one in plans],
        "API processes": [one.api for one in plans],
        "ingest workers": [one.workers for one in plans],
        "balances workers": [one.balances for one in plans],
        "Kafka brokers": [one.kafka for one in plans],
        "ClickHouse shards": [one.clickhouse_shards for one in plans],
        "ClickHouse servers": [one.clickhouse for one in plans],
        "PostgreSQL servers": [one.postgres for one in plans],
        "cores, all together": [one.cores for one in plans],
        "disk, GB": [one.storage_gb for one in plans],
        "compute, USD a month": [one.compute_money for one in plans],
        "disk, USD a month": [one.storage_money for one in plans],
        "together, USD a month": [one.money for one in plans],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, help="JSON of runs, the later ones count")
    given = parser.parse_args()
    results = published_results(given.results)
    try:
        costs = costs_of(results)
    except MissingFigure as missing:
        print(missing)
        return 1
    for label, *cells in rows_of([plan(costs, rate) for rate in RATES]):
        print(f"{label:<26}" + "".join(f"{cell:>16}" for cell in cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
