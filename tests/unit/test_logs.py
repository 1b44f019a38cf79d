"""What a process logs: one line a fact, ours and libraries' alike, and never a secret."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from runtime.logs import RepeatFilter, configure_logging
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


def test_what_a_library_repeats_is_written_once_in_a_while_with_its_number() -> None:
    at = 0.0
    passes = RepeatFilter(10, lambda: at)
    written = []

    def say(name: str) -> None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "no connection to node %s", (1,), None)
        if passes.filter(record):
            written.append(record.getMessage())

    for instant in (0.0, 0.1, 9.9, 10.0, 19.9, 20.0):
        at = instant
        say("aiokafka.conn")
    assert written == [
        "no connection to node 1",
        "no connection to node 1 (and 2 times more before)",
        "no connection to node 1 (and 1 times more before)",
    ]
    at, written = 30.0, []
    say("aiokafka.conn")
    say("aiokafka.consumer")
    say("streams.retry")
    say("streams.retry")
    assert len(written) == 4, "only what the same logger says is a repetition, and what we say never is"


def test_an_error_of_a_brief_kind_has_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(json=True), brief=(TimeoutError,))
    for kind in (TimeoutError, ValueError):
        try:
            raise kind("away")
        except (TimeoutError, ValueError):
            logging.getLogger("library").warning("failed", exc_info=True)
    brief, whole = _logged(capsys)
    assert (brief["event"], "exception" in brief) == ("failed: away", False)
    assert "Traceback" in str(whole["exception"])
