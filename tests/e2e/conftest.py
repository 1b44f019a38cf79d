"""The running system, once a run."""

from collections.abc import Iterator

import pytest

from tests.support.system import System, running_system


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with servers of their own run first: two systems never share the machine."""
    items.sort(key=lambda item: "system" in getattr(item, "fixturenames", ()))
