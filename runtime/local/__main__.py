"""`python -m runtime.local --data DIR [--only postgres,kafka]`: servers for a person or a test.

Prints one JSON line for each endpoint once all of them are ready, and runs until SIGTERM, SIGINT, or, with
`--stop-with-stdin`, the end of its standard input. Exit code 1 with one message when a part fails.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from runtime.local.errors import PartFailedError, StackError
from runtime.local.stack import PARTS, LocalStack


async def _stdin_ends() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def run(data: Path, only: list[str], *, stop_with_stdin: bool) -> int:
    loop = asyncio.get_running_loop()
    stop_asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_asked.set)
    stack = LocalStack(data, only=only)
    starting = asyncio.create_task(stack.start())
    ends: list[asyncio.Task[object]] = [asyncio.create_task(stop_asked.wait())]
    if stop_with_stdin:
        ends.append(asyncio.create_task(_stdin_ends()))
    try:
        await asyncio.wait([starting, *ends], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        for name, endpoint in msgspec.to_builtins(starting.result()).items():
            if endpoint:
                sys.stdout.write(msgspec.json.encode({name: endpoint}).decode() + "\n")
        sys.stdout.write('{"ready": true}\n')
        sys.stdout.flush()
        failure = asyncio.create_task(stack.failed())
        await asyncio.wait([failure, *ends], return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            raise failure.result()
        failure.cancel()
    except (PartFailedError, StackError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        await stack.stop()
        for end in ends:
            end.cancel()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runtime.local", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory that keeps all data and logs")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to start, of {', '.join(PARTS)}")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when the standard input ends")
    given = parser.parse_args()
    only = [part for part in given.only.split(",") if part]
    if unknown := set(only) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    return asyncio.run(run(given.data, only, stop_with_stdin=given.stop_with_stdin))


if __name__ == "__main__":
    sys.exit(main())
