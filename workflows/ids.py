"""Names in Temporal: other processes meet the workflows by them, so they never change."""

CLOSING_SCHEDULE = "close-due-periods"  # id of the schedule
CLOSING_WORKFLOW_ID = "closing"  # prefix of the ids of its runs: Temporal adds the instant
CLOSE_DUE_PERIODS = "CloseDuePeriods"  # type of the workflow
