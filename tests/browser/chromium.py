"""A headless Chromium of its own for one test, driven through the DevTools protocol."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import eventually

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--disable-extensions",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
START_WITHIN_S = 30
ANSWER_WITHIN_S = 20
KEY_CODES = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9}


@contextlib.contextmanager
def chromium() -> Iterator["Page"]:
    """One page of a fresh browser without a profile; browser and profile are gone at the end."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program is not None, "no Chromium on the PATH: install it (Debian: apt-get install chromium)"
    with contextlib.ExitStack() as cleanup:
        profile = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True))
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        cleanup.callback(_end, process)
        address = eventually(lambda: _debugger(process, Path(profile)), START_WITHIN_S) or ""
        # No limit on the size of a message: a screenshot is one.
        socket = cleanup.enter_context(connect(address, max_size=None, proxy=None))
        yield Page(socket)


def _debugger(process: subprocess.Popen[bytes], profile: Path) -> str | None:
    assert process.poll() is None, f"Chromium ended with exit code {process.returncode}"
    written = profile / "DevToolsActivePort"
    lines = written.read_text().split() if written.exists() else []
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) == 2 else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its own session is the browser's process group: renderers and all."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(START_WITHIN_S)


class Page:
    """One tab. Every call also takes in the events that arrived since the last one."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._session: str | None = None
        self.requests: list[str] = []
        self.responses: list[dict[str, Any]] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command; an AssertionError when the browser refuses it."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            try:
                answer = json.loads(self._socket.recv(timeout=ANSWER_WITHIN_S))
            except ConnectionClosed as closed:
                raise AssertionError(f"Chromium went away during {method}") from closed
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Network.responseReceived":
            self.responses.append(event["response"])
        elif method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in {"error", "assert", "warning"}:
            self.errors.append(" ".join(str(part.get("value", part.get("description"))) for part in event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
            self.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def text(self, selector: str) -> str | None:
        """What a reader sees of the first element that matches, or None."""
        found: str | None = self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")
        return found

    def attribute(self, selector: str, name: str) -> str | None:
        found: str | None = self.evaluate(
            f"document.querySelector({json.dumps(selector)})?.getAttribute({json.dumps(name)}) ?? null"
        )
        return found

    def click(self, selector: str) -> None:
        """As a mouse does: at the middle of the element, wherever it is by then."""
        found = json.dumps(selector)
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({found}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Replace the text of a field, as a reader does who selects all of it, types, and looks at what stands there.

        Typed again when that is something else: a busy Chromium was seen to insert one text twice.
        """
        field = f"document.querySelector({json.dumps(selector)})"

        def stands_there() -> bool:
            self.evaluate(f"(() => {{ {field}.focus(); {field}.select(); }})()")
            for character in text:
                self.call("Input.dispatchKeyEvent", type="char", text=character)
            return bool(self.evaluate(f"{field}.value") == text)

        eventually(stands_there, ANSWER_WITHIN_S)

    def press(self, key: str) -> None:
        code = KEY_CODES[key]
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def options(self, selector: str) -> list[str]:
        """The values that a `select` offers; none while it is not there."""
        found: list[str] = self.evaluate(
            f"Array.from(document.querySelector({json.dumps(selector)})?.options ?? [], (option) => option.value)"
        )
        return found

    def choose(self, selector: str, value: str) -> None:
        """Choose the option with this value of a `select`; headless browsers draw no list to click in."""
        chosen = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            " e.dispatchEvent(new Event('change', {bubbles: true})); return e.value; })()"
        )
        assert chosen == value, f"{selector} has no option {value}"

    def look(self, *, width: int, height: int, dark: bool = False) -> None:
        """The size of the window, and whether the reader prefers dark."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def block(self, *patterns: str) -> None:
        """Let requests to these addresses fail as if nobody answered; without any, let all through."""
        self.call("Network.setBlockedURLs", urls=list(patterns))

    def screenshot(self, path: Path) -> None:
        """The whole page, not only what fits the window, as PNG."""
        image = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(image["data"]))
