"""The process: `python -m runtime.local.clickhouse --data DIR --port PORT`, on 127.0.0.1 until SIGTERM or SIGINT."""

import argparse
import logging
import os
import sys
from pathlib import Path


def main() -> int:
    """0 after a signal, 1 when the directory belongs to another process or the port is taken."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--port", type=int, required=True)
    chosen = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # UTC, as the server's image has it. The engine reads its time zone once, when the library is loaded.
    os.environ["TZ"] = "UTC"
    from runtime.local.clickhouse.serve import run

    return run(chosen.data.absolute(), chosen.port)


if __name__ == "__main__":
    sys.exit(main())
