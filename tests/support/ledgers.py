"""Builders for ledger tests."""

from datetime import UTC, datetime, timedelta

import psycopg

from runtime.settings import PostgresSettings
from schemas.ledger import Intent, TenantCount

TOPIC = "topic-a"
LOGGED_AT = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = int(LOGGED_AT.timestamp()) // 3600


def add_partitions(settings: PostgresSettings, partitions: int, topic_id: str = TOPIC) -> None:
    with psycopg.connect(settings.url.reveal()) as connection:
        connection.cursor().executemany(
            "INSERT INTO ledger_partitions (topic_id, partition) VALUES (%s, %s)",
            [(topic_id, partition) for partition in range(partitions)],
        )


def intent(first: int, last: int, *, partition: int = 0, version: int = 1, stored: int = 3) -> Intent:
    """A block of `stored` events and one duplicate of one tenant, logged `first` seconds after LOGGED_AT."""
    logged_at = LOGGED_AT + timedelta(seconds=first)
    return Intent(
        topic_id=TOPIC,
        partition=partition,
        first_offset=first,
        last_offset=last,
        shard=0,
        version=version,
        evaluator=1,
        stored=stored,
        duplicate=1,
        rejected=0,
        forwarded=0,
        counts=[
            TenantCount(
                tenant="acme",
                environment="live",
                hour=HOUR,
                stored=stored,
                duplicate=1,
                rejected=0,
                forwarded=0,
            )
        ],
        row_hash=bytes([stored % 256]) * 16,
        max_event_at=None if stored == 0 else logged_at,
        first_logged_at=logged_at,
        last_logged_at=logged_at,
    )
