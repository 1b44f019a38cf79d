"""Why a take-over cannot go on: without a person (two mismatches: the partition stops, others go on), or in this process."""


class BlockMismatchError(Exception):
    """A block cannot be completed as its intent promised: other rows, another evaluator."""


class LedgerMismatchError(Exception):
    """`events` does not hold what the ledger says is done: a lagging replica that never caught up, a restored store."""


class OldIntentError(Exception):
    """A block is older than its token is surely remembered: whoever takes the partition over next looks before it inserts."""


class MendedError(Exception):
    """A partition that was refused can be taken over again."""
