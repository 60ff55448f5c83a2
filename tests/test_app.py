"""How deployments are composed: sizes, resources and rolling updates, as Serve is given them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from recsys.config import Day, Setup
from recsys.errors import InputError
from recsys.training.influence import OnlineConfig
from serve import app
from serve.app import build, compose
from tests.checkerboard import setup


@dataclass
class Deployments:
    """Stands for `serve.deployment`: records each deployment's options and what it is bound to."""

    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    arguments: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def deployment(self, name: str, **options: Any) -> Callable[[type], Any]:
        self.options[name] = options

        def bind(*arguments: Any) -> str:
            self.arguments[name] = arguments
            return name

        return lambda replica: type("Bindable", (), {"bind": staticmethod(bind)})


@pytest.fixture
def deployments(monkeypatch: pytest.MonkeyPatch) -> Deployments:
    recorder = Deployments()
    monkeypatch.setattr(app.serve, "deployment", recorder.deployment)
    return recorder


def with_day(**day: Any) -> Setup:
    return replace(setup(), day=Day(**day))


def test_fused_is_one_deployment(deployments: Deployments) -> None:
    shop = with_day(replicas=3, replica_cpus=0.5, encoder_gpus=0.25, max_ongoing=8, max_queued=16)
    assert compose(shop, "127.0.0.1") == "Shop"
    assert deployments.arguments == {"Shop": (shop, None, None, "127.0.0.1")}
    assert deployments.options["Shop"] == {
        "num_replicas": 3,
        "max_ongoing_requests": 40,  # our own admission control refuses before Serve's queue does
        "ray_actor_options": {"num_cpus": 0.5, "num_gpus": 0.25},
        "max_surge_percent": 100,
        "health_check_period_s": 5,
        "health_check_timeout_s": 30,
        "graceful_shutdown_timeout_s": 10,
    }


def test_split_has_encoders_with_the_gpus(deployments: Deployments) -> None:
    shop = with_day(
        layout="split",
        encoder_replicas=2,
        encoder_gpus=1,
        max_ongoing=8,
        max_queued=5,
        batch_size=16,
    )
    compose(shop)
    assert deployments.arguments == {"Encoder": (shop,), "Shop": (shop, "Encoder", None, None)}
    assert deployments.options["Shop"]["ray_actor_options"]["num_gpus"] == 0
    encoder = deployments.options["Encoder"]
    assert encoder["ray_actor_options"]["num_gpus"] == 1
    assert (encoder["num_replicas"], encoder["max_ongoing_requests"]) == (2, 16)
    assert encoder["max_queued_requests"] == 5


def test_two_trainers_never_run_at_once(deployments: Deployments) -> None:
    choices = OnlineConfig()
    shop = with_day(online=choices)
    compose(shop)
    trainer = deployments.options["Trainer"]
    assert (trainer["num_replicas"], trainer["max_surge_percent"]) == (1, 0)
    assert deployments.arguments["Trainer"] == (shop, choices)
    assert deployments.arguments["Shop"] == (shop, None, "Trainer", None)


def test_replicas_follow_the_queue_between_two_bounds(deployments: Deployments) -> None:
    compose(with_day(replicas=2, max_replicas=5, target_ongoing=3.0))
    options = deployments.options["Shop"]
    assert "num_replicas" not in options
    assert options["autoscaling_config"] == {
        "min_replicas": 2,
        "max_replicas": 5,
        "target_ongoing_requests": 3.0,
        "upscale_delay_s": 5.0,
        "downscale_delay_s": 300.0,
    }


def test_build_takes_a_setup_and_the_host_of_http(deployments: Deployments) -> None:
    build({"setup": "tests.checkerboard:setup", "http_host": "10.0.0.1"})
    assert deployments.arguments["Shop"][3] == "10.0.0.1"
    build({"setup": "tests.checkerboard:setup"})
    assert deployments.arguments["Shop"][3] is None
    with pytest.raises(InputError, match="replicas is unknown"):
        build({"replicas": "3"})
    with pytest.raises(InputError, match="nowhere"):
        build({"setup": "nowhere"})
