"""Refuses requests from foreign web pages or for foreign host names; sets the answer headers.

A page on the web cannot read what a server on this machine answers, but it can post to it. If its
own name is made to point to this machine (DNS rebinding), it can read the answers as well. So the
host of a request must be an address or a name of this machine, and a request that changes anything
must not come from a page of another site.
"""

import ipaddress
import socket
import traceback
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from deepfidelity_jax.server.refusal import Refused

READING = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Passes a request on to `app`, or refuses it; adds HEADERS to the answer.

    Args:
      host: the name or address that the server is bound to.
      connections: how many requests are answered at a time.
    """

    def __init__(self, app: ASGIApp, host: str, connections: int):
        self._app, self._connections, self._open = app, connections, 0
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = False

        async def send_with_headers(message):
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        self._open += 1
        try:
            self._judge(scope["method"], Headers(scope=scope))
            await self._app(scope, receive, send_with_headers)
        except Refused as refused:
            await refused.answer()(scope, receive, send_with_headers)
        except Exception as error:
            if begun:
                raise
            traceback.print_exception(error)
            refused = Refused(500, "internal", "the server failed; see its output for the reason")
            await refused.answer()(scope, receive, send_with_headers)
        finally:
            self._open -= 1

    def _judge(self, method: str, headers: Headers) -> None:
        """Raise Refused for a request that must not be answered."""
        unread = method not in READING
        host = headers.get("host", "")
        if not self._is_here(host):
            message = f"this server does not serve the host {host!r}: use its address, or localhost"
            raise Refused(421, "wrong_host", message, unread=unread)
        if method not in READING and not _is_own_page(host, headers):
            message = "pages from other sites may not send requests to this server"
            raise Refused(403, "foreign_page", message, unread=unread)
        if self._open > self._connections:
            message = f"{self._connections} requests are being answered: try again"
            limit = self._connections
            raise Refused(503, "too_many_connections", message, limit, 2, unread=unread)

    def _is_here(self, host: str) -> bool:
        """Whether a Host header names this machine. An address cannot be rebound, a name can."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def _is_own_page(host: str, headers: Headers) -> bool:
    """Whether a request comes from our own page, or from no page at all, such as curl."""
    # Only browsers set it. Unlike Origin, it is also right behind a proxy with another name.
    if site := headers.get("sec-fetch-site"):
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == host
    except ValueError:
        return False
