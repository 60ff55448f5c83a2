"""What lies in serve/deploy: every field is one that its reader knows, every metric one that the
application gives."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from recsys.config import Setup
from tests.kuberay import faults_of_kubernetes, faults_of_ray
from tests.serving import PORT, eventually, get, home, run  # noqa: F401

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "serve" / "deploy"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


@pytest.mark.parametrize("name", ["rayservice.yaml", "raycronjob.yaml"])
def test_manifests_have_no_field_that_nobody_reads(name: str) -> None:
    first, *others = documents(name)
    assert faults_of_ray(first) == []
    assert [fault for document in others for fault in faults_of_kubernetes(document)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "serveConfig"), "x"),
        (("spec", "rayClusterConfig", "authOptions", "mode"), "tokens"),
        (("spec", "rayClusterConfig", "enableInTreeAutoscaling"), "yes"),
        (("spec", "rayClusterConfig", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterConfig", "workerGroupSpecs", 0, "maxReplica"), 8),
        (
            (
                "spec",
                "rayClusterConfig",
                "workerGroupSpecs",
                0,
                "template",
                "spec",
                "containers",
                0,
                "img",
            ),
            "x",
        ),
        (
            (
                "spec",
                "rayClusterConfig",
                "headGroupSpec",
                "template",
                "spec",
                "containers",
                0,
                "env",
                0,
                "value",
            ),
            1,
        ),
    ],
)
def test_a_wrong_field_is_found(path: tuple[Any, ...], value: Any) -> None:
    document = json.loads(json.dumps(documents("rayservice.yaml")[0]))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert len(faults_of_ray(document)) == 1


def strictly_serve(config: dict[str, Any]) -> None:
    """Serve reads it, and ignores no key of it."""
    from ray.serve.schema import (
        HTTPOptionsSchema,
        LoggingConfig,
        ServeApplicationSchema,
        ServeDeploySchema,
    )

    [application] = config["applications"]
    for part, schema in (
        (config, ServeDeploySchema),
        (config["http_options"], HTTPOptionsSchema),
        (config["logging_config"], LoggingConfig),
        (application, ServeApplicationSchema),
    ):
        assert set(part) <= set(schema.model_fields)
    ServeDeploySchema.model_validate(config)


def test_the_configuration_of_a_plain_cluster_has_no_key_that_serve_would_ignore() -> None:
    config = yaml.safe_load((ROOT / "serve/config.yaml").read_text())
    strictly_serve(config)
    [application] = config["applications"]
    assert application["import_path"] == "serve.app:build"
    assert application["args"] == {"setup": "tiny", "http_host": config["http_options"]["host"]}


def test_the_day_on_kubernetes_is_the_one_of_a_plain_cluster() -> None:
    """But for the address that it listens on and the setup's name; and nobody runs code on it
    without a token."""
    spec = documents("rayservice.yaml")[0]["spec"]
    inside, plain = (
        yaml.safe_load(spec["serveConfigV2"]),
        yaml.safe_load((ROOT / "serve/config.yaml").read_text()),
    )
    strictly_serve(inside)
    assert inside["http_options"] | {"host": ""} == plain["http_options"] | {"host": ""}
    assert inside["applications"][0]["import_path"] == plain["applications"][0]["import_path"]
    assert "http_host" not in inside["applications"][0]["args"]  # it is not loopback
    for cluster in (
        spec["rayClusterConfig"],
        documents("raycronjob.yaml")[0]["spec"]["jobTemplate"]["rayClusterSpec"],
    ):
        assert cluster["authOptions"] == {"mode": "token"}
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        for pod in [group["template"]["spec"] for group in groups]:
            assert pod["securityContext"]["runAsNonRoot"]
            assert not pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"]
            names = {each["name"]: each for each in pod["containers"][0]["env"]}
            assert not [
                name
                for name in names
                if "KEY" in name and "value" in names[name] and name != "NIGHTSHELF_KEYS"
            ]


def test_what_the_image_copies_is_there() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    paths = [path for line in copied for path in line.split()]
    assert len(paths) >= 6
    assert [path for path in paths if not (ROOT / path).exists()] == []


def rules() -> list[dict[str, Any]]:
    alerts = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    return [rule for group in alerts["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    return [rule["expr"] for rule in rules()] + [
        target["expr"] for panel in panels for target in panel.get("targets", [])
    ]


def test_every_alert_says_what_to_do() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in (ROOT / "docs/runbook.md").read_text().splitlines()
        if line.startswith("#")
    }
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "runbook"}
        document, _, heading = rule["annotations"]["runbook"].partition("#")
        assert (document, heading in headings) == ("docs/runbook.md", True), rule["alert"]


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool comes with Debian's package prometheus"
)
@pytest.mark.parametrize("arguments", [("rules", "alerts.yml"), ("config", "prometheus.yml")])
def test_prometheus_reads_its_files(arguments: tuple[str, str]) -> None:
    command = ["promtool", "check", arguments[0], str(DEPLOY / arguments[1])]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


def test_the_dashboard_is_one() -> None:
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    occupied = set()
    for place in [panel["gridPos"] for panel in board["panels"]]:
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied
        assert max(x for x, _ in cells) < 24
        occupied |= cells


@pytest.mark.ray
def test_every_metric_that_is_watched_is_one_that_a_scrape_finds(
    run: Callable[..., Setup],
) -> None:
    """The running application, asked in all the ways that count, as Prometheus sees it."""
    import ray

    run("fused", replicas=1)
    url = f"http://127.0.0.1:{PORT}"
    get("/search", q="red chair")
    get("/recommend", user_id="u02")
    get("/recommend", brand="nobody")
    httpx.post(f"{url}/events", json={"user_id": "u03", "item_id": "i01", "type": "click"})
    for fields in ({"price": 4.5}, {"price": "cheap"}):
        httpx.patch(f"{url}/items/i01", json=fields)
    [node] = ray.nodes()

    def scraped() -> set[str]:
        text = httpx.get(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=30).text
        return set(re.findall(r"^(ray_nightshelf_\w+)", text, re.MULTILINE))

    watched = {name for expr in expressions() for name in re.findall(r"ray_nightshelf_\w+", expr)}
    assert len(watched) >= 10
    # These are counted only when something goes wrong, or somebody leaves.
    rare = {
        f"ray_nightshelf_{name}_total"
        for name in ("release_refused", "impressions_dropped", "forgotten")
    }
    eventually(lambda: watched - rare <= scraped(), 60)
    defined = re.findall(r'"(nightshelf_\w+)"', (ROOT / "serve" / "metrics.py").read_text())
    assert rare <= {f"ray_{name}" for name in defined}


@pytest.mark.ray
def test_a_rolling_update_fails_no_request(run: Callable[..., Setup]) -> None:
    """Four clients ask without a pause while every replica is replaced by one of another setup."""
    from ray import serve

    from serve.app import compose

    started = run("fused")
    stop, statuses, longest_s = threading.Event(), list[tuple[int, int]](), [0.0]

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=30) as client:
            while not stop.is_set():
                begun = time.monotonic()
                answered = client.get("/recommend", params={"user_id": "u03", "k": 3}).status_code
                statuses.append((answered, client.get("/recommend", params={"k": 7}).status_code))
                longest_s[0] = max(longest_s[0], time.monotonic() - begun)

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask) for _ in range(4)]
        try:
            eventually(lambda: len(statuses) > 20)
            updated = replace(started, day=replace(started.day, max_k=5))
            serve.run(compose(updated), name="shop", route_prefix="/")
            eventually(lambda: all(status == 422 for _, status in statuses[-40:]), 30)
        finally:
            stop.set()
    for each in asking:
        each.result()  # what a connection that broke would raise
    assert {first for first, _ in statuses} == {200}
    assert [status for _, status in statuses][:5] == [200] * 5
    assert {status for _, status in statuses} == {200, 422}
    # A machine that is busy answers late; one that stands still while replicas change would take as
    # long as they do.
    assert longest_s[0] < 15
