"""How workflows call activities: every one beats, so that a killed worker is noticed whichever it was at.

An activity without beats is repeated only when its longest time is over. Measured: a worker killed while it looked for
due periods held up its closing run for five minutes, and a schedule that skips overlapping runs with it.
"""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.common import RetryPolicy
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor
from temporalio.workflow import ActivityConfig

BEAT_S = 2.0
SILENT_AT_MOST = timedelta(seconds=10)
START_TO_CLOSE = timedelta(minutes=5)
# Half a minute in all. What is away for longer ends the run; the schedule begins another, which finds what is left.
RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=3.0,
    maximum_interval=timedelta(seconds=10),
    maximum_attempts=6,
    # What takes too long would take as long again: it is done in smaller parts instead.
    non_retryable_error_types=["Invalid", "NotFound", "Conflict", "TookTooLong"],
)


def beating(within: timedelta = START_TO_CLOSE) -> ActivityConfig:
    """For an activity that a worker with `Beats` runs: at most `within` a try, tried again when the beats stop."""
    return ActivityConfig(start_to_close_timeout=within, heartbeat_timeout=SILENT_AT_MOST, retry_policy=RETRY)


class Beats(Interceptor):
    """Tells Temporal that an activity goes on, from its first to its last moment."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Beating(next)


class _Beating(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        beats = asyncio.create_task(_beat())
        try:
            return await super().execute_activity(input)
        finally:
            beats.cancel()


async def _beat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(BEAT_S)
