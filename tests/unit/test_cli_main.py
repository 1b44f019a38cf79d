"""Every command that the table names can be asked for its help."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.main import COMMANDS, app


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_the_table_explains_itself(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "--help" in result.output


def test_an_unknown_command_is_refused() -> None:
    assert CliRunner().invoke(app, ["conquer"]).exit_code == 2


def test_the_command_line_itself_loads_no_heavy_library() -> None:
    heavy = "faust", "litestar", "temporalio", "pyarrow"
    script = f"import sys, cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
