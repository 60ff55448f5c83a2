"""Point `current` at a release: `python -m jobs.promote_release 2026-01-02T020000`. Rollback is the
same command."""

from __future__ import annotations

import argparse
import sys

from recsys.config import load
from recsys.errors import RecsysError
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "version", nargs="?", help="the release to serve; without it, the releases are listed"
    )
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    args = parser.parse_args()
    try:
        store = ArtifactStore(load(args.setup).home)
        if args.version:
            Release.open(
                store, args.version
            )  # every checksum compared: a damaged release is not promoted
            store.point(args.version)
    except RecsysError as error:
        print(error, file=sys.stderr)
        return 1
    current = store.current()
    for version in store.versions():
        print(f"{version}  {'current' if version == current else ''}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
