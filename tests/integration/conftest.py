"""Real servers for integration tests: each is started by the first test that asks for it, once a run."""

from collections.abc import Generator, Iterator

import pytest

from tests.support.servers import running


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """postgresql://user:password@127.0.0.1:port/meterstream, an empty database with a superuser."""
    with running("postgres") as endpoints:
        yield endpoints["postgres_url"]


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """127.0.0.1:port of an empty broker; topics are not created by themselves."""
    with running("kafka") as endpoints:
        yield endpoints["kafka_bootstrap"]


@pytest.fixture(scope="session")
def temporal_address() -> Iterator[str]:
    """127.0.0.1:port of a server with the namespace `default`."""
    with running("temporal") as endpoints:
        yield endpoints["temporal_address"]


@pytest.fixture(scope="session")
def clickhouse_url() -> Iterator[str]:
    """http://127.0.0.1:port of an empty server."""
    with running("clickhouse") as endpoints:
        yield endpoints["clickhouse_url"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed contract of Faust says which version it is about."""
    report = yield
    if report.failed and item.path.name == "test_faust_contract.py":
        report.sections.append(
            (
                "contract",
                "faust-streaming==0.15.3 is pinned in pyproject.toml: another version does not keep this contract",
            )
        )
    return report
