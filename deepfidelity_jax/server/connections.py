"""Closes connections on which the client neither sends a request nor reads the answer.

Guard counts requests, and uvicorn passes on only complete ones, so a client that sends half a
header and stops is noticed only here.
"""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_S = 10  # time that the header of a request may take
READ_S = 60  # time that a client may take to read some of its answer


def count_connections(files: int) -> int:
    """How many may be open if the process may open `files` files; uploads need files as well."""
    return 512 if files == resource.RLIM_INFINITY else min(512, files // 2)


MOST = count_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # open connections


class Connection(H11Protocol):
    """Closed if no request arrives within HEADER_S of the start or of the previous answer.

    Beyond MOST connections, the one that has been idle longest is closed.
    """

    _idle: asyncio.TimerHandle | None = None  # while no request is being answered
    _full: asyncio.TimerHandle | None = None  # while the client has to read before more is sent

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > MOST:
            idle = [
                (connection._idle.when(), connection)
                for connection in self.connections
                if connection._idle
            ]
            _, oldest = min(idle, key=lambda pair: pair[0])
            oldest._stop_waiting()
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take data, which may be part of a header."""
        super().data_received(data)  # cancels uvicorn's own timer at the first byte
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has already arrived."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._full = self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting: the client has read."""
        super().resume_writing()
        if self._full:
            self._full.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        super().connection_lost(exc)
        self._stop_waiting()
        if self._full:
            self._full.cancel()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif not self._idle:
            self._idle = self.loop.call_later(HEADER_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._idle:
            self._idle.cancel()
            self._idle = None
