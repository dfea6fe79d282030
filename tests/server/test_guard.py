"""Foreign pages and foreign names are refused; every answer says what a browser may do with it."""

import asyncio

import httpx
import pytest
from asking import PICTURE, ask, form

from deepfidelity_jax.server.guard import HEADERS, Guard

POST = form((b'name="file"; filename="a.jpg"', PICTURE))
LIMITS = {"method": "GET", "url": "/api/limits"}


def with_headers(request, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request | {"headers": request.get("headers", {}) | named}


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1", "192.168.1.5:80", "[::1]:8000", "LOCALHOST"]
)
def test_own_names_are_answered(tmp_path, host):
    (answer,) = ask(tmp_path, with_headers(LIMITS, Host=host))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[", "", "a@b:c"]
)
def test_other_names_are_not(tmp_path, host):
    """A page whose own name points to this machine could read what it likes."""
    answers = ask(tmp_path, with_headers(LIMITS, Host=host), with_headers(POST, Host=host))
    assert [answer.status_code for answer in answers] == [421, 421]
    assert answers[0].json()["error"]["type"] == "wrong_host"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "http://localhost"}, 202),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "https://proxy.example"}, 202),
        ({"Sec_Fetch_Site": "none"}, 202),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Origin": "http://localhost"}, 403),
    ],
)
def test_pages_of_other_sites_cannot_post(tmp_path, headers, status):
    (answer,) = ask(tmp_path, with_headers(POST, **headers))
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["type"] == "foreign_page"
        assert not list(tmp_path.rglob("*"))


def test_every_answer_has_its_headers(tmp_path):
    paths = ("/", "/static/page.js", "/api/limits", "/api/jobs/none", "/nowhere")
    for answer in ask(tmp_path, *({"method": "GET", "url": path} for path in paths)):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


def test_a_failure_inside_has_the_headers_too(capsys):
    async def fail(scope, receive, send):
        raise RuntimeError("a route failed")

    async def get():
        transport = httpx.ASGITransport(Guard(fail, "localhost", 2))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/")

    answer = asyncio.run(get())
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal")
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "a route failed" in capsys.readouterr().err
