import secrets
import socket
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

HOST = "127.0.0.1"

# Below the range that the kernel hands to outgoing connections: between our choice and the server's bind nobody
# takes a port by accident.
_FIRST, _LAST = 15_000, 32_000
_TRIES = 200

_PROBE_TIMEOUT_S = 2.0
_HTTP_OK = 200


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on at 127.0.0.1 right now."""
    held: list[socket.socket] = []
    try:
        for _ in range(_TRIES):
            if len(held) == count:
                break
            candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((HOST, _FIRST + secrets.randbelow(_LAST - _FIRST)))
            except OSError:
                candidate.close()
                continue
            held.append(candidate)
        if len(held) < count:
            raise OSError(f"found only {len(held)} of {count} free ports on {HOST}")
        return [sock.getsockname()[1] for sock in held]
    finally:
        for sock in held:
            sock.close()


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
