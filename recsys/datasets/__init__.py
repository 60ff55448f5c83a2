"""A shop's data as canonical tables: one adapter a module, row validation, and labelled data
sets."""

from __future__ import annotations

import os
from pathlib import Path

from recsys.errors import NotFoundError


def data_folder(name: str) -> Path:
    """Where the evaluation data set `name` lies: $NIGHTSHELF_DATA/name, by default beside the
    checkout.

    Raises NotFoundError when there is no such folder.
    """
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("NIGHTSHELF_DATA", beside)) / name
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no data set at {folder}: "
            "put it there, or point NIGHTSHELF_DATA at its parent"
        )
    return folder
