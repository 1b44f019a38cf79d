"""Lets the closing schedule run: the demo's configuration creates it paused."""

from temporalio.client import Client

from workflows.ids import CLOSING_SCHEDULE


async def unpause(address: str) -> None:
    client = await Client.connect(address)
    await client.get_schedule_handle(CLOSING_SCHEDULE).unpause(note="both sends are visible")
