"""The schema says what the answers are; errors have one form."""

import json
import os

import jsonschema
from asking import LIMITS, PICTURE, ask, form

from deepfidelity_jax.page.page import VERDICTS

SCHEMA = {"method": "GET", "url": "/api/openapi.json"}


def get(url, method="GET"):
    return {"method": method, "url": url}


def test_answers_are_what_the_schema_says(tmp_path):
    schema, limits, job, problem = ask(
        tmp_path,
        SCHEMA,
        get("/api/limits"),
        form((b'name="file"; filename="a.jpg"', PICTURE)),
        get("/api/jobs/none"),
    )
    parts = schema.json()["components"]

    def check(answer, name):
        jsonschema.validate(
            answer.json(), {"$ref": f"#/components/schemas/{name}"} | {"components": parts}
        )

    check(limits, "Limits")
    check(job, "JobView")
    check(problem, "Problem")
    assert limits.json() == json.loads(LIMITS.model_dump_json())
    operations = {
        f"{method} {path}" for path, item in schema.json()["paths"].items() for method in item
    }
    assert operations == {
        "post /api/jobs", "get /api/jobs/{id}", "delete /api/jobs/{id}",
        "get /api/jobs/{id}/events", "get /api/jobs/{id}/page", "get /api/limits",
    }  # fmt: skip
    assert "prediction" in parts["schemas"]["JobView"]["properties"]
    assert "p_fake" in parts["schemas"]["Prediction"]["properties"]


def test_every_error_has_the_same_form(tmp_path):
    for request, status, type in (
        (get("/api/jobs/none"), 404, "no_such_job"),
        (get("/api/jobs/none/page"), 404, "no_such_job"),
        (get("/api/jobs/none/events"), 404, "no_such_job"),
        (get("/api/jobs/none", "DELETE"), 404, "no_such_job"),
        (get("/api/jobs/..%2F..%2Fx"), 404, "not_found"),
        (get(f"/static/{os.pardir}/serve.py"), 404, "not_found"),
        (get("/static/%2e%2e/serve.py"), 404, "not_found"),
        (get("/docs"), 404, "not_found"),
        (get("/api/jobs"), 405, "wrong_method"),
        (get("/api/limits", "POST"), 405, "wrong_method"),
    ):
        (answer,) = ask(tmp_path, request)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, type), request


def test_a_job_is_cancelled_and_then_forgotten(tmp_path):
    def again(method, more=""):
        return lambda posted: get(posted.headers["location"] + more, method)

    posted, queued, cancelled, seen, events, page, removed, gone = ask(
        tmp_path, form((b'name="file"; filename="a.jpg"', PICTURE)), again("GET"), again("DELETE"),
        again("GET"), again("GET", "/events"), again("GET", "/page"), again("DELETE"), again("GET"),
    )  # fmt: skip
    assert (posted.status_code, cancelled.status_code, removed.status_code) == (202, 204, 204)
    assert posted.json() == queued.json()
    assert seen.json() == queued.json() | {"state": "cancelled", "position": None}
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text == f"data: {json.dumps(seen.json())}\n\n"
    assert (page.status_code, page.json()["error"]["type"]) == (404, "no_page")
    assert gone.status_code == 404
    assert not list(tmp_path.rglob("*"))


def test_the_page_about_a_file_opens_by_itself_and_runs_nothing(tmp_path):
    """By HTML, a sandboxed page with an opener policy of its own is a network error in a tab."""

    def page(posted):
        (tmp_path / posted.json()["id"] / "page.html").write_text("<p>about a.jpg")
        return get(posted.headers["location"] + "/page")

    _, answer = ask(tmp_path, form((b'name="file"; filename="a.jpg"', PICTURE)), page)
    assert answer.text == "<p>about a.jpg"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["cross-origin-opener-policy"] == "unsafe-none"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_loads_nothing_from_elsewhere(tmp_path):
    for path in ("/", "/static/page.js", "/static/page.css"):
        (answer,) = ask(tmp_path, get(path))
        assert answer.status_code == 200
        assert "//" not in answer.text.replace("// ", ""), path


def test_a_forgery_is_told_in_the_words_of_the_page(tmp_path):
    """They are true of every detector, also of one without a lower limit."""
    head, meaning = VERDICTS["fake"]
    words = f"A{head.removeprefix('Fake: a')}. {meaning}"
    (script,) = ask(tmp_path, get("/static/page.js"))
    assert f'fake: ["Fake", "{words}"]' in script.text
