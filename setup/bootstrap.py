"""`make setup`: from a bare python3 to everything that the project runs on. Standard library only.

Each step is skipped when its inputs have not changed, so a second run takes no time. What is fetched is pinned with
checksums (setup/uv.txt, requirements.lock, runtime/local/kafka.lock.toml, dashboard/package-lock.json) and cached
outside the checkout: METERSTREAM_CACHE_DIR, else the user's cache directory.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV_REQUIREMENTS = ROOT / "setup" / "uv.txt"
LOCK = ROOT / "requirements.lock"
DASHBOARD = ROOT / "dashboard"

OLDEST, NEWEST = (3, 11), (3, 14)  # what all pinned wheels have


class SetupError(Exception):
    """Why the set-up cannot go on, in one sentence."""


def say(text: str) -> None:
    sys.stderr.write(f"==> {text}\n")
    sys.stderr.flush()


def cache_dir() -> Path:
    """As in runtime/local/cache.py, which cannot be imported before there is an environment."""
    explicit = os.environ.get("METERSTREAM_CACHE_DIR")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meterstream"
    path = Path(explicit).expanduser().absolute() if explicit else base
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(paths: Sequence[Path], *more: str) -> str:
    """Of names and contents, so that a moved file counts as a change."""
    total = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(ROOT).as_posix()} {content}\n".encode())
    total.update("\n".join(more).encode())
    return total.hexdigest()


def is_current(stamp: Path, value: str) -> bool:
    return stamp.exists() and stamp.read_text() == value


def run(command: Sequence[str | Path], *, why: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
    """Run with its output shown on standard error; SetupError when it fails."""
    arguments = [str(part) for part in command]
    merged = {**os.environ, **(env or {})}
    try:
        done = subprocess.run(arguments, check=False, cwd=cwd, env=merged, stdout=sys.stderr.fileno())
    except OSError as error:
        raise SetupError(f"{why}: {error}") from error
    if done.returncode != 0:
        raise SetupError(f"{why} (`{' '.join(arguments[:4])} ...` exited with {done.returncode}; its output is above)")


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two set-ups of one checkout would write over each other."""
    name = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    with (cache_dir() / f"setup-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_python() -> None:
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        wanted = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        raise SetupError(f"this is Python {sys.version.split()[0]}; the pinned packages need {wanted}")


def ensure_uv() -> Path:
    """The pinned uv, in an environment of its own in the cache."""
    key = digest([UV_REQUIREMENTS], sys.version)[:16]
    home = cache_dir() / f"uv-{key}"
    if not (home / "complete").exists():
        say("fetching uv")
        shutil.rmtree(home, ignore_errors=True)
        no_venv = "python3 cannot make a virtual environment (on Debian: apt-get install python3-venv)"
        run([sys.executable, "-m", "venv", home], why=no_venv)
        pip: list[str | Path] = [
            home / "bin" / "python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
        ]
        pip += ["--require-hashes", "--only-binary", ":all:", "-r", UV_REQUIREMENTS]
        run(pip, why="uv cannot be installed")
        (home / "complete").touch()
    return home / "bin" / "uv"


def ensure_environment() -> None:
    """`.venv` with exactly the packages of requirements.lock."""
    stamp, value = VENV / ".meterstream-lock", digest([LOCK, UV_REQUIREMENTS], sys.version)
    if is_current(stamp, value) and os.access(PYTHON, os.X_OK):
        return
    uv = ensure_uv()
    env = {"UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(cache_dir() / "uv"), "VIRTUAL_ENV": str(VENV)}
    if not _venv_is_ours():
        say("making .venv")
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV], why=".venv cannot be made", env=env)
    say("installing the locked packages")
    sync: list[str | Path] = [uv, "pip", "sync", "--require-hashes", "--compile-bytecode", "--python", PYTHON, LOCK]
    run(sync, why="the locked packages cannot be installed", env=env)
    _link_checkout()
    stamp.write_text(value)


def _venv_is_ours() -> bool:
    """Whether .venv is of the Python that runs this."""
    if not os.access(PYTHON, os.X_OK):
        return False
    ask = [str(PYTHON), "-c", "import sys; print(sys.version)"]
    done = subprocess.run(ask, check=False, capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == sys.version


def _link_checkout() -> None:
    """The checkout on the path and a `meterstream` command: what an editable install does, without building one."""
    (site,) = (VENV / "lib").glob("python3.*/site-packages")
    (site / "meterstream.pth").write_text(f"{ROOT}\n")
    command = VENV / "bin" / "meterstream"
    command.write_text(f"#!{PYTHON}\nimport sys\n\nfrom cli.main import main\n\nsys.exit(main())\n")
    command.chmod(0o755)


def dashboard_sources() -> list[Path]:
    skipped = {"node_modules", "dist"}
    found: list[Path] = []
    for folder, folders, files in os.walk(DASHBOARD):
        folders[:] = sorted(set(folders) - skipped)
        found += [Path(folder) / file for file in sorted(files)]
    return found


def ensure_dashboard() -> None:
    """dashboard/dist, built by the Node of the environment, when its sources have changed."""
    if not (DASHBOARD / "package.json").exists():
        return
    built, sources = DASHBOARD / "node_modules" / ".meterstream-built", digest(dashboard_sources(), digest([LOCK]))
    if is_current(built, sources) and (DASHBOARD / "dist" / "index.html").exists():
        return
    npm: list[str | Path] = [VENV / "bin" / "npm", "--no-fund", "--no-audit", "--no-update-notifier"]
    env = {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}", "npm_config_cache": str(cache_dir() / "npm")}
    installed = DASHBOARD / "node_modules" / ".meterstream-lock"
    packages = digest([DASHBOARD / "package.json", DASHBOARD / "package-lock.json"])
    if not is_current(installed, packages):
        say("fetching the dashboard's packages")
        run([*npm, "ci"], why="the dashboard's packages cannot be installed", env=env, cwd=DASHBOARD)
        installed.write_text(packages)
    say("building the dashboard")
    run([*npm, "run", "build"], why="the dashboard cannot be built", env=env, cwd=DASHBOARD)
    built.write_text(sources)


def ensure_servers() -> None:
    """Kafka's jars, the Java archives, PostgreSQL's binaries."""
    run([PYTHON, "-m", "runtime.local.prepare"], why="the embedded servers cannot be prepared")


def main() -> int:
    began = time.monotonic()
    try:
        check_python()
        with one_at_a_time():
            ensure_environment()
            ensure_servers()
            ensure_dashboard()
    except SetupError as error:
        sys.stderr.write(f"set-up: {error}\n")
        return 1
    say(f"set up ({time.monotonic() - began:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
