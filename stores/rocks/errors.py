"""What RocksDB says, as what the worker does about it: wait for the disk, or throw the filter away and rebuild it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rocksdict import DbClosedError

from domain.errors import Unavailable

SERVICE = "disk"

# The same directory works later: no space (also by quota or file size limit), a former owner that is still closing, no
# descriptors left.
_TRANSIENT = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "lock hold by current process",
    "Resource temporarily unavailable",
    "Too many open files",
)


class FilterDamaged(Exception):  # noqa: N818 - what it says of the files is its name
    """The files do not hold what was written: checksums, missing or torn files. Losing them loses nothing."""


@contextmanager
def translated() -> Iterator[None]:
    """RocksDB's errors as `Unavailable("disk")` or `FilterDamaged`: the binding raises nothing finer than Exception."""
    try:
        yield
    except (Unavailable, FilterDamaged):
        raise
    except DbClosedError as error:
        raise Unavailable(SERVICE, "the duplicate filter is closed") from error
    except Exception as error:
        text = str(error)
        if any(reason in text for reason in _TRANSIENT):
            raise Unavailable(SERVICE, f"the duplicate filter cannot be written: {text}") from error
        if type(error) is Exception or isinstance(error, OSError):
            raise FilterDamaged(text) from error
        raise  # a bug of ours
