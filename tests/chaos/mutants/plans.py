"""For each mutant the interleaving that its rule is there for. Played on the code as it is, each must end well."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from decimal import Decimal

import msgspec

from schemas.contracts import CustomerContract, Entitlement
from schemas.events import UsageEvent
from schemas.meters import Meter
from schemas.topics import CONTRACTS_CHANGED, USAGE_DELTAS
from tests.chaos.mutants.ground import Ground
from tests.chaos.mutants.truth import differences
from tests.support.ingest import ENVIRONMENT, NOW, TENANT
from tests.support.pipeline import produce, read_topic
from tests.support.waiting import eventually_async

CALLS = Meter(id="met_calls", key="calls", event_types=("call",), aggregation="count")
BYTES = Meter(id="met_bytes", key="bytes", event_types=("call",), aggregation="sum", value_property="bytes")
# A zombie acts for so long before it learns that it is one.
UNAWARE_S = 4
COMMITTED_WITHIN_S = 4.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`settings` and `faults` are those of every process of the run."""

    play: Callable[[Ground], Awaitable[None]]
    settings: dict[str, str] = {}
    faults: Sequence[str] = ()
    balances: bool = False


def call(number: int) -> UsageEvent:
    """Of a known customer."""
    return UsageEvent(
        id=f"e{number}",
        type="call",
        customer=f"c{number % 5}",
        time=NOW - timedelta(seconds=number),
        properties={"bytes": Decimal(number + 1)},
    )


async def zombie_with_another_block(g: Ground) -> None:
    """A has cut a block and stops before its intent; B cuts a longer one over it; A goes on."""
    await g.learn(CALLS)
    a = g.worker("a", "gate=intent", f"unaware={UNAWARE_S}")
    await g.send(call(0))
    await a.reached("intent")
    a.pause()
    last = await g.send(call(1))
    g.worker("b", kept=True)
    await g.done(last)
    a.open("intent")
    a.resume()
    await g.gone(a, UNAWARE_S + 2)
    a.kill()
    # What a mutant has done to the ledger must show, too.
    await g.send(call(2))


async def lost_in_the_middle(g: Ground) -> None:
    """The second of three records is dropped from the queue."""
    await g.learn(CALLS)
    for number in range(3):
        await g.send(call(number))
    g.worker("a", "lose=1", kept=True)


async def dies_with_the_filter_ahead(g: Ground) -> None:
    """A dies when its block is in the filter and not in the table; it starts again on its disk."""
    await g.learn(CALLS)
    a = g.worker("a")
    await g.done(await g.send(call(0)))
    a.kill()
    a = g.worker("a", "gate=insert", "note=enter")
    await g.send(call(1))
    await a.reached("insert")
    await a.reached("enter")
    a.kill()
    g.worker("a", kept=True)


async def answer_lost(g: Ground) -> None:
    """The server wrote the block, the worker does not know."""
    await g.learn(CALLS)
    g.worker("a", "lose-answer=1", kept=True)
    await g.send(call(0))


BLOCK_AGE_S = 0.5
HORIZON_S = 9
# More blocks than a table remembers by these settings: 2 H a block age, and some.
FORGOTTEN_AFTER = int(2 * HORIZON_S / BLOCK_AGE_S) + 5


async def insert_after_the_token(g: Ground) -> None:
    """A stops between its look at the deadline and the POST; B stores the block; its token is forgotten; A goes on."""
    await g.learn(CALLS)
    a = g.worker("a", "gate=insert", f"unaware={UNAWARE_S}")
    await g.send(call(0))
    await a.reached("insert")
    a.pause()
    g.worker("b", kept=True)
    await g.done(0)
    for number in range(1, FORGOTTEN_AFTER + 1):
        await g.done(await g.send(call(number)))
    a.open("insert")
    a.resume()
    await g.gone(a, UNAWARE_S + 2)
    a.kill()


async def catalog_moves_on(g: Ground) -> None:
    """A dies after its intent; B knows a newer catalog, in which the event matches one more meter."""
    await g.learn(CALLS)
    a = g.worker("a", "gate=insert")
    await g.send(call(0))
    await a.reached("insert")
    a.kill()
    await g.learn(BYTES)
    g.worker("b", kept=True)
    await g.send(call(1))


async def received_long_ago(g: Ground) -> None:
    """Accepted by the API yesterday, when the event was 34 days old; processed today."""
    await g.learn(CALLS)
    old = msgspec.structs.replace(call(0), time=NOW - timedelta(days=35, hours=12))
    await g.send(old, received_at=NOW - timedelta(days=1))
    g.worker("a", kept=True)


async def last_block_of_the_former_owner(g: Ground) -> None:
    """A finishes a block while B is about to fence it; then comes a copy of what was in the block."""
    await g.learn(CALLS)
    a = g.worker("a", "gate=insert", f"unaware={UNAWARE_S}")
    first = await g.send(call(0))
    await a.reached("insert")
    a.pause()
    b = g.worker("b", "gate=fence", kept=True)
    await b.reached("fence")
    a.open("insert")
    a.resume()
    await g.done(first)
    a.kill()
    b.open("fence")
    await g.send(call(0), copy=True)


async def deltas_come_again(g: Ground) -> None:
    """A successor repeats the deltas of a block that the balances have applied."""
    await g.learn(CALLS)
    entitlement = Entitlement(
        feature_id="fea_calls",
        feature_key="calls",
        kind="metered",
        subscription_id="sub_0",
        starts_at=(NOW - timedelta(days=20)).replace(microsecond=0),
        meter_id=CALLS.id,
        aggregation="count",
        limit=Decimal(300),
        usage_period="never",
    )
    contract = CustomerContract(
        version=1,
        tenant=TENANT,
        environment=ENVIRONMENT,
        customer_id="cus_0",
        references=["cus_0", "c0"],
        entitlements=[entitlement],
    )
    key = f"{TENANT}/{ENVIRONMENT}/cus_0".encode()
    await produce(g.stack.bootstrap, CONTRACTS_CHANGED, [(0, msgspec.json.encode(contract), [])], key=key)
    g.worker("a", kept=True)
    g.worker("balances", role="balances", kept=True)
    # Seeded while there is nothing yet: from here on its counter lives of deltas.
    await eventually_async(lambda: _agrees(g), 40)
    # Two, so that counting them again looks at no moment like the one that comes afterwards.
    await g.done(await g.send(call(0), call(5)))
    await eventually_async(lambda: _agrees(g), 20)
    sent = [one.value for one in await read_topic(g.stack.bootstrap, USAGE_DELTAS, 1) if b"cus_0" in one.value]
    await produce(g.stack.bootstrap, USAGE_DELTAS, [(0, sent[-1], [])], key=f"{g.stack.topic_id}/0".encode())
    await g.send(call(10))


async def _agrees(g: Ground) -> bool:
    return not await differences(g, balances=True)


async def dies_between_done_and_deltas(g: Ground) -> None:
    await g.learn(CALLS)
    a = g.worker("a", "gate=tell")
    await g.send(call(0))
    await a.reached("tell")
    a.kill()
    g.worker("b", kept=True)
    await g.send(call(1))


async def dies_after_what_it_may_have_committed(g: Ground) -> None:
    """As before, with time enough for a commit of what was acknowledged too early."""
    await g.learn(CALLS)
    a = g.worker("a", "gate=tell")
    last = await g.send(call(0))
    await a.reached("tell")

    async def is_committed() -> bool:
        return await g.committed(g.group) > last

    with contextlib.suppress(AssertionError):  # as it must be
        await eventually_async(is_committed, COMMITTED_WITHIN_S, every_s=0.3)
    a.kill()
    g.worker("b", kept=True)
    await g.send(call(1))


async def lost_at_the_end(g: Ground) -> None:
    """The last record of the log is dropped from the queue: no gap shows."""
    await g.learn(CALLS)
    g.worker("a", "lose=1", kept=True)
    await g.done(await g.send(call(0)))
    await g.send(call(1))


PLANS: dict[str, Plan] = {
    "fencing-and-chain": Plan(play=zombie_with_another_block),
    "contiguity-and-chain": Plan(play=lost_in_the_middle),
    "position-rule": Plan(play=dies_with_the_filter_ahead),
    "insert-token": Plan(play=answer_lost),
    "deadline": Plan(
        play=insert_after_the_token,
        settings={
            "METERSTREAM_INGEST_INSERT_DEADLINE_S": "3",
            "METERSTREAM_INGEST_TOKEN_HORIZON_S": str(HORIZON_S),
            "METERSTREAM_INGEST_BLOCK_MAX_AGE_S": str(BLOCK_AGE_S),
        },
        faults=("small-memory=1",),
    ),
    "versions-in-intent": Plan(play=catalog_moves_on),
    "receipt-time": Plan(play=received_long_ago),
    "take-over-order": Plan(play=last_block_of_the_former_owner),
    "block-guard": Plan(
        play=deltas_come_again,
        # The comparison with the usage would mend what the guard lets through: a second net, cut as the chain is.
        settings={"METERSTREAM_BALANCES_RECONCILE_INTERVAL_S": "0"},
        balances=True,
    ),
    "deltas-order": Plan(play=dies_between_done_and_deltas),
    "ack-order": Plan(play=dies_after_what_it_may_have_committed),
    "idle-check": Plan(play=lost_at_the_end),
}
