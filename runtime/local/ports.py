import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from runtime.local.errors import PartFailedError

HOST = "127.0.0.1"

# Below the range that the kernel hands to outgoing connections: between our choice and the server's bind nobody
# takes a port by accident.
_FIRST, _LAST = 15_000, 32_000
_TRIES = 200
_STARTS = 3
_TAKEN = "address already in use"  # as every one of our servers says it

_given: set[int] = set()
_giving = threading.Lock()

_PROBE_TIMEOUT_S = 2.0
_HTTP_OK = 200


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 that nobody uses right now, and that this process was not given before.

    Servers that start side by side take a while to bind: what one was given must not be offered to the next.
    """
    held: list[socket.socket] = []
    try:
        for _ in range(_TRIES):
            if len(held) == count:
                break
            port = _FIRST + secrets.randbelow(_LAST - _FIRST)
            candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                candidate.bind((HOST, port))  # without SO_REUSEADDR, which would share it with a server about to listen
            except OSError:
                candidate.close()
                continue
            held.append(candidate)
            with _giving:
                is_new = port not in _given
                _given.add(port)
            if not is_new:
                held.pop().close()
        if len(held) < count:
            raise OSError(f"found only {len(held)} of {count} free ports on {HOST}")
        return [sock.getsockname()[1] for sock in held]
    finally:
        for sock in held:
            sock.close()


async def start_on_ports(known: list[int], count: int, start: Callable[[list[int]], Awaitable[None]]) -> None:
    """Start on the `known` ports; where there are none yet, on free ones, and on others if somebody was faster.

    Raises PartFailedError as `start` does.
    """
    if known:
        await start(known)
        return
    for left in reversed(range(_STARTS)):
        try:
            await start(free_ports(count))
        except PartFailedError as error:
            if not left or _TAKEN not in str(error).lower():
                raise
        else:
            return


def listens(port: int) -> bool:
    """Whether somebody accepts connections at 127.0.0.1:port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.2)
        return sock.connect_ex((HOST, port)) == 0


def answers_ok(url: str) -> bool:
    """Whether GET on a URL of this machine answers 200."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == _HTTP_OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
