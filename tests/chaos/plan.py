"""Which faults happen when: a function of the seed and the length alone, so that a run can be made again."""

import random
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from tests.chaos.proxy import Fate

FIRST_AT_S = 4.0
QUIET_END_S = 8.0
A_FAULT_EVERY_S = 8.0
A_FAULT_EVERY_S_WHEN_SHORT = 5.0
LONGEST_PAUSE_S = 40.0

INGEST = ("worker-ingest", "worker-ingest-2")
BALANCES = ("worker-balances", "worker-balances-2")
OTHERS = ("temporal-worker", "worker-notifications")
LINKED = ("api", *INGEST, *BALANCES, "temporal-worker")


class Kind(StrEnum):
    KILL_INGEST = "kill ingest worker"
    KILL_BALANCES = "kill balances worker"
    KILL_API = "kill API"
    KILL_OTHER = "kill closing or notifications worker"
    KILL_CLICKHOUSE = "kill ClickHouse"
    KILL_KAFKA = "kill Kafka"
    KILL_POSTGRES = "kill PostgreSQL"
    KILL_TEMPORAL = "kill Temporal"
    RESTART_POSTGRES = "restart PostgreSQL"
    PAUSE_INGEST = "stop and continue ingest worker"
    PAUSE_BALANCES = "stop and continue balances worker"
    LEAVE = "worker leaves and joins"
    CUT = "network cut"
    HOLD = "network loses packets"
    DELAY = "network delayed"
    INSERTS_BEFORE = "insert fails before writing"
    INSERTS_AFTER = "insert fails after writing"
    INSERTS_LATE = "insert arrives late"
    DISK_FULL = "disk of the filter full"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Begins `at_s` seconds after the load; `lasts_s` is how long it stays before it is taken away (0: at once over).

    `target` is a process, or `process/server` for the network between the two, where all processes share Kafka's.
    """

    at_s: float
    kind: Kind
    target: str
    lasts_s: float = 0.0
    fate: Fate | None = None
    times: int = 0

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        inserts = f" {self.fate} x {self.times}" if self.fate else ""
        return f"{self.at_s:6.1f} s  {self.kind}: {self.target}{inserts}{lasts}"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault of a kind is drawn from."""

    targets: Sequence[str]
    lasts_s: tuple[float, float] = (0.0, 0.0)
    fates: Sequence[Fate | None] = (None,)
    times: int = 0


OUTAGE_S = (0.5, 10.0)
PAUSE_S = (5.0, LONGEST_PAUSE_S)
NETWORK_S = (3.0, 12.0)
NETWORKS = ("all/kafka", *(f"{app}/{server}" for app in LINKED for server in ("clickhouse", "postgres")))
SHAPES = {
    Kind.KILL_INGEST: Shape(targets=INGEST),
    Kind.KILL_BALANCES: Shape(targets=BALANCES),
    Kind.KILL_API: Shape(targets=("api",)),
    Kind.KILL_OTHER: Shape(targets=OTHERS),
    Kind.KILL_CLICKHOUSE: Shape(targets=("clickhouse",), lasts_s=OUTAGE_S),
    Kind.KILL_KAFKA: Shape(targets=("kafka",), lasts_s=OUTAGE_S),
    Kind.KILL_POSTGRES: Shape(targets=("postgres",), lasts_s=OUTAGE_S),
    Kind.KILL_TEMPORAL: Shape(targets=("temporal",), lasts_s=OUTAGE_S),
    Kind.RESTART_POSTGRES: Shape(targets=("postgres",)),
    Kind.PAUSE_INGEST: Shape(targets=INGEST, lasts_s=PAUSE_S),
    Kind.PAUSE_BALANCES: Shape(targets=BALANCES, lasts_s=PAUSE_S),
    Kind.LEAVE: Shape(targets=(*INGEST, *BALANCES), lasts_s=(5.0, 15.0)),
    Kind.CUT: Shape(targets=NETWORKS, lasts_s=NETWORK_S),
    Kind.HOLD: Shape(targets=NETWORKS, lasts_s=NETWORK_S),
    Kind.DELAY: Shape(targets=NETWORKS, lasts_s=NETWORK_S),
    Kind.INSERTS_BEFORE: Shape(targets=INGEST, lasts_s=(5.0, 5.0), fates=(Fate.REFUSED, Fate.ANSWERED_ERROR), times=6),
    Kind.INSERTS_AFTER: Shape(targets=INGEST, lasts_s=(5.0, 5.0), fates=(Fate.ANSWER_LOST,), times=6),
    Kind.INSERTS_LATE: Shape(targets=INGEST, lasts_s=(10.0, 10.0), fates=(Fate.LATE,), times=2),
    Kind.DISK_FULL: Shape(targets=INGEST, lasts_s=(4.0, 10.0)),
}
# In a long run each kind comes as often as it stands here, in turns.
DECK: tuple[Kind, ...] = (*Kind, Kind.KILL_INGEST, Kind.KILL_BALANCES, Kind.PAUSE_INGEST)
# A short run begins with these.
FIRST: tuple[Kind, ...] = (
    Kind.KILL_INGEST,
    Kind.PAUSE_INGEST,
    Kind.KILL_BALANCES,
    Kind.INSERTS_AFTER,
    Kind.KILL_CLICKHOUSE,
    Kind.KILL_API,
    Kind.HOLD,
)


def faults_of(seed: int, seconds: float, *, short: bool = False) -> list[Fault]:
    """The faults of a run of `seconds` of load, by their beginning."""
    chance = random.Random(f"faults {seed}")
    room = seconds - FIRST_AT_S - QUIET_END_S
    every_s = A_FAULT_EVERY_S_WHEN_SHORT if short else A_FAULT_EVERY_S
    count = max(1, int(room / every_s) + 1)
    kinds = _kinds(chance, count, short=short)
    longest = min(LONGEST_PAUSE_S, seconds / 4)
    return [
        _fault(chance, kind, FIRST_AT_S + room * (number + chance.random() * 0.8) / count, longest)
        for number, kind in enumerate(kinds)
    ]


def _kinds(chance: random.Random, count: int, *, short: bool) -> list[Kind]:
    kinds: list[Kind] = []
    if short:
        kinds += chance.sample(FIRST, len(FIRST))
    while len(kinds) < count:
        kinds += chance.sample(DECK, len(DECK))
    return kinds[:count]


def _fault(chance: random.Random, kind: Kind, at_s: float, longest_s: float) -> Fault:
    shape = SHAPES[kind]
    low, high = shape.lasts_s
    return Fault(
        at_s=round(at_s, 1),
        kind=kind,
        target=chance.choice(shape.targets),
        lasts_s=round(chance.uniform(low, max(low, min(high, longest_s))), 1),
        fate=chance.choice(shape.fates),
        times=chance.randint(1, shape.times) if shape.times else 0,
    )
