"""Who visits the storefront: a random id in a cookie of this site, or nobody.

A visitor's user id begins with "visitor-", so that no cookie can name a customer of the shop.
Nobody is who opted out, or whose browser sends Global Privacy Control."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

COOKIE, BASKET = "nightshelf_visitor", "nightshelf_basket"
#: In place of an id, of a visitor who does not want one.
NOBODY = "none"
YEAR_S = 365 * 86_400
#: Browsers refuse cookies of over 4 KiB.
MAX_BASKET, MAX_BASKET_BYTES, MAX_COUNT = 30, 3_500, 99
_SECRET = re.compile(r"^[A-Za-z0-9_-]{22}$")


@dataclass(frozen=True)
class Visitor:
    """`secret` names a visitor between two visits, None one who shall not be known; `is_new` where
    the browser has not got it yet. `has_gpc`: the browser asks for privacy."""

    secret: str | None
    is_new: bool = False
    has_gpc: bool = False

    @property
    def user_id(self) -> str | None:
        """In the event log."""
        return self.secret and f"visitor-{self.secret}"


def visitor_of(request: Request) -> Visitor:
    """By the cookie, new without one."""
    if request.headers.get("sec-gpc") == "1":
        return Visitor(None, has_gpc=True)
    secret = request.cookies.get(COOKIE, "")
    if secret == NOBODY:
        return Visitor(None)
    if _SECRET.match(secret):
        return Visitor(secret)
    return Visitor(secrets.token_urlsafe(16), is_new=True)


def basket_of(request: Request) -> dict[str, int]:
    """Item ids and how many of each, in the order they came in; nothing of a damaged cookie."""
    basket = dict[str, int]()
    for part in request.cookies.get(BASKET, "")[: 2 * MAX_BASKET_BYTES].split("."):
        item_id, _, count = part.rpartition("~")
        if item_id and count.isdecimal() and 0 < int(count[:3]) <= MAX_COUNT:
            basket[unquote(item_id)] = int(count)
    return dict(list(basket.items())[:MAX_BASKET])


def keep_visitor(request: Request, response: Response, secret: str) -> None:
    """For a year; NOBODY too."""
    set_cookie(request, response, COOKIE, secret)


def keep_basket(request: Request, response: Response, basket: dict[str, int]) -> None:
    """The newest first to go where it is too long for a cookie."""
    parts = [f"{quote(item_id, safe='').replace('.', '%2E')}~{n}" for item_id, n in basket.items()]
    while len(".".join(parts)) > MAX_BASKET_BYTES:
        parts.pop()
    set_cookie(request, response, BASKET, ".".join(parts))


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """For these pages alone, unseen by scripts; only over TLS where the page came over it."""
    is_secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    response.set_cookie(
        name,
        value,
        max_age=YEAR_S,
        path=f"{request.scope.get('root_path', '')}/shop",
        secure=is_secure,
        httponly=True,
        samesite="lax",
    )


def check_same_origin(request: Request) -> None:
    """Raises HTTPException 403 for a call by a page of another site. Programs send neither header,
    and have no cookie of a visitor."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    host = request.headers.get("host", "").lower()
    is_own = site == "same-origin" if site else origin is None or urlsplit(origin).netloc == host
    if not is_own:
        raise HTTPException(403, "a page of another site may not act for a visitor of this one")
