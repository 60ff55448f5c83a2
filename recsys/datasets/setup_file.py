"""A shop's setup as code: the file that `python -m jobs.start_shop` writes and people edit."""

from __future__ import annotations

import json
import keyword
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recsys.datasets.recognition import Form, Source, group_sources
from recsys.errors import InputError

_HEADER = '''"""{title}

Written by `python -m jobs.start_shop`: yours to edit. What may be chosen:
recsys/config.py and recsys/datasets/choices.py."""

from __future__ import annotations

'''
_SETUP = '''ROOT = below(home(), "{name}")


def dataset(until: datetime) -> DatasetAdapter:
    """The files that a night reads; `until` is its time."""
    return {dataset}


def shop() -> Setup:
    return replace(
        tiny(),
        name="{name}",
        home=ROOT,
        event_store=event_log(ROOT),
        dataset=dataset,{more}
    )
'''


@dataclass(frozen=True, kw_only=True)
class ShopFile:
    """What the file says: the shop's name, its files, whether its titles are in English and the
    encoder of other languages is installed, and of
    `CatalogueChoices` what was seen: the attributes by which variants differ, the currency of the
    orders, whether times say no zone, and choices without which so many rows are refused."""

    name: str
    sources: Sequence[Source]
    english: bool = True
    multilingual: bool = True
    attributes: bool = False
    variant_names: Sequence[str] = ()
    currency: str | None = None
    zoneless: bool = False
    open_choices: Mapping[str, int] = field(default_factory=dict)


def setup_code(shop: ShopFile) -> str:
    """The module's text."""
    forms = [source.form for source in shop.sources]
    names = " and ".join(Path(source.path).name for source in shop.sources)
    more = _choices(shop) + _encoder(shop)
    text = _HEADER.format(title=f"The shop of {names}.") + _imports(shop, forms)
    return text + _SETUP.format(name=shop.name, dataset=dataset_code(shop.sources), more=more)


def dataset_code(sources: Sequence[Source]) -> str:
    """The adapter, as it stands in the file."""
    groups = group_sources(sources)
    if len(groups) == 1:
        return _call(groups[0], 4)
    return (
        "ItemsAndEvents(\n" + "".join(f"        {_call(each, 8)},\n" for each in groups) + "    )"
    )


def _call(sources: Sequence[Source], indent: int) -> str:
    """The adapter of these files, an argument a line."""
    lines: list[str] = []
    pairs = [pair for source in sources for pair in source.arguments().items()]
    for name, value in pairs:
        if isinstance(value, dict):
            inner = [
                f"    {_quoted(canonical)}: {_quoted(theirs)},"
                for canonical, theirs in value.items()
            ]
            lines += [f"{name}={{", *inner, "},"]
        elif isinstance(value, list):
            lines += [f"{name}=[", *(f"    {_quoted(each)}," for each in value), "],"]
        else:
            lines.append(f"{name}={_quoted(value)},")
    space = " " * (indent + 4)
    body = "".join(f"{space}{line}\n" for line in lines)
    return f"{sources[0].form.adapter.__name__}(\n{body}{' ' * indent})"


def _imports(shop: ShopFile, forms: Sequence[Form]) -> str:
    modules = {(form.adapter.__module__, form.adapter.__name__) for form in forms}
    if len({form.adapter for form in forms}) > 1:
        modules.add(("recsys.datasets.platforms.adapter", "ItemsAndEvents"))
    modules |= {("recsys.interfaces", "DatasetAdapter"), ("recsys.storage.files", "below")}
    if _choices(shop):
        modules.add(("recsys.datasets.choices", "CatalogueChoices"))
    if _attributes(shop):
        modules.add(("recsys.attributes.declaration", "Attribute"))
    if not shop.english and shop.multilingual:
        modules.add(("recsys.encoders", "multilingual_e5"))
    modules.add(("recsys.config", "Setup, event_log, home, tiny"))
    lines = [f"from {module} import {name}\n" for module, name in sorted(modules)]
    return (
        "from dataclasses import replace\nfrom datetime import datetime\n\n" + "".join(lines) + "\n"
    )


def _choices(shop: ShopFile) -> str:
    names = [f"Attribute({arguments})" for arguments in _attributes(shop)]
    lines = ["attributes=(", *(f"    {name}," for name in names), "),"] if names else []
    lines += ["infer_attributes=True,"] * shop.attributes
    lines += [f"currency={_quoted(shop.currency)},  # of the orders"] if shop.currency else []
    lines += ['time_zone="UTC",  # of times that say none'] * shop.zoneless
    lines += [
        f"# {name}=...,  # without it {rows:,} rows are refused"
        for name, rows in shop.open_choices.items()
    ]
    body = "".join(f"            {line}\n" for line in lines)
    return f"\n        catalogue=CatalogueChoices(\n{body}        )," if lines else ""


def _attributes(shop: ShopFile) -> list[str]:
    """The arguments of each: of a table's own columns, then those by which variants differ."""
    own = {each.name: each.kind for source in shop.sources for each in source.attributes}
    arguments = []
    for name in dict.fromkeys([*own, *shop.variant_names]):
        kind = [_quoted(own[name])] if own.get(name, "text") != "text" else []
        variant = ["variant=True"] if name in shop.variant_names else []
        arguments.append(", ".join([_quoted(name), *kind, *variant]))
    return arguments


def _encoder(shop: ShopFile) -> str:
    if shop.english:
        return ""
    lines = ["encoder=multilingual_e5,  # the titles are mostly not in English"]
    if not shop.multilingual:
        lines += [
            "pip install 'nightshelf[chinese]'",
            "from recsys.encoders import multilingual_e5",
        ]
        lines = [f"# {line}" for line in lines]
    return "".join(f"\n        {line}" for line in lines)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def check_name(name: str) -> None:
    """Raises InputError where Python would not find the package by its name."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InputError(
            f"--name {name} is no name of a Python package: use letters, digits and underscores"
        )
    if name in ("recsys", "jobs", "serve", "tests") or name in sys.stdlib_module_names:
        raise InputError(f"--name {name} is taken by another package: give another")


def write_setup(folder: Path, shop: ShopFile, force: bool = False) -> Path:
    """Writes `setups.py` of the package `shop.name` in the folder, and says where.

    Raises InputError where there is one, unless `force`."""
    check_name(shop.name)
    path = folder / shop.name / "setups.py"
    code = setup_code(shop)
    if path.exists() and not force:
        raise InputError(
            f"{path} exists: give another --name, or --force to write it again and lose its edits"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "__init__.py").touch()
    path.write_text(code, encoding="utf-8")
    return path
