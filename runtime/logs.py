"""Structured logs of a process: JSON lines or a console, on standard error, ours and those of libraries alike.

Secrets do not get here; should one be passed by mistake, its name or its shape gives it away and it prints as `***`.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
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


def configure_logging(settings: LogSettings) -> None:
    """For the mains, once; again replaces what was there. Raises ValueError for a level that does not exist."""
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
