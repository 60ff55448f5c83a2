"""What lies in serve/deploy: every field is one that its reader knows, every metric one that the
application gives."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from recsys.config import Setup
from tests.test_serve import PORT, eventually, get, home, run  # noqa: F401

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "serve" / "deploy"
KUBERNETES = "1.33"

#: The fields of KubeRay 1.7's kinds, as its API reference lists them. A name stands for another
#: table, "pod" for a pod template, "text", "number", "flag" and "texts" (a map of texts) for
#: values, "any" for what Kubernetes itself knows; "[x]" is a list of x, "!" says that it must be
#: there.
RAY: dict[str, dict[str, str]] = {
    "RayService": {
        "serveConfigV2": "text",
        "rayClusterConfig": "RayCluster!",
        "upgradeStrategy": "UpgradeStrategy",
        "serveService": "any",
        "serviceUnhealthySecondThreshold": "number",
        "deploymentUnhealthySecondThreshold": "number",
        "rayClusterDeletionDelaySeconds": "number",
        "excludeHeadPodFromServeSvc": "flag",
        "suspend": "flag",
        "managedBy": "text",
    },
    "UpgradeStrategy": {"type": "text", "clusterUpgradeOptions": "any"},
    "RayCronJob": {
        "schedule": "text!",
        "timeZone": "text",
        "suspend": "flag",
        "jobTemplate": "RayJob!",
    },
    "RayJob": {
        "entrypoint": "text",
        "entrypointNumCpus": "number",
        "entrypointNumGpus": "number",
        "entrypointResources": "text",
        "runtimeEnvYAML": "text",
        "submissionMode": "text",
        "submitterPodTemplate": "pod",
        "submitterConfig": "any",
        "metadata": "texts",
        "jobId": "text",
        "shutdownAfterJobFinishes": "flag",
        "ttlSecondsAfterFinished": "number",
        "activeDeadlineSeconds": "number",
        "preRunningDeadlineSeconds": "number",
        "backoffLimit": "number",
        "deletionStrategy": "any",
        "clusterSelector": "texts",
        "rayClusterSpec": "RayCluster",
        "suspend": "flag",
        "managedBy": "text",
    },
    "RayCluster": {
        "rayVersion": "text",
        "headGroupSpec": "Head!",
        "workerGroupSpecs": "[Workers]",
        "enableInTreeAutoscaling": "flag",
        "autoscalerOptions": "Autoscaler",
        "authOptions": "Auth",
        "tlsOptions": "any",
        "networkPolicy": "any",
        "gcsFaultToleranceOptions": "FaultTolerance",
        "headServiceAnnotations": "texts",
        "historyServerOptions": "any",
        "upgradeStrategy": "any",
        "suspend": "flag",
        "managedBy": "text",
    },
    "Auth": {"mode": "text", "secretName": "text"},  # pragma: allowlist secret
    "FaultTolerance": {
        "backend": "text",
        "redisAddress": "text",
        "redisUsername": "any",
        "redisPassword": "any",  # pragma: allowlist secret
        "externalStorageNamespace": "text",
        "storage": "any",
    },
    "Autoscaler": {
        "resources": "any",
        "image": "text",
        "imagePullPolicy": "text",
        "env": "any",
        "envFrom": "any",
        "volumeMounts": "any",
        "securityContext": "any",
        "idleTimeoutSeconds": "number",
        "upscalingMode": "text",
        "version": "text",
    },
    "Head": {
        "rayStartParams": "texts",
        "template": "pod!",
        "serviceType": "text",
        "headService": "any",
        "enableIngress": "flag",
        "resources": "texts",
        "labels": "texts",
    },
    "Workers": {
        "groupName": "text!",
        "replicas": "number",
        "minReplicas": "number!",
        "maxReplicas": "number!",
        "numOfHosts": "number",
        "idleTimeoutSeconds": "number",
        "rayStartParams": "texts",
        "template": "pod!",
        "scaleStrategy": "any",
        "suspend": "flag",
        "resources": "texts",
        "labels": "texts",
    },
}
CHOICES = {
    ("UpgradeStrategy", "type"): ("NewCluster", "NewClusterWithIncrementalUpgrade", "None"),
    ("RayJob", "submissionMode"): ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"),
    ("Auth", "mode"): ("token", "disabled"),
    ("FaultTolerance", "backend"): ("redis", "rocksdb"),
}
VALUES: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "flag": lambda value: isinstance(value, bool),
    "texts": lambda value: (
        isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    ),
    "any": lambda value: True,
}


def faults(kind: str, value: Any, where: str = "spec") -> Iterator[str]:
    """What of a value its table does not allow."""
    if kind.startswith("["):
        for at, each in enumerate(value):
            yield from faults(kind[1:-1], each, f"{where}[{at}]")
    elif kind == "pod":
        yield from of_kubernetes(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": value["spec"]}
        )
    elif kind in VALUES:
        yield from [] if VALUES[kind](value) else [f"{where} is {value!r}, not {kind}"]
    else:
        fields = RAY[kind]
        yield from (f"{where}.{name} is unknown" for name in value if name not in fields)
        yield from (
            f"{where}.{name} is missing"
            for name, of in fields.items()
            if of[-1] == "!" and name not in value
        )
        for name in [name for name in value if name in fields]:
            if value[name] not in CHOICES.get((kind, name), (value[name],)):
                yield f"{where}.{name} is {value[name]!r}"
            yield from faults(fields[name].rstrip("!"), value[name], f"{where}.{name}")


def of_kubernetes(document: dict[str, Any]) -> list[str]:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error)]
    return []


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def of_ray(document: dict[str, Any]) -> list[str]:
    assert document["apiVersion"] == "ray.io/v1"
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    return list(faults(document["kind"], document["spec"]))


@pytest.mark.parametrize("name", ["rayservice.yaml", "raycronjob.yaml"])
def test_manifests_have_no_field_that_nobody_reads(name: str) -> None:
    first, *others = documents(name)
    assert of_ray(first) == []
    assert [fault for document in others for fault in of_kubernetes(document)] == []


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
    assert len(of_ray(document)) == 1


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
    told = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    return [rule for group in told["groups"] for rule in group["rules"]]


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
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_one() -> None:
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = set()
    for place in [panel["gridPos"] for panel in board["panels"]]:
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.ray
def test_every_metric_that_is_watched_is_one_that_a_scrape_finds(
    run: Callable[..., Setup],  # noqa: F811
) -> None:
    """The running application, asked in all the ways that count, as Prometheus sees it."""
    import ray

    run("fused", replicas=1)
    url = f"http://127.0.0.1:{PORT}"
    get("/search", q="red chair")
    get("/recommend", user_id="u02")
    get("/recommend", brand="nobody")
    httpx.post(f"{url}/events", json={"user_id": "u03", "item_id": "i01", "type": "click"})
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
    made = re.findall(r'"(nightshelf_\w+)"', (ROOT / "serve" / "metrics.py").read_text())
    assert rare <= {f"ray_{name}" for name in made}


@pytest.mark.ray
def test_a_rolling_update_fails_no_request(run: Callable[..., Setup]) -> None:  # noqa: F811
    """Four clients ask without a pause while every replica is replaced by one of another setup."""
    from ray import serve

    from serve.app import compose

    started = run("fused")
    stop, told, longest_s = threading.Event(), list[tuple[int, int]](), [0.0]

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=30) as client:
            while not stop.is_set():
                begun = time.monotonic()
                answered = client.get("/recommend", params={"user_id": "u03", "k": 3}).status_code
                told.append((answered, client.get("/recommend", params={"k": 7}).status_code))
                longest_s[0] = max(longest_s[0], time.monotonic() - begun)

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask) for _ in range(4)]
        try:
            eventually(lambda: len(told) > 20)
            updated = replace(started, day=replace(started.day, max_k=5))
            serve.run(compose(updated), name="shop", route_prefix="/")
            eventually(lambda: all(status == 422 for _, status in told[-40:]), 30)
        finally:
            stop.set()
    for each in asking:
        each.result()  # what a connection that broke would raise
    assert {first for first, _ in told} == {200}
    assert [status for _, status in told][:5] == [200] * 5
    assert {status for _, status in told} == {200, 422}
    # A machine that is busy answers late; one that stands still while replicas change would take as
    # long as they do.
    assert longest_s[0] < 15
