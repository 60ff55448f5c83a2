"""What a night is made of, as digests: a night that was killed is continued only where both are
what they were."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from recsys.batch.log_copy import LIVE
from recsys.config import Setup
from recsys.interfaces import Chunk, DatasetAdapter, FingerprintedAdapter

#: Choices that no file of a release depends on, or none but those that are written last.
_IMMATERIAL = {
    "Setup": {
        *("home", "event_store", "catalogue_store", "day"),
        *("experiments", "ranker", "rankers", "user_recipe"),
    },
    "Night": {
        "limits",
        "max_bad_share",
        "keep_releases",
        "task_cpus",
        "encoder_workers",
        "encoder_cpus",
        "encoder_gpus",
    },
}
#: Packages whose code the commit names.
_OURS = ("recsys", "jobs", "serve")


def inputs_digest(dataset: DatasetAdapter, chunks: Iterable[Chunk]) -> str:
    """Of the shop's own files, without the event log: their chunks, and the adapter's fingerprint
    or the sizes and times of the files of this machine that chunks name."""
    chunks = [chunk for chunk in chunks if chunk.path != LIVE]
    if isinstance(dataset, FingerprintedAdapter):
        source: object = dataset.fingerprint()
    else:
        paths = sorted({chunk.path for chunk in chunks})
        infos = [(path, Path(path).stat()) for path in paths if Path(path).is_file()]
        source = [(path, info.st_size, info.st_mtime_ns) for path, info in infos]
    return _digest((source, [(chunk.path, chunk.start, chunk.rows) for chunk in chunks]))


def choices_digest(setup: Setup) -> str:
    """Of the setup's choices by which a night's files are made, and of the shop's own code that it
    names."""
    return _digest(_description(setup))


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _description(value: Any) -> object:
    """The same in every process: without addresses, and in the order of names."""
    if isinstance(value, partial):
        return [_description(each) for each in (value.func, value.args, value.keywords)]
    if isinstance(value, type | FunctionType | MethodType | BuiltinFunctionType):
        return (value.__module__, value.__qualname__, _code_of(value.__module__))
    if is_dataclass(value):
        name = type(value).__name__
        names = {each.name for each in fields(value)} - _IMMATERIAL.get(name, set())
        return name, [(each, _description(getattr(value, each))) for each in sorted(names)]
    if isinstance(value, Mapping):
        return sorted((repr(key), repr(_description(each))) for key, each in value.items())
    if isinstance(value, AbstractSet):
        return sorted(repr(_description(each)) for each in value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_description(each) for each in value]
    return type(value).__qualname__ if type(value).__repr__ is object.__repr__ else repr(value)


def _code_of(module_name: str) -> str:
    """A checksum of the module's file, where it is not one of ours."""
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if module_name.partition(".")[0] in _OURS or not file or not Path(file).is_file():
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
