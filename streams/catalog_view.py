"""The catalog in a worker: all of `catalog.changed`, read whole by every worker, kept at every version."""

import asyncio

import msgspec

from domain.catalog import Catalog, CatalogLog
from domain.errors import Unavailable
from runtime.settings import KafkaSettings
from schemas.catalog import CatalogVersion
from schemas.topics import CATALOG_CHANGED
from stores.kafka import Record, TopicView

_decoder = msgspec.json.Decoder(CatalogVersion)


class CatalogView:
    """Follows the topic. Versions arrive in order without gaps; one delivered twice changes nothing."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.log = CatalogLog()
        self._grown = asyncio.Condition()
        self._view = TopicView(settings, CATALOG_CHANGED, self._apply)
        self._notices: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        return self._view.is_ready

    @property
    def head(self) -> int:
        return self.log.head

    def current(self) -> Catalog:
        return self.log.at(self.log.head)

    def at(self, version: int) -> Catalog:
        """The catalog at a version that has arrived. Raises CatalogGapError otherwise."""
        return self.log.at(version)

    async def start(self) -> None:
        await self._view.start()

    async def stop(self) -> None:
        await self._view.stop()

    async def caught_up(self, within_s: float) -> None:
        """Returns once all that the topic held at the start was read. Raises Unavailable after `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                await self._view.caught_up()
        except TimeoutError as error:
            raise Unavailable("kafka", f"{CATALOG_CHANGED} was not read to its end in {within_s:g} s") from error

    async def wait_for(self, version: int, within_s: float) -> None:
        """Returns once `version` has arrived (protocol 8). Raises Unavailable after `within_s`."""
        if self.log.head >= version:
            return
        try:
            async with asyncio.timeout(within_s), self._grown:
                await self._grown.wait_for(lambda: self.log.head >= version)
        except TimeoutError as error:
            reason = f"catalog version {version} has not arrived in {within_s:g} s; the newest is {self.log.head}"
            raise Unavailable("catalog", reason) from error

    def _apply(self, record: Record) -> None:
        if record.value is not None and self.log.append(_decoder.decode(record.value)):
            notice = asyncio.ensure_future(self._notify())
            self._notices.add(notice)
            notice.add_done_callback(self._notices.discard)

    async def _notify(self) -> None:
        async with self._grown:
            self._grown.notify_all()
