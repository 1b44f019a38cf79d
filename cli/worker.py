"""`meterstream worker`: one stream role in this process."""

import enum
import os
from typing import Annotated

import typer

from runtime.clock import SystemClock
from runtime.logs import configure_logging
from runtime.settings import load_settings
from streams.worker import run_worker

app = typer.Typer()


class RoleName(enum.StrEnum):
    INGEST = "ingest"
    BALANCES = "balances"
    NOTIFICATIONS = "notifications"


@app.command()
def worker(
    role: Annotated[RoleName, typer.Option("--role", help="Which agent to run: one process, one role.")],
) -> None:
    """Run a worker until it is told to stop. Exits non-zero after a failure, with its work unacknowledged."""
    settings = load_settings(os.environ)
    configure_logging(settings.log)
    run_worker(settings, role.value, SystemClock())
