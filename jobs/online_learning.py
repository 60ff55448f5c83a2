"""Learning by day, stopped and started: python -m jobs.online_learning status|freeze|unfreeze|reset
--setup tiny

`freeze` serves what was learned and learns no more; `unfreeze` goes on with what comes from then
on; `reset` puts the night's network back at once and begins anew from it. Frozen and reset, the
night's serves until `unfreeze`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from recsys.config import load
from recsys.errors import RecsysError
from recsys.models.snapshots import (
    current_snapshot,
    freeze_learning,
    read_control,
    reset_learning,
    served_models,
    unfreeze_learning,
)

ACTIONS = {
    "status": read_control,
    "freeze": freeze_learning,
    "unfreeze": unfreeze_learning,
    "reset": reset_learning,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    arguments = parser.parse_args()
    try:
        setup = load(arguments.setup)
        decided = ACTIONS[arguments.action](setup)
        base, _ = served_models(setup)
        snapshot = current_snapshot(setup, base)
    except RecsysError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"learning is {'frozen' if decided.frozen else 'on'}"
        + (f", reset at {decided.mark}" if decided.mark else "")
    )
    if base is None:
        print("the live release has no trained models: there is no network to update online")
    elif snapshot is None:
        print(f"the night's network of models {base} serves")
    else:
        metrics = "  ".join(f"{name} {value:.4g}" for name, value in snapshot.metrics.items())
        print(f"snapshot {snapshot.version} serves, learned from models {base}: {metrics}")
    summary = {
        "job": "online_learning",
        "action": arguments.action,
        "setup": setup.name,
        **asdict(decided),
    }
    print(json.dumps({**summary, "base": base, "snapshot": asdict(snapshot) if snapshot else None}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
