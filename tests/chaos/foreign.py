"""A producer that is none of ours: bare events on whatever partition, and garbage, straight into the log."""

import asyncio
import random
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.topics import USAGE_RAW
from tests.chaos.contracts import ENVIRONMENT, TENANT
from tests.chaos.load import Answers, Body, Load

EVERY_S = 1.0
ANSWER_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0
MAX_REQUEST_BYTES = 20 << 20
TOO_LARGE_BYTES = 1_200_000
Headers = list[tuple[str, bytes]]


class Foreign:
    """Sends until it is cancelled. What the log acknowledged counts as accepted, where it is a sound event."""

    def __init__(self, bootstrap: str, load: Load, *, seed: int, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._load = load
        self._answers: Answers = load.answers
        self._chance = random.Random(f"foreign {seed}")
        self._partitions = partitions

    async def run(self) -> None:
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks="all",
                enable_idempotence=True,
                max_request_size=MAX_REQUEST_BYTES,
                request_timeout_ms=int(ANSWER_WITHIN_S * 500),
            )
            try:
                await producer.start()
                await self._send_on(producer)
            except (KafkaError, TimeoutError, OSError):
                await asyncio.sleep(EVERY_S)
            finally:
                stopping = asyncio.ensure_future(producer.stop())
                await asyncio.wait([stopping], timeout=STOP_WITHIN_S)
                stopping.cancel()

    async def _send_on(self, producer: AIOKafkaProducer) -> None:
        """Returns by an exception alone: then a new producer begins."""
        while True:
            value, headers, sound = self._record()
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    partition = self._chance.randrange(self._partitions)
                    await producer.send_and_wait(USAGE_RAW, value, partition=partition, headers=headers)
            except BaseException:  # also when it is cancelled: nobody knows whether the log has it
                self._answers.foreign(sound, acknowledged=False)
                raise
            self._answers.foreign(sound, acknowledged=True)
            await asyncio.sleep(EVERY_S * 2 * self._chance.random())

    def _record(self) -> tuple[bytes, Headers, list[Body]]:
        """A record, and the sound events in it."""
        chance, sound = self._chance, list[Body]()
        match chance.randrange(7):
            case 0:
                return chance.randbytes(chance.randrange(200)), [], []
            case 1:
                return b'{"id": "cut o', [], []
            case 2 if chance.random() < 0.2:
                return b" " * TOO_LARGE_BYTES, [], []
            case 3:
                return _encoded([self._load.new_body()]), [("format", b"0")], []
            case 4:  # nobody's
                return msgspec.json.encode({"id": "x", "type": "call", "customer": "huge"}), [], []
            case 5:
                sound = [self._load.known_body()]
            case _:
                sound = [self._load.new_body() for _ in range(chance.randint(1, 5))]
        bare: list[Any] = [{**body, "tenant": TENANT, "environment": ENVIRONMENT} for body in sound]
        if chance.random() < 0.3:
            bare.append({**bare[0], "id": "bad-foreign", "time": "yesterday"})
        return msgspec.json.encode(bare), [], sound


def _encoded(bodies: list[Body]) -> bytes:
    return msgspec.json.encode([{**body, "tenant": TENANT, "environment": ENVIRONMENT} for body in bodies])
