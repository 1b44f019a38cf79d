"""`POST /v1/check` and a customer's entitlements: answered from memory, no store is asked."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from litestar import Controller, get

from api.auth import Principal, check_scope, require
from api.conventions import Page
from api.deps import ApiDeps
from api.entitlements_view import EntitlementsFold, EntitlementsView, HeldCustomer
from api.errors import PROBLEM_JSON, ClientGone, ProblemAnswer, guarded
from api.ingest_body import Inflight, Reservation, announced_length, read_body
from api.plain_asgi import header, send_bytes
from domain.errors import FieldError, Invalid, MeterstreamError, Unavailable
from domain.events import exact_decoder
from domain.quantities import format_quantity, parse_quantity
from schemas.entitlements import CheckAnswer, CheckReason

CHECK_PATH = "/v1/check"
SCOPE = "checks:read"
CHECKS_MAX = 1_000
BODY_MAX_BYTES = 1 << 20
INFLIGHT_MAX_BYTES = 32 << 20
_WHITESPACE = b" \t\r\n"
_ZERO = Decimal(0)


# Any, so that a number keeps all its digits.
Quantity = Annotated[Any, msgspec.Meta(extra_json_schema={"type": ["string", "number"]})]


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`customer` by id, external id or alias; `feature` by id or key; `quantity` a string or a number, default 0."""

    customer: str
    feature: str
    quantity: Quantity = "0"


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """`CheckAnswer` as it goes out: quantities are strings, null where the feature has none."""

    allowed: bool
    reason: CheckReason
    usage: str | None
    limit: str | None
    balance: str | None
    overage: str | None
    resets_at: datetime | None
    as_of: datetime | None
    stale: bool
    config: str | None = None


class RefusedCheck(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str


class CheckRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """In the place of an answer, for a check of an array that has none."""

    error: RefusedCheck


class FeatureStanding(CheckResult, frozen=True, kw_only=True):
    """One feature of a customer, as a check of quantity 0 answers it. Unknown usage is null with `unknown_usage`."""

    feature: str


class UsageUnknown(Unavailable):
    """The customer's usage is not known yet: never "0 used"."""

    def __init__(self) -> None:
        super().__init__("usage", "the usage of this period is not known yet: ask again")
        self.code = "usage_unknown"


_encoder = msgspec.json.Encoder()
_request = exact_decoder(CheckRequest)
_requests = exact_decoder(list[CheckRequest])
_array = msgspec.json.Decoder(list[msgspec.Raw])


class Checker:
    """Answers of one request: all at one instant, for one tenant and environment."""

    def __init__(
        self, fold: EntitlementsFold, principal: Principal, now: datetime, stale_after_s: float = 10.0
    ) -> None:
        self._fold = fold
        self._principal = principal
        self._now = now
        self._stale_after = timedelta(seconds=stale_after_s)

    def answer(self, raw: bytes | msgspec.Raw) -> CheckResult:
        """Raises Invalid, NotFound, UsageUnknown."""
        return self.answer_to(_decoded(raw))

    def answer_to(self, asked: CheckRequest) -> CheckResult:
        """As `answer`."""
        result = self._checked(self._find(asked.customer), asked.feature, _quantity(asked.quantity))
        if result.reason == "unknown_usage":
            raise UsageUnknown
        return _result(result)

    def answer_each(self, body: bytes) -> list[CheckResult | CheckRefusal]:
        """An answer or a refusal for each check of the array. Raises Invalid where it is none, or holds too many."""
        answers: list[CheckResult | CheckRefusal] = []
        for asked in _checks(body):
            try:
                answers.append(self.answer_to(asked if isinstance(asked, CheckRequest) else _decoded(asked)))
            except MeterstreamError as error:
                answers.append(CheckRefusal(error=RefusedCheck(code=error.code, message=error.message)))
        return answers

    def standings(self, customer: str) -> list[FeatureStanding]:
        """Raises NotFound."""
        held = self._find(customer)
        return [
            FeatureStanding(feature=feature, **msgspec.structs.asdict(_result(self._checked(held, feature, _ZERO))))
            for feature in held.standings.features
        ]

    def _find(self, customer: str) -> HeldCustomer:
        return self._fold.find(self._principal.tenant, self._principal.environment, customer)

    def _checked(self, held: HeldCustomer, feature: str, quantity: Decimal) -> CheckAnswer:
        as_of = self._fold.as_of(held)
        stale = as_of is None or self._now - as_of > self._stale_after
        return held.standings.check(feature, quantity, now=self._now, as_of=as_of, stale=stale)


class CheckHandler:
    """`POST /v1/check` as bare ASGI: a check costs microseconds, and so must everything around it."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps
        self._inflight = Inflight(INFLIGHT_MAX_BYTES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            answer = await guarded(self._check(scope, receive), self._deps.ids)
        except ClientGone:
            return
        if isinstance(answer, ProblemAnswer):
            await send_bytes(
                send, answer.problem.status, answer.body, media_type=PROBLEM_JSON, headers=dict(answer.headers)
            )
        else:
            await send_bytes(send, 200, answer)

    async def _check(self, scope: Any, receive: Any) -> bytes:
        principal = await self._deps.auth.authenticate(header(scope, b"authorization"))
        check_scope(principal, SCOPE)
        with Reservation(self._inflight) as reservation:
            reservation.cover(announced_length(header(scope, b"content-length"), BODY_MAX_BYTES))
            body = (await read_body(receive, reservation, BODY_MAX_BYTES)).strip(_WHITESPACE)
            checker = checker_of(self._deps, principal)
            answer: Any = checker.answer_each(body) if body.startswith(b"[") else checker.answer(body)
            return _encoder.encode(answer)


class CheckController(Controller):
    tags = ("entitlements",)

    @get("/v1/customers/{customer:str}/entitlements", guards=[require(SCOPE)])
    async def entitlements(self, customer: str, principal: Principal, deps: ApiDeps) -> Page[FeatureStanding]:
        """All features of a customer at once, as checks of quantity 0 answer them."""
        checker = checker_of(deps, principal)
        return Page(items=checker.standings(customer))


def checker_of(deps: ApiDeps, principal: Principal) -> Checker:
    """Answers as of now. Raises Unavailable until the balances were read once."""
    return Checker(view_of(deps).current(), principal, deps.clock.now(), deps.settings.api.stale_after_s)


def view_of(deps: ApiDeps) -> EntitlementsView:
    """Raises Unavailable in a process that runs without it."""
    if deps.entitlements is None:
        raise Unavailable("entitlements", "this process keeps no balances")
    return deps.entitlements


def _checks(body: bytes) -> Sequence[CheckRequest | msgspec.Raw]:
    checks: Sequence[CheckRequest | msgspec.Raw]
    try:
        try:
            checks = _requests.decode(body)
        except msgspec.ValidationError:  # one of them: it is refused alone
            checks = _array.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("malformed_json", "the body is not JSON") from error
    if not 0 < len(checks) <= CHECKS_MAX:
        raise Invalid("invalid_request", f"an array holds 1 to {CHECKS_MAX} checks")
    return checks


def _decoded(raw: bytes | msgspec.Raw) -> CheckRequest:
    try:
        return _request.decode(raw)
    except msgspec.ValidationError as error:
        text = str(error)
        code = "unknown_field" if "unknown field" in text else "invalid_value"
        raise Invalid("invalid_request", text, [FieldError(pointer="", code=code, message=text)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("malformed_json", "the body is not JSON") from error


def _quantity(sent: object) -> Decimal:
    try:
        return parse_quantity(sent)
    except Invalid as error:
        field = FieldError(pointer="/quantity", code=error.code, message=error.message)
        raise Invalid(error.code, error.message, [field]) from error


def _result(answer: CheckAnswer) -> CheckResult:
    return CheckResult(
        allowed=answer.allowed,
        reason=answer.reason,
        usage=_text(answer.usage),
        limit=_text(answer.limit),
        balance=_text(answer.balance),
        overage=_text(answer.overage),
        resets_at=answer.resets_at,
        as_of=answer.as_of,
        stale=answer.stale,
        config=answer.config,
    )


def _text(quantity: Decimal | None) -> str | None:
    return None if quantity is None else format_quantity(quantity)
