"""Refused requests: their status and typed error."""

import asyncio
import contextlib

from starlette.responses import JSONResponse

from deepfidelity_jax.server.messages import Error, ErrorType, Problem

LINGER_S = 2  # how long after the answer to read from a client that is still sending


class Refused(Exception):
    """Why a request is refused.

    Args:
      status: the HTTP status.
      type: one of ErrorType.
      message: a sentence for the user.
      limit: the limit that was exceeded.
      retry_after: seconds after which a retry may work.
      unread: the client may still be sending.
    """

    def __init__(
        self,
        status: int,
        type: ErrorType,
        message: str,
        limit: int | None = None,
        retry_after: int | None = None,
        unread: bool = False,
    ):
        super().__init__(message)
        self.status, self.retry_after, self.unread = status, retry_after, unread
        self.error = Error(type=type, message=message, limit=limit)

    def answer(self) -> JSONResponse:
        """The response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        kind = _EarlyAnswer if self.unread else JSONResponse
        return kind(Problem(error=self.error).model_dump(), self.status, headers)


class _EarlyAnswer(JSONResponse):
    """An answer to a request that is still arriving.

    If the connection were closed at once, the system would reset it, and many clients would see a
    reset instead of the answer.
    """

    async def __call__(self, scope, receive, send):
        self.headers["Connection"] = "close"
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
