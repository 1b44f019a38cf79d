"""Topics of the shared broker: a file of tests that needs our topics fresh deletes them first."""

from collections.abc import Iterable

from confluent_kafka.admin import AdminClient

from tests.support.waiting import eventually

TIMEOUT_S = 15


def topics_of(admin: AdminClient) -> set[str]:
    return set(admin.list_topics(timeout=TIMEOUT_S).topics)


def delete_topics(admin: AdminClient, names: Iterable[str]) -> None:
    """Delete those of `names` that exist, and wait until the broker no longer knows them."""
    found = set(names) & topics_of(admin)
    if found:
        for future in admin.delete_topics(list(found), operation_timeout=TIMEOUT_S).values():
            future.result(TIMEOUT_S)
    eventually(lambda: not found & topics_of(admin), within_s=TIMEOUT_S)
