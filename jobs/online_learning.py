"""Controls online learning: python -m jobs.online_learning status|freeze|unfreeze|reset --setup
tiny

`freeze` keeps the current snapshot live and learns no more; `unfreeze` learns from the events that
come after it; `reset` puts the nightly network live at once and starts anew from it. Frozen and
reset, the nightly network serves until `unfreeze`."""

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
        control = ACTIONS[arguments.action](setup)
        base, _ = served_models(setup)
        snapshot = current_snapshot(setup, base)
    except RecsysError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"learning is {'frozen' if control.frozen else 'on'}"
        + (f", reset at {control.mark}" if control.mark else "")
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
        **asdict(control),
    }
    print(json.dumps({**summary, "base": base, "snapshot": asdict(snapshot) if snapshot else None}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
