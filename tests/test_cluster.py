"""cluster.yaml fits the schema of the Ray that is installed, and says what docs/operations.md
promises."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from serve.ingress import ENVIRONMENT

FILE = Path(__file__).parent.parent / "cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def check(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    check(cluster)


@pytest.mark.parametrize("key", ["setup_comands", "head_node_typ"])
def test_ray_refuses_a_key_it_does_not_know(cluster: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        check({**cluster, key: 1})


def test_ray_refuses_a_misspelt_group(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["gpu"]["max_worker"] = 4
    with pytest.raises(ValidationError, match="max_worker"):
        check(cluster)


def test_three_groups_and_a_head_that_works_for_nobody(cluster: dict[str, Any]) -> None:
    groups = cluster["available_node_types"]
    assert sorted(groups) == ["cpu", "gpu", "head"]
    assert (cluster["head_node_type"], groups["head"]["resources"]) == (
        "head",
        {"CPU": 0, "GPU": 0},
    )
    assert groups["cpu"]["min_workers"] >= 1
    assert groups["gpu"]["min_workers"] == 0
    assert groups["cpu"]["max_workers"] + groups["gpu"]["max_workers"] == cluster["max_workers"]


@pytest.mark.parametrize("who", ["head", "worker"])
def test_every_ray_starts_with_the_token_and_the_fast_proxy(
    cluster: dict[str, Any], who: str
) -> None:
    settings, started, start = cluster[f"{who}_start_ray_commands"][-1].partition("ray start")
    assert started
    for setting in (
        "RAY_AUTH_MODE=token",
        "RAY_SERVE_ENABLE_HA_PROXY=1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED=1",
    ):
        assert setting in settings
    assert f"RAY_SERVE_HAPROXY_RETRY_ON='{ENVIRONMENT['RAY_SERVE_HAPROXY_RETRY_ON']}'" in settings
    assert ("--num-cpus=0" in start) == (who == "head")


def test_every_node_gets_the_token_and_the_checkout(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"] == {"~/nightshelf": ".", "~/.ray/auth_token": "~/.ray/auth_token"}
    assert "chmod 600 ~/.ray/auth_token" in cluster["setup_commands"]
    assert any(
        "pip install -q -c .constraints.txt ." in command for command in cluster["setup_commands"]
    )
