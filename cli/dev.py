"""`meterstream dev`: the whole system on embedded parts, in the foreground."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from cli.system import API_PORT, LocalSystem, SystemAddress

app = typer.Typer()


@app.command()
def dev(
    data: Annotated[Path, typer.Option(help="Directory that keeps all data and logs.")] = Path("data"),
    port: Annotated[int, typer.Option(help="Port of the API; a free one when it is taken.")] = API_PORT,
) -> None:
    """Start everything on this machine and run until Ctrl-C. A later start on the same directory finds all data again."""
    asyncio.run(run(data, port))


async def run(data: Path, port: int) -> None:
    """Raises what made the system stop, unless somebody asked for it."""
    loop = asyncio.get_running_loop()
    stop_asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_asked.set)
    system = LocalSystem(data, say=say, api_port=port)
    asked = asyncio.create_task(stop_asked.wait())
    running = asyncio.create_task(serve(system))
    try:
        await asyncio.wait([asked, running], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            raise running.result()
        say("stopping")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await system.stop()
        asked.cancel()


async def serve(system: LocalSystem) -> Exception:
    """Start, say where, and wait for what ends it."""
    announce(await system.start())
    return await system.failed()


def announce(address: SystemAddress) -> None:
    print(f"API        {address.url}")
    print(f"dashboard  {address.url}/dashboard")
    print(f"API key    {address.api_key}{'' if address.key_is_new else '  (of the first start on this directory)'}")
    print("Ctrl-C stops everything; the data stays.", flush=True)


def say(text: str) -> None:
    print(f"meterstream: {text}", flush=True)
