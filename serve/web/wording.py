"""The storefront in a visitor's language: messages, prices and numbers.

Messages are gettext's, in `locale/*/messages.po`; `make messages` collects them from templates and
code."""

from __future__ import annotations

import gettext
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from babel import Locale, UnknownLocaleError
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency, format_decimal, format_percent
from starlette.requests import Request

FOLDER = Path(__file__).parent / "locale"
#: Language of the pages to its own name and the region that is meant without one.
LANGUAGES = {"en": ("English", "US"), "zh": ("中文", "CN")}
DEFAULT = "en"
COOKIE = "nightshelf_language"


@dataclass(frozen=True)
class Wording:
    """Words, prices and numbers of one locale."""

    locale: Locale

    @property
    def language(self) -> str:
        return str(self.locale.language)

    @property
    def tag(self) -> str:
        """As HTML's `lang` has it."""
        return str(self.locale).replace("_", "-")

    @cached_property
    def translations(self) -> gettext.NullTranslations:
        return translations_of(self.language)

    @cached_property
    def text(self) -> Callable[[str], str]:
        """Translates one message."""
        return self.translations.gettext

    def price(self, amount: float | None, currency: str) -> str:
        """In the currency's own minor units; two digits without a currency; "" without a price."""
        if amount is None:
            return ""
        if not currency:
            return str(format_decimal(amount, "#,##0.00", locale=self.locale))
        return str(format_currency(amount, currency, locale=self.locale))

    def number(self, value: float) -> str:
        return str(format_decimal(value, locale=self.locale))

    def percent(self, share: float) -> str:
        return str(format_percent(share, "#,##0%", locale=self.locale))


def wording_of(request: Request) -> Wording:
    """As the address says (`lang`), else the cookie of an earlier choice, else the browser."""
    choices = [request.query_params.get("lang"), request.cookies.get(COOKIE)]
    choices += [
        part.partition(";")[0].strip()
        for part in request.headers.get("accept-language", "")[:200].split(",")
    ]
    return next((wording for each in choices if each and (wording := _wording(each))), _default())


@lru_cache(64)
def _wording(tag: str) -> Wording | None:
    """None for what is no language of the pages."""
    try:
        locale = Locale.parse(tag, sep="-")
    except (ValueError, UnknownLocaleError):
        return None
    if locale.language not in LANGUAGES:
        return None
    region = locale.territory or LANGUAGES[locale.language][1]
    try:
        return Wording(Locale.parse(f"{locale.language}_{region}"))
    except (ValueError, UnknownLocaleError):
        return Wording(Locale.parse(f"{locale.language}_{LANGUAGES[locale.language][1]}"))


def _default() -> Wording:
    wording = _wording(DEFAULT)
    assert wording is not None
    return wording


@lru_cache
def translations_of(language: str) -> gettext.NullTranslations:
    """Those of the catalogue; of English, which the messages are in, none."""
    path = FOLDER / language / "messages.po"
    if not path.exists():
        return gettext.NullTranslations()
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
