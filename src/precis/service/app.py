"""The application: which address gives what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from precis.errors import PrecisError
from precis.processes import num_cores
from precis.service.batching import Batcher
from precis.service.guard import DOCS_FILES, MODEL_VERSION, Guard, error_body, version_of
from precis.service.limits import Limits
from precis.service.metrics import Metrics
from precis.service.models import Loaded, ServedModel
from precis.service.refusal import RefusedError
from precis.service.requests import SummarizeRequest, read_request
from precis.service.swap import Watcher
from precis.serving.summary import Summary

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
BATCH_SIZE = 16
Page = Callable[[FastAPI], None]


@dataclass(frozen=True)
class Service:
    """What the routes work with; `app.state.service`.

    Attributes:
        models: by the names that requests use; the first is the default.
        limits: of requests.
        batcher: makes the summaries.
        metrics: what is counted.
    """

    models: Mapping[str, ServedModel]
    limits: Limits
    batcher: Batcher
    metrics: Metrics

    def choose(self, name: str | None) -> tuple[str, Loaded]:
        """The model that a request means, and its name.

        Raises:
            RefusedError: there is none of that name (422), or it is not there yet (503).
        """
        if name is None:
            name = next(iter(self.models))
        if name not in self.models:
            raise RefusedError(422, f"model: expected one of {', '.join(self.models)}")
        loaded = self.models[name].loaded
        if loaded is None:
            raise RefusedError(
                503,
                f"no model is loaded as {name} yet: {self.models[name].problem or 'none was found'}",
                retry_after=5,
            )
        return name, loaded

    async def summarize(self, asked: SummarizeRequest, request: Request) -> tuple[str, Loaded, list[Summary]]:
        """Answer a request within its deadline: the model's name, the model, and a summary for each document.

        Raises:
            RefusedError: the request cannot be answered, or not in time.
        """
        name, loaded = self.choose(asked.model)
        deadline: float = request.state.deadline
        waiting = self.batcher.submit(asked.texts, loaded, asked.decoding, deadline)
        answer: asyncio.Future[Any] = asyncio.wrap_future(waiting)
        gone: asyncio.Future[Any] = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait(
                {answer, gone},
                timeout=deadline - asyncio.get_running_loop().time(),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            gone.cancel()
        if answer.cancelled() or not answer.done():
            waiting.cancel()  # work that has not begun is not begun any more
            raise RefusedError(503, f"no answer within {self.limits.deadline_seconds:g} s", retry_after=5)
        try:
            summaries = answer.result()
        except PrecisError as error:
            raise RefusedError(422, str(error)) from error
        self.metrics.documents.labels(name).inc(len(summaries))
        return name, loaded, summaries


def create_app(
    models: Mapping[str, ServedModel],
    *,
    limits: Limits | None = None,
    workers: int = 1,
    threads: int = 1,
    batch_size: int = BATCH_SIZE,
    hosts: Collection[str] = LOCAL_HOSTS,
    token: str | None = None,
    watch_seconds: float = 0,
    pages: Sequence[Page] = (),
) -> FastAPI:
    """The service over these models.

    Args:
        models: by the names that requests use; the first is the default. They may change while it runs.
        limits: of requests; None: `Limits()`.
        workers: searches at a time.
        threads: of torch in each search; 0: all cores, shared between the workers.
        batch_size: the most documents in one search.
        hosts: values of the Host header that are answered, without port.
        token: what `Authorization: Bearer` must carry; None: nothing.
        watch_seconds: between two looks at what aliases point at; 0: models stay as they are.
        pages: each is called with the application and adds routes of its own, such as the demo page; they find
            models and batches in `app.state.service`.
    """
    limits = limits or Limits()
    metrics = Metrics()
    batcher = Batcher(
        workers=workers,
        threads=threads or max(1, num_cores() // workers),
        batch_size=batch_size,
        waiting=limits.waiting or 2 * workers * batch_size,
        metrics=metrics,
    )
    metrics.watch(models, lambda: batcher.num_waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watcher = Watcher(models.values(), watch_seconds)
        if watch_seconds:
            watcher.start()
        yield
        watcher.stop()
        await asyncio.to_thread(batcher.close)

    app = FastAPIOffline(  # its page loads no script from another host
        title="precis",
        version=version("precis"),
        description="Summaries of your documents, each word accounted for.",
        lifespan=lifespan,
        redoc_url=None,
        static_url=DOCS_FILES,
    )
    app.state.service = Service(models, limits, batcher, metrics)
    app.add_middleware(Guard, models=models, limits=limits, hosts=hosts, token=token, metrics=metrics)
    app.add_exception_handler(HTTPException, _explain)
    app.post(
        "/summarize",
        summary="Summarize documents",
        responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": SummarizeRequest.model_json_schema()}},
            }
        },
    )(_summarize)
    app.get("/health", summary="Which models answer, and whether they can")(_health)
    app.get("/metrics", summary="Counters in Prometheus' format", response_class=Response)(_metrics)
    for add in pages:
        add(app)
    return app


async def _summarize(request: Request) -> Response:
    service: Service = request.app.state.service
    asked = read_request(await request.body(), service.limits)
    name, loaded, summaries = await service.summarize(asked, request)
    answer = {
        "request_id": request.state.request_id,
        "model": name,
        "model_version": loaded.version,
        "summaries": [_plain(summary, provenance=asked.provenance) for summary in summaries],
    }
    return JSONResponse(answer, headers={MODEL_VERSION: loaded.version})


async def _health(request: Request) -> Response:
    service: Service = request.app.state.service
    is_able = version_of(service.models) is not None and service.batcher.is_alive
    has_problem = any(model.problem for model in service.models.values())
    answer = {
        "status": ("degraded" if has_problem else "ok") if is_able else "unable",
        "request_id": request.state.request_id,
        "model_version": version_of(service.models),
        "models": {name: model.as_dict() for name, model in service.models.items()},
        "waiting": service.batcher.num_waiting,
    }
    return JSONResponse(answer, status_code=200 if is_able else 503)


async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _explain(request: Request, error: Exception) -> Response:
    """An address that does not exist, or not for this method."""
    assert isinstance(error, HTTPException)
    service: Service = request.app.state.service
    messages = {
        404: "there is nothing at this address: POST /summarize, GET /health, /metrics or /openapi.json",
        405: "this address is not for this method: POST /summarize, GET the others",
    }
    refusal = RefusedError(error.status_code, messages.get(error.status_code, str(error.detail)))
    body = error_body(refusal, request.state.request_id, service.models)
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _disconnected(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _plain(summary: Summary, *, provenance: bool) -> dict[str, Any]:
    values = summary.as_dict()
    if not provenance:
        del values["tokens"]
    return values


_EXAMPLE = {
    "request_id": "0b8b2f0e7d0c4f6ab4a9a0f8f0a3c1de",
    "model": "champion",
    "model_version": "3",
    "summaries": [
        {"summary": "Return the number of words.", "summary_id": "sum-…", "score": -0.4, "log_prob": -2.8}
    ],
}
