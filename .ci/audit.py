"""Part of `make check`: no secret in the tree that nobody looked at, no known hole in the locked
packages.

A secret that is none: `.venv/bin/detect-secrets scan --baseline .secrets.baseline`, and look at the
difference. Where the vulnerability data cannot be reached, one sentence says so, and the check
passes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
#: What detect-secrets-hook exits with when it found known secrets alone, in other lines than
#: before.
MOVED = 3


def main() -> int:
    return secrets() | holes()


def secrets() -> int:
    """1 where a tracked file holds what looks like a secret and is not in the baseline."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    files = [
        name
        for name in listed.stdout.split("\0")
        if name not in ("", ".secrets.baseline") and (ROOT / name).is_file()
    ]
    if not files:
        print("secrets were not looked for: this is no git checkout")
        return 0
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # a copy: the tool writes into it where secrets moved by some lines
        baseline = shutil.copy(ROOT / ".secrets.baseline", folder)
        scan = [BIN / "detect-secrets-hook", "--baseline", baseline, "--no-verify", *files]
        done = subprocess.run(scan, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode in (0, MOVED):
        return 0
    print(done.stdout, done.stderr, sep="\n")
    return 1


def holes() -> int:
    """1 where a package of the lock has a known hole."""
    words = [
        "-r",
        ".constraints.txt",
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    done = subprocess.run(
        [BIN / "pip-audit", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print("packages were not audited: the vulnerability data cannot be reached from here")
        return 0
    found = [
        f"{p['name']} {p['version']}: {hole['id']}" for p in packages for hole in p.get("vulns", [])
    ]
    skipped = sum("skip_reason" in p for p in packages)
    if skipped:
        print(
            f"{skipped} of {len(packages)} packages could not be audited: "
            "no vulnerability data for them from here"
        )
    print(
        "\n".join(found)
        or f"no known hole in the {len(packages) - skipped} packages that were audited"
    )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
