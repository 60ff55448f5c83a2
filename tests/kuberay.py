"""Kubernetes manifests checked against the schemas of their readers: KubeRay's by its documented
fields, Kubernetes' own by its published ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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


def faults_of(kind: str, value: Any, where: str = "spec") -> Iterator[str]:
    """What of a value its table does not allow."""
    if kind.startswith("["):
        for at, each in enumerate(value):
            yield from faults_of(kind[1:-1], each, f"{where}[{at}]")
    elif kind == "pod":
        yield from faults_of_kubernetes(
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
            yield from faults_of(fields[name].rstrip("!"), value[name], f"{where}.{name}")


def faults_of_kubernetes(document: dict[str, Any]) -> list[str]:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error)]
    return []


def faults_of_ray(document: dict[str, Any]) -> list[str]:
    assert document["apiVersion"] == "ray.io/v1"
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    return list(faults_of(document["kind"], document["spec"]))
