"""Kafka's jars, through jgo and its lock file: exact versions, each checked against its sha256.

`python -m runtime.local.jars` resolves again and rewrites the lock file; that is done by hand, when versions change.
"""

import contextlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.local.cache import build_once, cache_dir, content_key
from runtime.local.errors import StackError

LOCK_PATH = Path(__file__).with_name("kafka.lock.toml")

# Resolved one by one: log4j's managed versions would otherwise override Kafka's own clients with old ones.
COORDINATES = (
    "org.apache.kafka:kafka_2.13:4.4.0",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",  # without it the broker logs nothing
)

_DOWNLOAD_TIMEOUT_S = 60
_PARALLEL = 6
_TRIES = 3


def jars_key() -> str:
    return content_key([LOCK_PATH.read_bytes()])


def jars_dir() -> Path:
    return cache_dir() / f"kafka-jars-{jars_key()}"


def ensure_jars() -> Path:
    """The directory with exactly the jars of the lock file, fetched when it is not there yet.

    Safe to repeat: a directory that exists was checked as a whole. Raises StackError when a jar cannot be fetched or
    is not the one that was locked.
    """
    return build_once(jars_dir(), _fetch)


def _fetch(target: Path) -> None:
    from jgo.env import LockFile
    from jgo.maven import MavenContext

    lock = LockFile.load(LOCK_PATH)
    repository = target / "repository"
    context = MavenContext(repo_cache=repository, local_repos=[], timeout=_DOWNLOAD_TIMEOUT_S)

    def fetch_one(group: str, artifact: str, version: str) -> Path:
        jar = context.project(group, artifact).at_version(version).artifact()
        for attempt in range(1, _TRIES + 1):
            try:
                return Path(jar.resolve())
            except (OSError, RuntimeError) as error:
                (repository / jar.component.path_prefix / jar.filename).unlink(missing_ok=True)  # it may be a half
                if attempt == _TRIES:
                    raise StackError(f"the jar {group}:{artifact}:{version} cannot be fetched: {error}") from error
        raise AssertionError("unreachable")

    # jgo draws a progress bar a jar; ours is one line for all of them.
    with contextlib.redirect_stdout(sys.stderr), ThreadPoolExecutor(_PARALLEL) as pool:
        jobs = [pool.submit(fetch_one, dep.groupId, dep.artifactId, dep.version) for dep in lock.dependencies]
        paths = [job.result() for job in jobs]
    errors = lock.verify_checksums(repository)
    unchecked = [dep.artifactId for dep in lock.dependencies if not dep.sha256]
    if errors or unchecked:
        raise StackError(f"Kafka's jars are not the locked ones: {'; '.join(errors) or unchecked}")
    for path in paths:
        path.rename(target / path.name)
    shutil.rmtree(repository)


def write_lock() -> int:
    """Resolve COORDINATES and write the lock file: the first coordinate that brings an artifact decides its version."""
    import jgo
    from jgo.env import LockFile
    from jgo.maven import Dependency

    artifacts: dict[tuple[str, str], Dependency] = {}
    for coordinate in COORDINATES:
        for artifact in jgo.resolve(coordinate):
            artifacts.setdefault((artifact.groupId, artifact.artifactId), Dependency(artifact))
    ordered = [artifacts[key] for key in sorted(artifacts)]
    lock = LockFile.from_resolved_dependencies(ordered, environment_name="kafka")
    lock.save(LOCK_PATH)
    return len(ordered)


if __name__ == "__main__":
    sys.stderr.write(f"{write_lock()} jars locked in {LOCK_PATH.name}\n")
