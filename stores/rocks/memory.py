"""What the duplicate filters of a process may keep in memory and on disk, and how RocksDB is told."""

import resource

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    WriteBufferManager,
)

from stores.rocks.sieves import SieveRoom

MIB = 1 << 20
DEFAULT_MEMORY_BYTES = 128 * MIB
DEFAULT_OPEN_FILES = 64

_BLOOM_BITS = 10
_WRITE_BUFFER_BYTES = 8 * MIB
_ARENA_BLOCK_BYTES = 64 << 10
_WAL_BYTES = 16 * MIB
_MANIFEST_BYTES = 64 << 10
_LOG_BYTES = 256 << 10


class FilterMemory:
    """One bound for all partitions and days of a process, and a number of open files a partition.

    Half of `memory_bytes` are sieves (`stores.rocks.sieves`: 2 to 8 MB per million identities; the oldest days go
    without where they do not fit). The other half is a cache that blocks, indexes, Bloom filters (1.3 MB per million
    identities) and write buffers are charged to; what does not fit is read from disk again. Write buffers take a quarter
    of that at most: a partition that writes beyond it flushes its own.
    """

    def __init__(
        self, *, memory_bytes: int = DEFAULT_MEMORY_BYTES, open_files_a_partition: int = DEFAULT_OPEN_FILES
    ) -> None:
        self.sieve_room = SieveRoom(memory_bytes // 2)
        self._cache = Cache(memory_bytes // 2)
        self._buffers = WriteBufferManager.new_write_buffer_manager_with_cache(memory_bytes // 8, False, self._cache)  # noqa: FBT003
        self._open_files = open_files_a_partition

    @property
    def used_bytes(self) -> int:
        return int(self._cache.get_usage())

    def options(self) -> Options:
        """For a database or for one of its column families."""
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)
        table.set_bloom_filter(_BLOOM_BITS, block_based=False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)  # noqa: FBT003
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_arena_block_size(_ARENA_BLOCK_BYTES)  # a day that gets a few entries must not take a megabyte
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(self._open_files)
        options.set_compression_type(DBCompressionType.none())  # hashes do not compress
        # All families reach the disk as of one moment: whatever a torn file loses, `applied` never outlives its entries.
        options.set_atomic_flush(True)
        # A torn end is a crash, and what it held is read again from `events`; a hole in the middle is damage.
        options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
        options.set_paranoid_checks(True)
        options.set_max_total_wal_size(_WAL_BYTES)
        options.set_manifest_preallocation_size(_MANIFEST_BYTES)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(_LOG_BYTES)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        return options


def allow_open_files(wanted: int) -> int:
    """Raise the process's soft limit of open files to `wanted`, or as far as it may; the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return soft
