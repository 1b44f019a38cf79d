"""`POST /v1/events`: bare ASGI. Bytes in, verdicts out, and 202 only for what the log has."""

import asyncio
from typing import Any

import msgspec

from api.auth import Principal, check_scope
from api.coalesce import Origin, RecordWriter
from api.deps import ApiDeps
from api.errors import PROBLEM_JSON, ClientGone, ProblemAnswer, guarded
from api.ingest_body import (
    Format,
    Inflight,
    Reservation,
    announced_length,
    body_encoding,
    body_format,
    decode_body,
    read_body,
)
from api.ingest_parse import Judge, Verdicts, fits_receipt, judge_events, single_malformed, split_body
from api.plain_asgi import send_bytes, send_fields
from domain.errors import Invalid
from runtime import metrics
from schemas.events import IngestAnswer

EVENTS_PATH = "/v1/events"
SCOPE = "events:write"

_ACCEPTED = 202
_ALL_REFUSED = 422
# Between so many events of a large request others get their turn: about 2 ms of work.
_SLICE = 500

_accepted_requests = metrics.ingest_requests.labels(str(_ACCEPTED))
_answer_encoder = msgspec.json.Encoder()


class RequestHead(msgspec.Struct, kw_only=True):
    """The headers that matter here, as sent."""

    authorization: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    content_length: str | None = None
    is_chunked: bool = False


def read_head(scope: Any) -> RequestHead:
    """Of a header that comes twice the last counts."""
    sent: dict[bytes, bytes] = dict(scope["headers"])
    return RequestHead(
        authorization=_text(sent.get(b"authorization")),
        content_type=_text(sent.get(b"content-type")),
        content_encoding=_text(sent.get(b"content-encoding")),
        content_length=_text(sent.get(b"content-length")),
        is_chunked=b"transfer-encoding" in sent,
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


class IngestHandler:
    """The handler and what it keeps between requests: the bytes in flight, and the records being filled."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps
        self._api = deps.settings.api
        self._partitions = deps.settings.kafka.raw_partitions
        self._inflight = Inflight(self._api.inflight_max_bytes)
        self._writer = RecordWriter(deps.producer, self._api.record_max_bytes)
        metrics.ingest_inflight_bytes.set_function(lambda: self._inflight.used_bytes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        time = asyncio.get_running_loop().time
        started = time()
        try:
            answer = await guarded(self._ingest(scope, receive), self._deps.ids)
        except ClientGone:
            return
        if isinstance(answer, ProblemAnswer):
            status = answer.problem.status
            headers = {**self._inflight.headers(), **answer.headers}
            await send_bytes(send, status, answer.body, media_type=PROBLEM_JSON, headers=headers)
        else:
            status = _ACCEPTED if answer.accepted else _ALL_REFUSED
            await send_fields(send, status, _answer_encoder.encode(answer), self._inflight.fields())
        if status == _ACCEPTED:
            _accepted_requests.inc()
        else:
            metrics.ingest_requests.labels(str(status)).inc()
        metrics.ingest_request_seconds.observe(time() - started)

    async def _ingest(self, scope: Any, receive: Any) -> IngestAnswer:
        head = read_head(scope)
        principal = await self._deps.auth.authenticate(head.authorization)
        check_scope(principal, SCOPE)
        form = body_format(head.content_type)
        encoding = body_encoding(head.content_encoding)
        with Reservation(self._inflight) as reservation:
            # Before the body is read, so that what cannot be worked on is not taken in.
            announced = announced_length(head.content_length, self._api.body_max_bytes)
            reservation.cover(announced)
            ends_at = 0 if head.is_chunked else announced
            body = await read_body(receive, reservation, self._api.body_max_bytes, ends_at)
            body = decode_body(body, encoding, reservation, self._api.body_max_bytes)
            verdicts = await self._accept(body, form, principal)
        if verdicts.accepted:
            metrics.ingest_events_accepted.inc(verdicts.accepted)
        for rejected in verdicts.rejected:
            metrics.ingest_events_rejected.labels(rejected.code).inc()
        return IngestAnswer(accepted=verdicts.accepted, rejected=verdicts.rejected)

    async def _accept(self, body: bytes, form: Format, principal: Principal) -> Verdicts:
        catalog = self._deps.limits.current()
        tenant, environment = principal.tenant, principal.environment
        judge = Judge(
            tenant=tenant,
            environment=environment,
            received_at_ms=int(self._deps.clock.now().timestamp() * 1000),
            limits=catalog.limits_of(tenant, environment),
            partitions=self._partitions,
            knows_customer=lambda reference: catalog.knows_customer(tenant, environment, reference),
        )
        origin = Origin(
            tenant=tenant, environment=environment, received_at_ms=judge.received_at_ms, version=catalog.version
        )
        events = split_body(body, form, self._api.events_max)
        verdicts = Verdicts()
        for begin in range(0, len(events), _SLICE):
            if begin:
                await asyncio.sleep(0)
            judge_events(events[begin : begin + _SLICE], form, judge, verdicts, begin)
        if single_malformed(verdicts, form, len(events)):
            raise Invalid("malformed_json", "the body is not JSON")
        if len(events) == 1 and verdicts.last is not None:
            await self._write_single(verdicts, judge, origin)
        elif verdicts.accepted:
            await self._writer.write_groups(verdicts.groups, origin)
        return verdicts

    async def _write_single(self, verdicts: Verdicts, judge: Judge, origin: Origin) -> None:
        [(partition, [event])] = verdicts.groups.items()
        joins = self._writer.receipt_to_join(judge.tenant, judge.environment, partition)
        if joins is None or (verdicts.last is not None and fits_receipt(verdicts.last, joins, judge.limits)):
            await self._writer.write_single(partition, event, origin)
        else:  # at the very edge of the limits: with the other receipt time the worker would refuse it
            await self._writer.write_groups(verdicts.groups, origin)
