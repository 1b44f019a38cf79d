"""Names in Temporal: other processes meet the workflows by them, so they never change."""

CLOSING_SCHEDULE = "close-due-periods"  # id of the schedule
CLOSING_WORKFLOW_ID = "closing"  # prefix of the ids of its runs: Temporal adds the instant
CLOSE_DUE_PERIODS = "CloseDuePeriods"  # type of the workflow

CUT_SCHEDULE = "raise-cut"
CUT_WORKFLOW_ID = "cut"
RAISE_CUT = "RaiseCut"

ROLL_UP_SCHEDULE = "roll-up-ledger"
ROLL_UP_WORKFLOW_ID = "roll-up"
ROLL_UP_LEDGER = "RollUpLedger"
