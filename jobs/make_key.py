"""Makes a key for a client of the HTTP routes: `python -m jobs.make_key --client web --roles read
events --rate 100`.

The key is printed once, and only its hash is stored, in the file that $NIGHTSHELF_KEYS or --file
names. Replicas read the file again within a second. To rotate: make a second key; `--old-until
2026-12-01T00:00:00Z` ends the client's others."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from recsys.errors import InputError
from serve import keys as api_keys


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if not arguments.file:
            raise InputError("no keys file is named: set NIGHTSHELF_KEYS, or give --file")
        path = Path(arguments.file)
        if arguments.list:
            list_keys(path)
            return 0
        if not arguments.client:
            raise InputError("no client is named: give --client NAME")
        if arguments.revoke is not None:
            revoke(path, arguments.client, arguments.revoke)
            return 0
        keys = api_keys.read_keys(path) if path.exists() else []
        secret, key = api_keys.create_key(
            arguments.client, arguments.roles, arguments.rate, arguments.not_after
        )
        if arguments.old_until:
            keys = api_keys.expire_keys(keys, arguments.client, arguments.old_until)
        api_keys.write_keys(path, [*keys, key])
    except InputError as error:  # nothing was changed
        print(error, file=sys.stderr)
        return 1
    print(f"key of {key.client}, shown this once, its hash in {path}:", file=sys.stderr)
    print(secret)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--file", default=os.environ.get("NIGHTSHELF_KEYS"), help="instead of $NIGHTSHELF_KEYS"
    )
    parser.add_argument("--client", help="whose key it is")
    parser.add_argument("--roles", nargs="+", choices=api_keys.ROLES, default=["read"])
    parser.add_argument(
        "--rate", type=float, default=100.0, help="requests a second, of each replica"
    )
    parser.add_argument("--not-after", help="when the key ends: an ISO 8601 time with its zone")
    parser.add_argument("--old-until", help="when the client's other keys end")
    parser.add_argument(
        "--revoke", metavar="HASH", help="revoke the client's keys whose hash begins so; all: ''"
    )
    parser.add_argument("--list", action="store_true", help="the keys in the file, by their hashes")
    return parser


def list_keys(path: Path) -> None:
    """Prints a line for each key."""
    for key in api_keys.read_keys(path):
        roles, end = ",".join(key.roles), key.not_after or "no end"
        print(f"{key.sha256[:12]}  {key.client:<20} {roles:<18} {key.rate:g}/s  {end}")


def revoke(path: Path, client: str, hash_prefix: str) -> None:
    """Deletes the client's keys whose hash has the prefix."""
    keys = api_keys.read_keys(path)
    remaining = api_keys.revoke_keys(keys, client, hash_prefix)
    api_keys.write_keys(path, remaining)
    count = len(keys) - len(remaining)
    print(f"revoked {count} keys of {client}: replicas refuse them within a second")


if __name__ == "__main__":
    sys.exit(main())
