"""What a process logs: one line a fact, ours and libraries' alike, and never a secret."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from runtime.logs import configure_logging
from runtime.settings import LogSettings, Secret

KEY = "ms_abcdefgh_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def _logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_lines_are_json_with_instant_level_logger_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(json=True))
    structlog.get_logger("stores.relay").info("outbox_sent", rows=3)
    logging.getLogger("some.library").warning("slow: %s", "disk")
    ours, theirs = _logged(capsys)
    assert (ours["event"], ours["rows"], ours["level"], ours["logger"]) == ("outbox_sent", 3, "info", "stores.relay")
    assert str(ours["timestamp"]).endswith("Z")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("slow: disk", "warning", "some.library")


def test_a_line_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(json=True, level="warning"))
    structlog.get_logger("a").info("quiet")
    structlog.get_logger("a").warning("loud")
    assert [line["event"] for line in _logged(capsys)] == ["loud"]
    with pytest.raises(ValueError, match="METERSTREAM_LOG_LEVEL"):
        configure_logging(LogSettings(level="chatty"))


def _refuse() -> None:
    raise RuntimeError(f"refused {KEY}")


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_print_as_stars_wherever_they_are(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
    configure_logging(LogSettings(json=as_json))
    log = structlog.get_logger("a")
    log.info("key", used=KEY, authorization="Basic hush", nested={"api_key": "hush", "list": [f"Bearer {KEY}"]})
    text = f"connecting to postgresql://user:hush@host/db with {KEY}"
    log.info(text, url=Secret("postgresql://user:hush@host"))
    try:
        _refuse()
    except RuntimeError:
        log.exception("failed")
    written = capsys.readouterr().err
    assert KEY not in written
    assert "hush" not in written
    assert written.count("***") >= 7
    assert "RuntimeError" in written


def test_configuring_again_replaces_and_does_not_double(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        configure_logging(LogSettings(json=True))
    structlog.get_logger("a").info("once")
    assert len(_logged(capsys)) == 1
