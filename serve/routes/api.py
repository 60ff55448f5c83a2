"""The HTTP routes: what comes in is checked here, what goes out says its release and request id.

Nothing here knows Ray: the routes run over a `Shop`, which `replicas.ShopReplica` is, and so may a
test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Protocol, get_origin

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from recsys import types
from recsys.config import Day
from recsys.errors import (
    InputError,
    NotFoundError,
    RecsysError,
    ReleaseError,
    SpaceMismatchError,
    StoreDownError,
)
from recsys.pipeline.explain import Explanation
from recsys.types import Impression, Interaction, Item, Ranking
from recsys.understanding.suggest import Suggestion
from serve import limits as walls
from serve import metrics
from serve.access import Access, Anybody, needs
from serve.admission import Admission, due_of
from serve.routes import answers, people, schema, wire
from serve.routes.wire import Json, RefusedError


class NotReadyError(RecsysError):
    """There is no release to answer from, or the encoder is of another one."""


@dataclass(frozen=True)
class Recorded:
    """What became of the events of one call; `dropped` are of users who decided against it."""

    accepted: int
    duplicates: int
    quarantined: int
    dropped: int = 0


@dataclass(frozen=True)
class Health:
    """`created` is the live release's (None: nothing is loaded); `refused` says why each other one
    was not."""

    release: str | None
    created: datetime | None
    space: str
    refused: dict[str, str]


class Shop(people.People, Protocol):
    """What the routes ask of a replica. All but `health` may block on disk or a model, off the
    event loop.

    Raises NotReadyError without a release, NotFoundError for an item or release that is not there.
    """

    day: Day

    async def search(self, query: types.Query) -> Ranking: ...

    async def recommend(self, query: types.Query) -> Ranking: ...

    async def similar(self, query: types.Query, item_id: str) -> Ranking: ...

    async def suggest(self, prefix: str, k: int) -> tuple[str, list[Suggestion]]:
        """The release's version, and up to k completions, best first."""
        ...

    async def explain(self, request_id: str, item_id: str) -> Explanation:
        """Why the item stands where it does in that answer, or is not in it."""
        ...

    async def item(self, item_id: str) -> tuple[str, Item]:
        """The release's version, and the item as it stands there."""
        ...

    async def record(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> Recorded:
        """Durable when it returns. An interaction with an item that the release does not have is
        quarantined."""
        ...

    async def releases(self) -> list[dict[str, Any]]: ...

    async def promote(self, version: str) -> None:
        """Serves it, here at once. SpaceMismatchError or ReleaseError when it cannot be: nothing
        has changed then."""
        ...

    def health(self) -> Health: ...

    def close(self) -> None: ...


def build_api(shop: Shop, access: Access | None = None) -> FastAPI:
    """The whole application over one shop. `access` says who may ask what; without it everybody may
    everything."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        shop.close()

    api = FastAPI(
        title="Nightshelf",
        description=schema.DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        openapi_url=None,
    )
    api.state.access = access or Anybody()
    api.add_middleware(Admission, day=shop.day)
    walls.build(api, shop.day)
    api.add_middleware(
        metrics.Observed, release=lambda: shop.health().release, log_queries=shop.day.log_queries
    )
    decided = people.routes(shop, [needs("admin"), takes()])
    for routes in (_answers(shop), _events(shop), _releases(shop), decided, schema.pages(api)):
        api.include_router(routes)
    _errors(api, shop)
    api.openapi = partial(schema.openapi, api, shop.day)  # type: ignore[method-assign]
    return api


def takes(model: type[BaseModel] | None = None) -> Any:
    """Refuses a query parameter that the route does not know, or that comes twice and is not a
    list."""
    fields = model.model_fields if model else {}
    names, lists = (
        list(fields),
        [name for name, field in fields.items() if get_origin(field.annotation) is list],
    )
    often = f" but {' and '.join(lists)}" if lists else ""
    known = f"only {', '.join(names)}, each once{often}" if names else "no query parameters here"

    async def check(request: Request) -> None:
        sent = [name for name, _ in request.query_params.multi_items()]
        for name in sent:
            if name not in names or (sent.count(name) > 1 and name not in lists):
                message = f"parameter {name[:100]!r} is unknown or repeated: give {known}"
                raise RefusedError(name[:100], request.query_params[name], known, message=message)

    return Depends(check)


def _answers(shop: Shop) -> APIRouter:
    routes = APIRouter(tags=["answers"])
    reader = needs("read")

    def query(request: Request, page: wire.Page) -> types.Query:
        asked = replace(
            wire.query_of(request.state.request_id, page, shop.day), deadline=due_of(request.scope)
        )
        if (
            request.headers.get("sec-gpc") == "1"
        ):  # Global Privacy Control: a stranger's answer, logged without him
            return replace(asked, user_id=None)
        return asked

    @routes.get(
        "/search", response_model=answers.SearchAnswer, dependencies=[reader, takes(wire.Search)]
    )
    async def search(request: Request, page: Annotated[wire.Search, Query()]) -> Response:
        asked = query(request, page)
        ranking = await shop.search(asked)
        return _answered(request, ranking, answers.search_answer(ranking, asked))

    @routes.get(
        "/suggest", response_model=answers.SuggestAnswer, dependencies=[reader, takes(wire.Prefix)]
    )
    async def suggest(request: Request, prefix: Annotated[wire.Prefix, Query()]) -> Response:
        wire.check_size(prefix, shop.day)
        release, suggestions = await shop.suggest(prefix.q, prefix.k)
        request.state.release = release
        return Json(answers.suggest_answer(request.state.request_id, release, suggestions))

    @routes.get(
        "/recommend", response_model=answers.Answer, dependencies=[reader, takes(wire.Recommend)]
    )
    async def recommend(request: Request, page: Annotated[wire.Recommend, Query()]) -> Response:
        ranking = await shop.recommend(query(request, page))
        return _answered(request, ranking, answers.answer(ranking))

    @routes.get(
        "/similar/{item_id:path}",
        response_model=answers.Answer,
        dependencies=[reader, takes(wire.Page)],
    )
    async def similar(
        request: Request, item_id: wire.Id, page: Annotated[wire.Page, Query()]
    ) -> Response:
        ranking = await shop.similar(query(request, page), item_id)
        return _answered(request, ranking, answers.answer(ranking))

    @routes.get(
        "/explain",
        response_model=answers.ExplainAnswer,
        dependencies=[needs("admin"), takes(wire.Explain)],
    )
    async def explain(request: Request, asked: Annotated[wire.Explain, Query()]) -> Response:
        explanation = await shop.explain(asked.request_id, asked.item_id)
        request.state.release = explanation.release
        return Json(answers.explain_answer(request.state.request_id, explanation))

    @routes.get(
        "/items/{item_id:path}", response_model=answers.ItemAnswer, dependencies=[reader, takes()]
    )
    async def item(request: Request, item_id: wire.Id) -> Response:
        release, found = await shop.item(item_id)
        added = found.added.isoformat() if found.added else None
        more = {
            "description": found.description,
            "image": found.image,
            "group_id": found.group_id,
            "added": added,
        }
        told = {**answers.item_fields(found), **more}
        return Json({"request_id": request.state.request_id, "release": release, "item": told})

    return routes


def _answered(
    request: Request, ranking: Ranking, told: answers.Answer | answers.SearchAnswer
) -> Response:
    route = metrics.route_of(request.scope)
    for stage, milliseconds in ranking.stages_ms.items():
        metrics.STAGE_MS.observe(milliseconds, {"route": route, "stage": stage})
    if not ranking.items:
        metrics.EMPTY_ANSWERS.inc(tags={"route": route})
    request.state.release = ranking.release
    return Json(told)


def _events(shop: Shop) -> APIRouter:
    routes = APIRouter(tags=["events"])

    @routes.post(
        "/events",
        response_model=answers.EventsAnswer,
        dependencies=[needs("events"), takes()],
        openapi_extra=schema.EVENTS,
    )
    async def events(request: Request) -> Response:
        sent = wire.events_of(await walls.body(request))
        request.state.asked = [event.user_id for event in sent]
        release = shop.health().release
        origin = wire.origin_of(request.client.host if request.client else None)
        interactions = [
            event.interaction(origin) for event in sent if isinstance(event, wire.Event)
        ]
        shown = [event.impression(release or "") for event in sent if isinstance(event, wire.Shown)]
        recorded = await shop.record(interactions, shown)
        ids = [event.event_id for event in sent]
        told = {
            "request_id": request.state.request_id,
            "release": release,
            **vars(recorded),
            "event_ids": ids,
        }
        return Json(told)

    return routes


def _releases(shop: Shop) -> APIRouter:
    routes = APIRouter(tags=["operations"])

    @routes.get(
        "/releases", response_model=answers.ReleasesAnswer, dependencies=[needs("admin"), takes()]
    )
    async def releases(request: Request) -> Response:
        live = shop.health().release
        return Json(
            {
                "request_id": request.state.request_id,
                "release": live,
                "releases": await shop.releases(),
            }
        )

    @routes.post(
        "/releases/{version}/promote",
        response_model=answers.PromoteAnswer,
        dependencies=[needs("admin"), takes()],
    )
    async def promote(request: Request, version: wire.Version) -> Response:
        await shop.promote(version)
        return Json({"request_id": request.state.request_id, "release": version})

    @routes.get("/healthz", response_model=answers.HealthAnswer, dependencies=[takes()])
    async def healthz(request: Request) -> Response:
        health = shop.health()
        age_s = (
            round((datetime.now(UTC) - health.created).total_seconds(), 1)
            if health.created
            else None
        )
        told = {
            "release": health.release,
            "age_s": age_s,
            "space": health.space,
            "refused": health.refused,
        }
        return Json(
            {"request_id": request.state.request_id, **told}, 200 if health.release else 503
        )

    @routes.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    return routes


_STATUSES: dict[type[RecsysError], int] = {
    NotReadyError: 503,
    StoreDownError: 503,
    NotFoundError: 404,
    SpaceMismatchError: 409,
    ReleaseError: 409,
    InputError: 422,
}


def _errors(api: FastAPI, shop: Shop) -> None:
    """Every refusal as one JSON shape."""
    words = wire.allowed(shop.day)

    def respond(request: Request, status: int, message: str, *field: Any) -> Response:
        return Json(wire.error(message, request.state.request_id, *field), status)

    @api.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return respond(request, error.status, str(error), error.field, error.value, error.allowed)

    @api.exception_handler(RequestValidationError)
    @api.exception_handler(ValidationError)
    async def invalid(
        request: Request, error: RequestValidationError | ValidationError
    ) -> Response:
        return await refused(request, wire.refusal(error.errors(), words))

    @api.exception_handler(RecsysError)
    async def known(request: Request, error: RecsysError) -> Response:
        field, value = next(iter(request.path_params.items()), (None, None))
        return respond(request, _status(error), str(error), field, value)

    @api.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        response = respond(request, error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response


def _status(error: RecsysError) -> int:
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)
