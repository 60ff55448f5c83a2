"""Makes a key for a client of the HTTP routes: `python -m jobs.make_key --client web --roles read
events --rate 100`.

The key is printed once, and only its hash is kept, in the file that $NIGHTSHELF_KEYS or --file
names. Replicas read the file again within a second. To rotate: make a second key, `--old-until
2026-12-01T00:00:00Z` ends the client's others."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from recsys.errors import InputError
from serve import keys as api_keys


def main() -> int:
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
        "--revoke", metavar="HASH", help="take back the client's keys whose hash begins so; all: ''"
    )
    parser.add_argument(
        "--list", action="store_true", help="the keys that there are, by their hashes"
    )
    args = parser.parse_args()
    try:
        return run(args)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1


def run(args: argparse.Namespace) -> int:
    """InputError with the next step where nothing can be done; nothing has changed then."""
    if not args.file:
        raise InputError("no keys file is named: set NIGHTSHELF_KEYS, or give --file")
    path = Path(args.file)
    keys = api_keys.read_keys(path) if path.exists() or args.list or args.revoke is not None else []
    if args.list:
        for key in keys:
            ends = key.not_after or "no end"
            print(
                f"{key.sha256[:12]}  {key.client:<20} {','.join(key.roles):<18} {key.rate:g}/s  {ends}"
            )
        return 0
    if not args.client:
        raise InputError("no client is named: give --client NAME")
    if args.revoke is not None:
        left = api_keys.revoke_keys(keys, args.client, args.revoke)
        api_keys.write_keys(path, left)
        print(
            f"revoked {len(keys) - len(left)} keys of {args.client}: replicas refuse them within a second"
        )
        return 0
    secret, key = api_keys.create_key(args.client, args.roles, args.rate, args.not_after)
    old = api_keys.expire_keys(keys, args.client, args.old_until) if args.old_until else keys
    api_keys.write_keys(path, [*old, key])
    print(f"key of {args.client}, shown this once, its hash in {path}:", file=sys.stderr)
    print(secret)
    return 0


if __name__ == "__main__":
    sys.exit(main())
