"""Which code runs."""

from __future__ import annotations

import os
import subprocess


def code_commit() -> str:
    """The commit that runs: $NIGHTSHELF_COMMIT, else git's answer, else "unknown"."""
    if commit := os.environ.get("NIGHTSHELF_COMMIT"):
        return commit
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
        return git.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
