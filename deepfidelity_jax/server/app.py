"""The routes of the HTTP API and of the page."""

import json
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import Request

from deepfidelity_jax import __version__
from deepfidelity_jax.markup.templates import PALETTE
from deepfidelity_jax.server import uploads
from deepfidelity_jax.server.guard import Guard
from deepfidelity_jax.server.jobs import Jobs
from deepfidelity_jax.server.messages import JobView, Limits, Problem
from deepfidelity_jax.server.refusal import Refused

STATIC = Path(__file__).parent / "static"
# A page about a file contains data from that file, so nothing in it may run or load anything.
PAGE_POLICY = (
    "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [uploads.FIELD],
                "properties": {
                    uploads.FIELD: {
                        "type": "string",
                        "format": "binary",
                        "description": "a photograph or a video",
                    }
                },
            }
        }
    },
}
WRONG = {"default": {"model": Problem, "description": "why not"}}
STREAM = {"description": "a JobView whenever it changes", "content": {"text/event-stream": {}}}
PAGE = {"description": "a self-contained page", "content": {"text/html": {}}}


def build(jobs: Jobs, limits: Limits, host: str) -> FastAPI:
    """The application.

    Args:
      jobs: the jobs that the routes serve.
      limits: shown at /api/limits, and enforced on uploads.
      host: the name or address that the server is bound to.
    """
    app = FastAPI(
        title="deepfidelity_jax",
        version=__version__,
        description="Verdicts on photographs and videos, with the fidelity of every face.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        responses=WRONG,
    )
    app.add_middleware(Guard, host=host, connections=limits.connections)
    _answer_errors(app)

    @app.post(
        "/api/jobs",
        status_code=202,
        responses={202: {"model": JobView}},
        openapi_extra={"requestBody": FORM},
    )
    async def post_job(request: Request) -> Response:
        """Upload a file in the field `file` of a form; it is queued."""
        with jobs.arriving() as (id, folder):
            path = await uploads.receive(request, folder, limits)
            job = jobs.add(id, path)
        return JSONResponse(job.view(), 202, {"Location": f"/api/jobs/{id}"})

    @app.get("/api/jobs/{id}", responses={200: {"model": JobView}})
    async def get_job(id: str) -> Response:
        """The state of a job, with its verdict once there is one."""
        return JSONResponse(jobs.find(id).view())

    @app.get("/api/jobs/{id}/events", response_class=Response, responses={200: STREAM})
    async def get_events(id: str) -> Response:
        """Server-sent events: the job at each change, until it has ended."""
        job = jobs.find(id)

        async def stream():
            async for view in job.changes():
                yield ": still here\n\n" if view is None else f"data: {json.dumps(view)}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/api/jobs/{id}/page", response_class=Response, responses={200: PAGE})
    async def get_page(id: str) -> Response:
        """The page about a file: the verdict, and the evidence for it."""
        job = jobs.find(id)
        if not job.page.is_file():
            message = f"there is no page about this job, which is {job.state}"
            raise Refused(404, "no_page", message)
        # Browsers may refuse to open a sandboxed page that also sets an opener policy.
        headers = {
            "Content-Security-Policy": PAGE_POLICY,
            "Cross-Origin-Opener-Policy": "unsafe-none",
        }
        return FileResponse(job.page, headers=headers, media_type="text/html; charset=utf-8")

    @app.delete("/api/jobs/{id}", status_code=204)
    async def delete_job(id: str) -> Response:
        """Cancel a job that has not ended, or remove an ended job and its page."""
        jobs.remove(jobs.find(id))
        return Response(status_code=204)

    @app.get("/api/limits")
    async def get_limits() -> Limits:
        """What the server accepts, and how long it keeps jobs."""
        return limits

    @app.get("/", include_in_schema=False)
    async def get_start() -> Response:
        """The page for people."""
        return FileResponse(STATIC / "index.html")

    @app.get("/static/palette.css", include_in_schema=False)
    async def get_palette() -> Response:
        """The colours that all pages share."""
        return FileResponse(PALETTE)

    app.mount("/static", StaticFiles(directory=STATIC))
    return app


def _answer_errors(app: FastAPI) -> None:
    """Turn every refusal into a Problem."""

    @app.exception_handler(Refused)
    async def refuse(request: Request, error: Refused) -> Response:
        return error.answer()

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        types = {404: "not_found", 405: "wrong_method"}
        type = types.get(error.status_code, "wrong_request")
        return Refused(error.status_code, type, str(error.detail)).answer()

    @app.exception_handler(RequestValidationError)
    async def refuse_form(request: Request, error: RequestValidationError) -> Response:
        return Refused(422, "wrong_request", str(error.errors()[0]["msg"])).answer()
