"""A server that reads a request and answers at once, whatever it is: what the load generator can reach at most.

`python -m bench.empty_server`: prints its port, and ends when its standard input is closed.
"""

import asyncio
import sys
from typing import cast

import uvloop

from runtime.local.ports import HOST

ANSWER = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"Content-Length: "


class EmptyServer(asyncio.Protocol):
    """Counts bytes only. Its clients send one request at a time and name its length as `load.py` does."""

    def __init__(self) -> None:
        self._missing = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            head = data.index(_HEAD_END)
            length = data.index(_LENGTH) + len(_LENGTH)
            self._missing = int(data[length : data.index(b"\r", length)]) - (len(data) - head - len(_HEAD_END))
        if not self._missing and self._transport is not None:
            self._transport.write(ANSWER)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EmptyServer, HOST, 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
