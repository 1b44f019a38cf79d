"""One of our commands with a fault to suffer, and perhaps with one rule of the protocol switched off.

    python -m tests.chaos.mutants.run [--mutant NAME] [--fault NAME=VALUE ...] [--signs DIR] -- worker --role ingest

Production code has no switches: what is replaced is replaced here, in the process, before the command's main runs.
"""

import argparse
import sys
from pathlib import Path

from cli import main as cli
from tests.chaos.mutants.faults import Signs, suffer
from tests.chaos.mutants.switched_off import MUTANTS


def main() -> None:
    ours, _, command = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutant", choices=MUTANTS)
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--signs", type=Path, default=Path())
    given = parser.parse_args(ours.split())
    # The mutant first: a fault is what happens to the code, whatever the code is.
    if given.mutant:
        MUTANTS[given.mutant]()
    suffer(given.fault, Signs(given.signs))
    sys.argv = ["meterstream", *command.split()]
    cli.main()


if __name__ == "__main__":
    main()
