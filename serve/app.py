"""The Ray Serve application: which class runs with how many replicas on what resources.

`serve run serve.app:build setup=tiny`, or `serve deploy serve/config.yaml`."""

from __future__ import annotations

from typing import Any

from ray import serve

from recsys.config import Day, Setup, load
from recsys.errors import InputError
from recsys.training.influence import OnlineConfig
from serve.encoder import EncoderReplica
from serve.online import TrainerReplica
from serve.replicas import ShopReplica

#: Of every deployment. A rolling update starts the new replica before it stops the old one.
OPTIONS: dict[str, Any] = {
    "max_surge_percent": 100,
    "health_check_period_s": 5,
    "health_check_timeout_s": 30,
    "graceful_shutdown_timeout_s": 10,
}
#: Autoscaling by queue length: up within seconds, down only after minutes.
SCALING = {"upscale_delay_s": 5.0, "downscale_delay_s": 300.0}
#: Arguments of `build`.
ARGUMENTS = ("setup", "http_host")


def build(args: dict[str, str]) -> serve.Application:
    """Called by Serve. `setup` is a name as `recsys.config.load` takes it. `http_host` repeats
    Serve's `http_options.host`: behind HAProxy, and without keys, requests are answered only where
    it says that HTTP listens on loopback."""
    if unknown := sorted(set(args) - set(ARGUMENTS)):
        raise InputError(
            f"argument {', '.join(unknown)} is unknown: give setup=NAME, for example setup=tiny, "
            "and http_host=HOST"
        )
    return compose(load(args.get("setup", "tiny")), args.get("http_host"))


def compose(setup: Setup, http_host: str | None = None) -> serve.Application:
    """fused: every Shop replica encodes by itself. split: it calls Encoder replicas, which may have
    GPUs. With `day.online` one Trainer replica runs beside them."""
    day = setup.day
    shop = serve.deployment(
        name="Shop",
        # Admission control in the replica refuses with a body of ours before Serve's own queue
        # does.
        max_ongoing_requests=day.max_ongoing + 2 * day.max_queued,
        **_scaling(day, day.replicas),
        ray_actor_options={
            "num_cpus": day.replica_cpus,
            "num_gpus": day.encoder_gpus if day.layout == "fused" else 0,
        },
        **OPTIONS,
    )(serve.ingress()(ShopReplica))
    encoder = _encoder(setup) if day.layout == "split" else None
    trainer = _trainer(setup, day.online) if day.online else None
    return shop.bind(setup, encoder, trainer, http_host)


def _scaling(day: Day, replicas: int) -> dict[str, Any]:
    """A fixed number of replicas, or, up to `day.max_replicas`, one for each `day.target_ongoing`
    requests in progress."""
    if day.max_replicas is None:
        return {"num_replicas": replicas}
    config = {
        "min_replicas": replicas,
        "max_replicas": max(replicas, day.max_replicas),
        "target_ongoing_requests": day.target_ongoing,
    }
    return {"autoscaling_config": {**config, **SCALING}}


def _encoder(setup: Setup) -> serve.Application:
    day = setup.day
    deployment = serve.deployment(
        name="Encoder",
        max_ongoing_requests=max(day.max_ongoing, day.batch_size),
        max_queued_requests=day.max_queued,
        **_scaling(day, day.encoder_replicas),
        ray_actor_options={"num_cpus": day.encoder_cpus, "num_gpus": day.encoder_gpus},
        **OPTIONS,
    )(EncoderReplica)
    return deployment.bind(setup)


def _trainer(setup: Setup, choices: OnlineConfig) -> serve.Application:
    """Never two at once, not in a rolling update either: both would publish snapshots."""
    deployment = serve.deployment(
        name="Trainer",
        num_replicas=1,
        ray_actor_options={"num_cpus": setup.day.replica_cpus},
        **{**OPTIONS, "max_surge_percent": 0},
    )(TrainerReplica)
    return deployment.bind(setup, choices)
