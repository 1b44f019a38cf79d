"""Structured logs of a process: JSON lines or a console, on standard error, ours and those of libraries alike.

Secrets do not get here; should one be passed by mistake, its name or its shape gives it away and it prints as `***`.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from structlog.typing import Processor

from runtime.settings import LogSettings, Secret

MASK = "***"

_SECRET_NAMES = re.compile(
    r"(?i)(^|_)(password|secret|token|authorization|api_key|apikey|cookie)$|^(url|dsn|conninfo)$"
)
_SECRET_TEXTS = re.compile(r"\bms_[a-z2-7]{4,}_[A-Za-z0-9_-]{16,}|(?<=://)[^\s/@]+:[^\s/@]+(?=@)|(?i:(?<=bearer )\S+)")
# They tell at INFO what we tell ourselves, or every request.
_QUIET = ("aiokafka", "alembic", "asyncio", "httpx", "kafka", "urllib3")
# They tell the same many times a second while their server is away.
_REPETITIVE = ("aiokafka", "faust", "kafka", "mode")
_TEXTS_MAX = 1_000


def configure_logging(settings: LogSettings, brief: tuple[type[Exception], ...] = ()) -> None:
    """For the mains, once; again replaces what was there. Raises ValueError for a level that does not exist.

    Errors of the kinds `brief` are told in a line without their traceback, whoever logs them.
    """
    levels = logging.getLevelNamesMapping()
    if settings.level.upper() not in levels:
        raise ValueError(f"METERSTREAM_LOG_LEVEL {settings.level!r} is none of {', '.join(levels)}")
    level = levels[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # JSON takes the traceback as text; the console draws it itself. Masked after that, so that it is masked too.
    rendering: list[Processor] = (
        [structlog.processors.format_exc_info, mask_secrets, structlog.processors.JSONRenderer(default=str)]
        if settings.json
        else [structlog.processors.format_exc_info, mask_secrets, structlog.dev.ConsoleRenderer(colors=False)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RepeatFilter(settings.repeat_after_s, time.monotonic))
    handler.addFilter(lambda record: _briefly(record, brief))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class RepeatFilter(logging.Filter):
    """Passes a text of a repetitive library once in `after_s`, with how often it was said meanwhile."""

    def __init__(self, after_s: float, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._after_s = after_s
        self._monotonic = monotonic
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _REPETITIVE:
            return True
        # The text without its arguments; of a library that puts them into the text no more is kept than fits.
        key, now = (record.name, str(record.msg)), self._monotonic()
        told_at, left_out = self._told.get(key, (now - self._after_s, 0))
        if now - told_at < self._after_s:
            self._told[key] = (told_at, left_out + 1)
            return False
        if len(self._told) >= _TEXTS_MAX:
            self._told.clear()
        self._told[key] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} times more before)", ()
        return True


def _briefly(record: logging.LogRecord, brief: tuple[type[Exception], ...]) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, brief):
        record.msg, record.args, record.exc_info = f"{record.getMessage()}: {error}", (), None
    return True


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor: values with a secret's name, and texts with a secret's shape, print as `***`."""
    return {name: MASK if _SECRET_NAMES.search(name) else _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, str):
        return _SECRET_TEXTS.sub(MASK, value)
    if isinstance(value, dict):
        return mask_secrets(None, "", value)
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return value
