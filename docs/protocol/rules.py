"""What the model is made of: the rules that a mutant changes, and the state that the rules act on."""

from typing import Any, NamedTuple

Rules = dict[str, Any]
Offsets = tuple[int, ...]
Rows = tuple[tuple[int, int], ...]  # (offset, catalog version) of each event that is accepted

RULES: Rules = {  # as the code has it; a mutant changes one, and a variant names another sound choice
    "fencing": True,  # intent and done are compare-and-set on the epoch
    "cas": True,  # ... in one statement, not a check and then a write
    "chain": True,  # an intent begins exactly after the last ledger row, in the same compare-and-set
    "generation": "relaxed",  # "none": any worker may raise the epoch; "strict": none of an older generation, ever
    "contiguity": True,  # the worker raises when an offset is missing
    "idle_check": True,  # an idle worker compares the ledger with the end of the log (a lost last record shows no gap)
    "dedup": "earlier",  # duplicate if known at an earlier position; "position": at any other; "claim": if known
    "token": "range",  # or "attempt" (a new token per try), "none"
    "window": 99,  # tokens each table remembers
    "composition": "intent",  # or "own": the successor drops an open intent and cuts its own block
    "ack": "last",  # or "first"
    "resume": "ledger",  # or "commit": read again from Kafka's commit without skipping done blocks
    "rebuild": "after_fence",  # or "before_fence"
    "filter": "caught_up",  # "stale" (local, as it was left), "lagging" (from a replica behind), "ahead" (of the ledger)
    "reevaluate": True,  # an inherited block goes through the filter even if its rows are stored already
    "versions": "intent",  # or "current": an inherited block is matched with the worker's own catalog version
    "monotone": True,  # a worker waits until its catalog is at least the ledger's last version
    "clock": "record",  # or "worker": `event_too_old` judged when processed
    "day": "intent",  # or "send": the ingestion day is that of the insert
    "deadline": True,  # an insert is refused by the server once its deadline passed (deadline < token memory)
    "look": "rebuild",  # an older intent: renew it, wait out its deadlines, look, complete its windows; "skip", "no", "hasty"
    "deltas": "after_done",  # a successor repeats them; or "before_done", "before_ack"
    "await": True,  # deltas of a block are acknowledged before the next block's are sent
    "guard": "max",  # last applied block per counter and source partition; or "none"
    "seed": "done",  # a seed's cut is the last done block; "intent": the last intent, once it is done
    "pipeline": "off",  # "on": the next block is judged during the insert, its intent joins the done; "unentered", "loose"
}
CUSTOMER = {"a": 0, "b": 1, "c": 0, "d": 1}
TOO_OLD_TOMORROW = "b"


class Block(NamedTuple):
    """What an intent fixes."""

    first: int
    last: int
    cat: int
    day: int
    era: int
    rows: Rows


class Worker(NamedTuple):
    pc: str
    epoch: int
    pos: int
    blk: Block | None
    inherit: Block | None
    filt: tuple[int | None, ...]
    sent: int
    era: int
    gen: int  # the group's generation in which it was assigned the partition
    nxt: Block | None  # the block after `blk`, judged while that is being inserted


class Row(NamedTuple):
    """A row of the ledger."""

    b: Block
    epoch: int
    done: bool


class Left(NamedTuple):
    """How many faults of each kind may still happen."""

    crash: int = 0
    rebalance: int = 0
    timeout: int = 0
    noise: int = 0  # tokens forgotten
    drop: int = 0  # a queued record is lost
    cat: int = 0
    day: int = 0
    server: int = 0  # an insert is dropped, perhaps half-way
    seed: int = 0
    forget: int = 0  # Kafka forgets the group: generations and commits begin anew
    hour: int = 0  # an hour without a sign of life


class State(NamedTuple):
    committed: int
    owner: int
    epoch: int
    ledger: tuple[Row, ...]
    ev: Rows
    win: Rows
    tok_e: tuple[Any, ...]
    tok_w: tuple[Any, ...]
    wire: tuple[Any, ...]  # inserts under way: (token, rows, who waits for the reply or -1, stage)
    deltas: tuple[tuple[Any, ...], tuple[Any, ...]]  # the log of each customer: (first, last, amount)
    pend: tuple[Any, ...]  # deltas that nobody waits for
    cat: int
    day: int
    era: int
    ws: tuple[Worker, Worker]
    left: Left
    seed: tuple[int, int, int] | None
    group: int  # Kafka's generation of the group
    lgen: int  # the ledger's: of the last take-over
    aged: bool  # no sign of life for an hour


class Violation(Exception):  # noqa: N818 - what a search looks for
    """A state that must not be."""


def put(items: Any, k: int, *new: Any) -> Any:
    """`items` with `new` in place of item k."""
    return items[:k] + new + items[k + 1 :]


def orphan(wire: tuple[Any, ...], me: int) -> tuple[Any, ...]:
    """Nobody waits for the replies of these any more."""
    return tuple((*i[:2], -1, i[3]) if i[2] == me else i for i in wire)


def push(deltas: Any, c: int, d: Any) -> Any:
    return put(deltas, c, (*deltas[c], d))


def less(left: Left, name: str) -> Left:
    return left._replace(**{name: getattr(left, name) - 1})
