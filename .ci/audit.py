"""Part of `make check`: no secret in the tree that nobody looked at, no known hole in the locked packages.

A secret that is none: `.venv/bin/detect-secrets scan --baseline .secrets.baseline`, and look at the difference. Where
the vulnerability data cannot be reached, one sentence says so, and the check passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def main() -> int:
    return secrets() | holes()


def secrets() -> int:
    """1 where a tracked file holds what looks like a secret and is not in the baseline."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    if not files:
        print("secrets were not looked for: this is no git checkout")
        return 0
    scan = [BIN / "detect-secrets-hook", "--baseline", ".secrets.baseline", "--no-verify", *files]
    return int(subprocess.run(scan, cwd=ROOT, check=False).returncode != 0)


def holes() -> int:
    """1 where a package of the lock has a known hole."""
    words = ["-r", ".constraints.txt", "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([BIN / "pip-audit", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print("packages were not audited: the vulnerability data cannot be reached from here")
        return 0
    found = [f"{p['name']} {p['version']}: {hole['id']}" for p in packages for hole in p.get("vulns", [])]
    skipped = sum("skip_reason" in p for p in packages)
    if skipped:
        print(f"{skipped} of {len(packages)} packages could not be audited: no vulnerability data for them from here")
    print("\n".join(found) or f"no known hole in the {len(packages) - skipped} packages that were audited")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
