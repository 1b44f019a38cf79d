"""The `meterstream` command. Each sub-command is a module of this package with a typer app called `app`.

Modules are imported only when their command runs: a worker does not load the API's libraries, and `--help` of one
command does not wait for all of them.
"""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from domain.errors import MeterstreamError, Unavailable
from runtime.local.errors import PartFailedError, StackError
from runtime.settings import SettingsError

# Command -> module.
COMMANDS = {
    "api": "cli.api",
    "dev": "cli.dev",
    "key": "cli.key",
    "migrate": "cli.migrate",
    "reconcile": "cli.reconcile",
    "repair": "cli.repair",
    "status": "cli.status",
    "temporal-worker": "cli.temporal_worker",
    "worker": "cli.worker",
}

EXIT_FAILED = 1  # something else is wrong, the same command may work later
EXIT_REFUSED = 2  # what was asked for cannot be done


class LazyCommands(TyperGroup):
    # typer names the types of these only in a private module: hence Any.
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(importlib.import_module(COMMANDS[cmd_name]).app)
        command.name = cmd_name
        return command


app = typer.Typer(cls=LazyCommands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def meterstream() -> None:
    """Usage events in, money people can trust out."""


def main() -> None:
    """Run a command. Errors of the five kinds become one message and an exit code; a bug keeps its traceback."""
    try:
        app(prog_name="meterstream")
    except SettingsError as error:
        fail(f"setting: {error}", EXIT_REFUSED)
    except Unavailable as error:
        fail(f"{error.code}: {error.message}", EXIT_FAILED)
    except MeterstreamError as error:
        details = "".join(f"\n  {detail.pointer}: {detail.message}" for detail in error.details)
        fail(f"{error.code}: {error.message}{details}", EXIT_REFUSED)
    except (PartFailedError, StackError) as error:
        fail(str(error), EXIT_FAILED)


def fail(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
