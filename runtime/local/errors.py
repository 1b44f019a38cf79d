class PartFailedError(Exception):
    """One part of the stack did not start or did not stay: names the part, the reason and its last log lines."""

    def __init__(self, part: str, reason: str, log_tail: str = "") -> None:
        self.part = part
        self.reason = reason
        self.log_tail = log_tail
        tail = f"\n--- last lines of the log of {part} ---\n{log_tail}" if log_tail else ""
        super().__init__(f"{part}: {reason}{tail}")


class StackError(Exception):
    """The stack as a whole cannot run here: one sentence for the person who started it."""
