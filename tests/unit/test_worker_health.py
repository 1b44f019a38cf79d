"""What a worker says of itself before it has joined its group."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streams.health import Health


class Unstarted:
    """The consumer as it is until its thread runs: asking it anything raises."""

    def assignment(self) -> set[Any]:
        raise RuntimeError("Consumer thread not yet started")


def health(generation: int, consumer: Any) -> Health:
    app = SimpleNamespace(
        started=True,
        rebalancing=False,
        in_recovery=False,
        consumer_generation_id=generation,
        consumer=consumer,
        stopped={},
    )
    return Health(app, host="127.0.0.1", port=0, stalled_after_s=1.0, recovery_max_s=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("generation", "ready"), [(0, False), (1, True)])
async def test_a_worker_is_not_ready_before_it_has_joined_its_group(generation: int, *, ready: bool) -> None:
    answer = await health(generation, Unstarted())._readyz(None)  # type: ignore[arg-type]
    said = msgspec.json.decode(answer.body)  # type: ignore[arg-type]
    assert (answer.status == 200, said["ready"]) == (ready, ready)
    assert said["missing"] == ([] if ready else ["partitions"])


async def test_a_consumer_that_has_not_started_is_asked_for_nothing() -> None:
    assert health(0, Unstarted())._offsets() == ({}, {})
