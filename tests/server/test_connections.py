"""Connections that ask nothing, or read nothing, are closed; nobody else notices them."""

import asyncio
import contextlib
import resource
import socket

import pytest
import uvicorn

from deepfidelity_jax.server import connections

HEADER_S, READ_S, MOST = 0.3, 0.3, 8
PATIENCE = 20  # seconds
HALF = b"GET / HTTP/1.1\r\nHost: local"
WHOLE = HALF + b"host\r\n\r\n"
OK = b"HTTP/1.1 200 OK"


async def answer(scope, receive, send):
    """At once; at /slow in pieces, which take longer than a header may; at /large without end."""
    await send({"type": "http.response.start", "status": 200})
    if scope["path"] == "/slow":
        for _ in range(4):
            await asyncio.sleep(HEADER_S / 2)
            await send({"type": "http.response.body", "body": b"piece", "more_body": True})
    while scope["path"] == "/large" and not (await gone(receive)):
        await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


async def gone(receive):
    """Whether the client has left."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.001):
            return (await receive())["type"] == "http.disconnect"
    return False


@pytest.fixture
def serve(monkeypatch):
    """Run a function of the server and of what opens a connection to it."""
    for name, value in (("HEADER_S", HEADER_S), ("READ_S", READ_S), ("MOST", MOST)):
        monkeypatch.setattr(connections, name, value)

    def serve(function):
        async def run():
            with socket.create_server(("127.0.0.1", 0)) as listener:
                settings = {"http": connections.Connection, "lifespan": "off", "log_config": None}
                server = uvicorn.Server(uvicorn.Config(answer, ws="none", **settings))
                task = asyncio.create_task(server.serve([listener]))
                writers = []

                async def connect(said=b""):
                    reader, writer = await asyncio.open_connection(*listener.getsockname())
                    writers.append(writer)
                    writer.write(said)
                    return reader, writer

                async with asyncio.timeout(PATIENCE):
                    await function(server.server_state, connect)
                for writer in writers:
                    writer.close()
                server.should_exit = True
                await task

        asyncio.run(run())

    return serve


@pytest.mark.parametrize("before", [b"", WHOLE])
def test_half_a_header_is_not_waited_for(serve, before):
    """Neither in the beginning nor after an answer, and not for one letter at a time."""

    @serve
    async def _(state, connect):
        reader, writer = await connect(before)
        if before:
            assert (await reader.readuntil(b"end")).startswith(OK)

        async def trickle():
            for letter in HALF * 100:
                writer.write(bytes([letter]))
                await asyncio.sleep(HEADER_S / 10)

        typing = asyncio.create_task(trickle())
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError):
            while await reader.read(100):
                pass
        assert asyncio.get_running_loop().time() - began < 3  # of 80 seconds that it would go on
        typing.cancel()
        assert not state.connections


def test_a_request_may_take_its_time_and_another_follows(serve):
    @serve
    async def _(state, connect):
        reader, writer = await connect(WHOLE.replace(b"/ ", b"/slow ", 1))
        assert (await reader.readuntil(b"end")).startswith(OK)
        await asyncio.sleep(HEADER_S / 2)
        writer.write(WHOLE)
        assert b"HTTP/1.1 200 OK" in await reader.readuntil(b"end")
        assert b"HTTP" not in await reader.read(), "closed, as nothing more was asked"


def test_who_asks_gets_an_answer_among_many_who_do_not(serve, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_S", 10 * PATIENCE)

    @serve
    async def _(state, connect):
        slow, _ = await connect(WHOLE.replace(b"/ ", b"/slow ", 1))
        await slow.readuntil(OK)
        silent = [await connect(HALF) for _ in range(4 * MOST)]
        reader, _ = await connect(WHOLE)
        assert (await reader.readuntil(b"end")).startswith(OK)
        assert len(state.connections) == MOST
        assert not await silent[0][0].read()
        silent[-1][1].write(b"host\r\n\r\n")
        assert (await silent[-1][0].readuntil(b"end")).startswith(OK)
        assert await slow.readuntil(b"end"), "what is being answered is left alone"


def test_an_answer_that_nobody_reads_ends(serve):
    @serve
    async def _(state, connect):
        _, writer = await connect(WHOLE.replace(b"/ ", b"/large ", 1))
        writer.transport.pause_reading()
        while not state.tasks:
            await asyncio.sleep(0.01)
        while state.tasks or state.connections:
            await asyncio.sleep(0.01)


def test_half_of_the_files_that_may_be_open_are_left_for_uploads():
    assert [connections.count_connections(files) for files in (256, 1024, 2**20)] == [128, 512, 512]
    assert connections.count_connections(resource.RLIM_INFINITY) == 512
