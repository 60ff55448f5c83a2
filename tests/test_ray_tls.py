"""Ray's own TLS: a shop answers on a Ray whose processes speak it, and who has no certificate is
not let in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from tests.faults.cluster import one_node
from tests.faults.processes import eventually
from tests.test_access_serve import certificate

pytestmark = [pytest.mark.ray, pytest.mark.slow]
JOIN = "import ray; ray.init(log_to_driver=False); print(ray.cluster_resources()['CPU'])"


def joined(**environment: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a driver with that in its environment; it is given half a minute."""
    command = ["timeout", "30", sys.executable, "-c", JOIN]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_a_shop_answers_where_ray_speaks_tls_and_strangers_cannot_join(
    shop_home: Path, tmp_path: Path
) -> None:
    certificate(tmp_path, "node", certificate(tmp_path, "ca", None), ray.util.get_node_ip_address())
    files = {"SERVER_CERT": "node.pem", "SERVER_KEY": "node.key", "CA_CERT": "ca.pem"}
    tls = {"RAY_USE_TLS": "1"} | {
        f"RAY_TLS_{name}": str(tmp_path / file) for name, file in files.items()
    }
    with one_node(
        shop_home, tmp_path, NIGHTSHELF_EVENTS=str(tmp_path / "events.sqlite"), **tls
    ) as shop:
        eventually(shop.answers, "the shop answers")
        address = {"RAY_ADDRESS": shop.environment["RAY_ADDRESS"], "RAY_AUTH_MODE": "disabled"}
        assert joined(**address, **tls).stdout.strip() == "4.0"
        stranger = joined(**address)
        assert stranger.returncode != 0, stranger.stdout
        assert "4.0" not in stranger.stdout
