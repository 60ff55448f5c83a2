"""Which class runs how often on what. `serve run serve.app:build setup=tiny`, or `serve deploy
serve/config.yaml`."""

from __future__ import annotations

from typing import Any

from ray import serve

from recsys.config import Day, Setup, load
from recsys.errors import InputError
from recsys.training.influence import OnlineConfig
from serve.replicas import EncoderReplica, ShopReplica
from serve.trainer import TrainerReplica

#: For every deployment. A rolling update starts the new replica before it stops the old one.
OPTIONS: dict[str, Any] = {
    "max_surge_percent": 100,
    "health_check_period_s": 5,
    "health_check_timeout_s": 30,
    "graceful_shutdown_timeout_s": 10,
}
#: What a deployment of several replicas does with a queue: more of them within seconds, fewer only
#: after minutes.
SCALING = {"upscale_delay_s": 5.0, "downscale_delay_s": 300.0}


def build(args: dict[str, str]) -> serve.Application:
    """What Serve calls. `setup` is a name as `recsys.config.load` takes it; there are no other
    arguments."""
    if unknown := sorted(set(args) - {"setup"}):
        raise InputError(
            f"argument {', '.join(unknown)} is unknown: give setup=NAME alone, for example setup=tiny"
        )
    return compose(load(args.get("setup", "tiny")))


def compose(setup: Setup) -> serve.Application:
    """fused: every Shop replica encodes by itself. split: it asks Encoder replicas, which may have
    GPUs.

    Where the ranker learns by day, one Trainer replica does that beside them.
    """
    day = setup.day
    shop = serve.deployment(
        name="Shop",
        # The gate in the replica (serve/admission.py) turns away with a body of ours, before
        # Serve's own queue does.
        max_ongoing_requests=day.max_ongoing + 2 * day.max_queued,
        **_scaled(day, day.replicas),
        ray_actor_options={
            "num_cpus": day.replica_cpus,
            "num_gpus": day.encoder_gpus if day.layout == "fused" else 0,
        },
        **OPTIONS,
    )(serve.ingress()(ShopReplica))
    trainer = _trainer(setup, day.online) if day.online else None
    if day.layout == "fused":
        return shop.bind(setup, None, trainer)
    encoder = serve.deployment(
        name="Encoder",
        max_ongoing_requests=max(day.max_ongoing, day.batch_size),
        max_queued_requests=day.max_queued,
        **_scaled(day, day.encoder_replicas),
        ray_actor_options={"num_cpus": day.encoder_cpus, "num_gpus": day.encoder_gpus},
        **OPTIONS,
    )(EncoderReplica)
    return shop.bind(setup, encoder.bind(setup), trainer)


def _scaled(day: Day, replicas: int) -> dict[str, Any]:
    """As many replicas as said, or, up to `max_replicas`, one for each `target_ongoing` requests
    that are under way."""
    if day.max_replicas is None:
        return {"num_replicas": replicas}
    most = max(replicas, day.max_replicas)
    wanted = {
        "min_replicas": replicas,
        "max_replicas": most,
        "target_ongoing_requests": day.target_ongoing,
    }
    return {"autoscaling_config": {**wanted, **SCALING}}


def _trainer(setup: Setup, choices: OnlineConfig) -> serve.Application:
    """Never two at once, not in a rolling update either: both would publish snapshots."""
    options = {**OPTIONS, "max_surge_percent": 0}
    resources = {"num_cpus": setup.day.replica_cpus}
    made = serve.deployment(name="Trainer", num_replicas=1, ray_actor_options=resources, **options)(
        TrainerReplica
    )
    return made.bind(setup, choices)
