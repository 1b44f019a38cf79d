"""The notifications agent: what is to be told to the outside. Crossings are logged and counted here.

A crossing is delivered at least once; its Kafka key is its idempotency key.
"""

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from domain.errors import Invalid
from runtime import metrics
from schemas.contracts import ThresholdCrossed
from schemas.topics import ENTITLEMENTS_THRESHOLDS
from streams.app import App, raw_topic
from streams.consume import Rejection, consume
from streams.deps import WorkerDeps

_decoder = msgspec.json.Decoder(ThresholdCrossed)
_log = structlog.get_logger(__name__)


class Crossings:
    """The steps of a batch of crossings (`streams.consume.Steps`). It keeps no state."""

    def decode(self, event: Any) -> ThresholdCrossed:
        try:
            return _decoder.decode(event.message.value or b"")
        except msgspec.DecodeError as error:
            raise Invalid("malformed_json", str(error)) from error

    async def prepare(self, decoded: Sequence[ThresholdCrossed]) -> None:
        """Nothing is needed."""

    def step(self, decoded: Sequence[ThresholdCrossed]) -> Sequence[ThresholdCrossed]:
        return decoded

    async def emit(self, effects: Sequence[ThresholdCrossed], rejected: Sequence[Rejection]) -> None:
        for crossed in effects:
            metrics.threshold_crossings.inc()
            _log.info(
                "threshold crossed",
                tenant=crossed.tenant,
                environment=crossed.environment,
                customer=crossed.customer_id,
                feature=crossed.feature_key,
                percent=crossed.threshold_percent,
                usage=str(crossed.usage),
                limit=str(crossed.limit),
            )
        for refused in rejected:
            _log.error("a crossing cannot be read", offset=refused.event.message.offset, code=refused.code)

    async def write(self, effects: Sequence[ThresholdCrossed], events: Sequence[Any]) -> None:
        """Nothing is kept."""


def register(app: App, deps: WorkerDeps) -> None:
    """Put the agent on the app."""
    topic = raw_topic(app, ENTITLEMENTS_THRESHOLDS, deps.settings.kafka.balance_partitions)
    app.agent(topic, name="meterstream.notifications", concurrency=1)(functools.partial(_agent, deps))


async def _agent(deps: WorkerDeps, stream: Any) -> None:
    await consume(stream, Crossings(), budget_s=deps.settings.worker.retry_budget_s)
