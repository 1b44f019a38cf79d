"""The one translator from an error to an HTTP answer: RFC 9457 `application/problem+json` with `code` and `errors[]`."""

import http
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from domain.errors import Conflict, FieldError, Invalid, MeterstreamError, NotFound, Unavailable
from runtime import metrics
from runtime.ids import Ids

PROBLEM_JSON = "application/problem+json"

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error. `code` is stable; `errors` point into the request body; `id` names a logged bug."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    id: str | msgspec.UnsetType = msgspec.UNSET


class ProblemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it goes out."""

    problem: Problem
    headers: Mapping[str, str] = {}

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(self.problem)


class ClientGone(Exception):  # noqa: N818 - nobody is left to answer
    """The client closed the connection before its body was complete."""


class HttpError(Exception):
    """What only HTTP knows (401, 403, 412, 413, 415, 429): raised in api/ alone."""

    status = 500
    code = "internal_error"

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = dict(headers or {})


class Unauthorized(HttpError):  # noqa: N818 - the kinds are the names, as in domain.errors
    status, code = 401, "unauthorized"

    def __init__(self, message: str = "send a valid key as `Authorization: Bearer <key>`") -> None:
        super().__init__(message, {"WWW-Authenticate": "Bearer"})


class ScopeMissing(HttpError):  # noqa: N818
    status, code = 403, "scope_missing"


class PreconditionFailed(HttpError):  # noqa: N818
    status, code = 412, "precondition_failed"


class BodyTooLarge(HttpError):  # noqa: N818
    status, code = 413, "body_too_large"


class UnsupportedMediaType(HttpError):  # noqa: N818
    status, code = 415, "unsupported_media_type"


class RateLimited(HttpError):  # noqa: N818
    status, code = 429, "rate_limited"

    def __init__(self, message: str, retry_after_s: int = 1, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, {"Retry-After": str(retry_after_s), **(headers or {})})


_STATUS_OF: tuple[tuple[type[MeterstreamError], int], ...] = (
    (Invalid, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
)

# Litestar's own refusals (routing, parsing) in our words.
_CODE_OF_STATUS = {
    401: "unauthorized",
    403: "scope_missing",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
}


def problem(
    status: int,
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    problem_id: str | msgspec.UnsetType = msgspec.UNSET,
) -> Problem:
    return Problem(
        title=http.HTTPStatus(status).phrase, status=status, code=code, detail=detail, errors=errors, id=problem_id
    )


def _known(error: MeterstreamError) -> ProblemAnswer:
    status = next(status for kind, status in _STATUS_OF if isinstance(error, kind))
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Unavailable) else {}
    return ProblemAnswer(problem=problem(status, error.code, error.message, error.details), headers=headers)


def _invalid_request(error: ValidationException) -> ProblemAnswer:
    """A body or a parameter that does not fit its type: 422, as everything that is well-formed and wrong."""
    fields: list[FieldError] = []
    if isinstance(error.extra, list):
        for entry in error.extra:
            if not isinstance(entry, dict):
                continue
            message = str(entry.get("message", ""))
            key = str(entry.get("key", "")) if entry.get("key") != "data" else ""
            pointer = "/" + key.replace(".", "/") if key else ""
            code = "unknown_field" if "unknown field" in message else "invalid_value"
            fields.append(FieldError(pointer=pointer, code=code, message=message))
    detail = "; ".join(f"{field.pointer or '/'}: {field.message}" for field in fields) or error.detail
    code = "unknown_field" if fields and all(field.code == "unknown_field" for field in fields) else "invalid_request"
    return ProblemAnswer(problem=problem(422, code, detail, fields))


def _framework(error: HTTPException) -> ProblemAnswer:
    if isinstance(error, ValidationException):
        return _invalid_request(error)
    if error.status_code == http.HTTPStatus.BAD_REQUEST:
        malformed = "malformed" in error.detail
        return ProblemAnswer(
            problem=problem(422, "malformed_json" if malformed else "invalid_request", error.detail or "bad request")
        )
    code = _CODE_OF_STATUS.get(error.status_code, "internal_error")
    return ProblemAnswer(problem=problem(error.status_code, code, error.detail), headers=dict(error.headers or {}))


def translate(error: Exception, ids: Ids) -> ProblemAnswer:
    """The answer to an error. What is none of the known kinds is a bug: 500, logged once under the id it answers with."""
    if isinstance(error, MeterstreamError):
        answer = _known(error)
    elif isinstance(error, HttpError):
        answer = ProblemAnswer(problem=problem(error.status, error.code, error.message), headers=error.headers)
    elif isinstance(error, RecursionError):
        # The decoder's: nothing of ours goes as deep as a request may.
        answer = ProblemAnswer(problem=problem(422, "malformed_json", "the body is nested too deeply"))
    elif isinstance(error, HTTPException) and error.status_code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        answer = _framework(error)
    else:
        problem_id = ids.new("err")
        _log.error("request failed by a bug", problem_id=problem_id, exc_info=error)
        detail = "an error of ours; it is logged under this id"
        answer = ProblemAnswer(problem=problem(500, "internal_error", detail, problem_id=problem_id))
    metrics.api_errors.labels(answer.problem.code).inc()
    return answer


async def guarded(work: Awaitable[T], ids: Ids) -> T | ProblemAnswer:
    """What a bare ASGI handler's work returns, or the answer to the error that it raises.

    Passes on what is no Exception, and `ClientGone`, to which there is no answer.
    """
    try:
        return await work
    except ClientGone:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the client gets an answer
        return translate(error, ids)


def exception_handler(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's hook for every exception of a handler, a guard or the router."""
    answer = translate(error, request.app.state.deps.ids)
    return Response(
        answer.body, status_code=answer.problem.status, media_type=PROBLEM_JSON, headers=dict(answer.headers)
    )
