"""The HTTP application over one `Shop`: middleware, routes and error handlers put together.

Nothing here knows Ray."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from recsys.config import Day
from serve import limits, metrics
from serve.access import Access, KeyAccess, OpenAccess
from serve.admission import Admission
from serve.protocols import trackers
from serve.protocols.algolia import insights
from serve.protocols.algolia import routes as algolia
from serve.protocols.algolia.errors import AlgoliaErrors
from serve.routes import (
    catalogue,
    docs,
    events,
    people,
    photos,
    pictures,
    releases,
    schema,
    search,
)
from serve.routes.errors import add_error_handlers
from serve.routes.requests import allowed_values
from serve.routes.shop import Shop
from serve.web import actions, storefront
from serve.web.error_pages import ErrorPages

#: Modules of routes, each with its `router`.
ROUTES = (
    search,
    photos,
    catalogue,
    events,
    releases,
    people,
    pictures,
    docs,
    algolia,
    insights,
    trackers,
)


def build_api(shop: Shop, access: Access | None = None) -> FastAPI:
    """The whole application. `access` decides who may call what; without it everybody may call
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
    api.state.shop, api.state.access = shop, access or OpenAccess()
    _add_middleware(api, shop)
    for routes in ROUTES:
        api.include_router(routes.router)
    api.state.has_storefront = has_storefront(shop.day, api.state.access)
    if api.state.has_storefront:
        for router in (storefront.public, storefront.router, actions.router):
            api.include_router(router)
        api.add_middleware(ErrorPages)
    add_error_handlers(api, allowed_values(shop.day))
    api.openapi = partial(schema.openapi, api, shop.day)  # type: ignore[method-assign]
    return api


def has_storefront(day: Day, access: Access) -> bool:
    """Where there are keys the setup must say so: the storefront answers without one."""
    return not isinstance(access, KeyAccess) if day.storefront is None else day.storefront


def _add_middleware(api: FastAPI, shop: Shop) -> None:
    """Innermost first: metrics see every request, also those that limits or admission refuse."""
    api.add_middleware(Admission, day=shop.day)
    limits.add_limits(api, shop.day)
    api.add_middleware(
        metrics.RequestMetrics,
        release=lambda: shop.health().release,
        log_queries=shop.day.log_queries,
    )
    api.add_middleware(AlgoliaErrors)
