"""Writes requirements.lock anew from pyproject.toml, with the pinned uv. The file names no host and no path."""

import subprocess
import sys

from setup.bootstrap import LOCK, ROOT, ensure_uv


def main() -> int:
    options = ["--quiet", "--universal", "--generate-hashes", "--no-header", "--no-annotate", "--all-extras"]
    command = [str(ensure_uv()), "pip", "compile", *options, "pyproject.toml", "-o", LOCK.name]
    return subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main())
