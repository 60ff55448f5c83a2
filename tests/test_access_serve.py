"""The doors on a real Serve that listens to everybody, over TLS: with keys, and without."""

# ruff: noqa: F811 (fixtures are imported, and addresses_of_server again as parameters)

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient

from serve import keys
from serve.access import LocalAccess
from tests.checkerboard import setup
from tests.serving import home, make_shop  # noqa: F401

PORT = 8124
URL = f"https://127.0.0.1:{PORT}"
CA = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a shop")])


def certificate(
    folder: Path, name: str, signer: ec.EllipticCurvePrivateKey | None, *addresses: str
) -> ec.EllipticCurvePrivateKey:
    """`name`.key and `name`.pem for 127.0.0.1 and more addresses: a CA without a signer, else
    signed by one."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if signer else CA
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(CA)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(
        now + timedelta(days=1)
    )
    builder = builder.add_extension(
        x509.BasicConstraints(ca=signer is None, path_length=None), critical=True
    )
    addresses_of_server = [
        x509.IPAddress(ip_address(address)) for address in ("127.0.0.1", *addresses)
    ]
    builder = builder.add_extension(
        x509.SubjectAlternativeName(addresses_of_server), critical=False
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / f"{name}.key").write_bytes(private)
    signed = builder.sign(signer or key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return key


@pytest.mark.ray
def test_no_replica_is_without_its_access(
    make_shop: Callable[[], Any],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = make_shop()
    monkeypatch.delenv("NIGHTSHELF_KEYS", raising=False)
    open_here = asyncio.run(shop.__serve_build_asgi_app__())
    assert type(open_here.state.access) is LocalAccess
    assert TestClient(open_here).get("/recommend").status_code == 403
    monkeypatch.setenv("NIGHTSHELF_KEYS", str(tmp_path / "keys.json"))
    keys.write_keys(tmp_path / "keys.json", [])
    assert (
        TestClient(asyncio.run(shop.__serve_build_asgi_app__())).get("/recommend").status_code
        == 401
    )


@pytest.fixture
def deploy(home: Path, ray_session: None, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """A Serve that speaks TLS to everybody, and shops in it: at a path, with a file of keys or
    without."""
    from ray import serve

    from serve.replicas import ShopReplica

    class Shop(ShopReplica):
        def __init__(self, keys: str | None) -> None:
            os.environ.pop("NIGHTSHELF_KEYS", None)
            os.environ.update({"NIGHTSHELF_KEYS": keys} if keys else {})
            os.environ["NIGHTSHELF_HOME"] = str(home)
            super().__init__(setup())

    def start(name: str, prefix: str, keys: str | None) -> None:
        options = {"num_cpus": setup().day.replica_cpus}
        shop = serve.deployment(name="Shop", ray_actor_options=options)(serve.ingress()(Shop))
        serve.run(shop.bind(keys), name=name, route_prefix=prefix)

    certificate(tmp_path, "server", certificate(tmp_path, "ca", None))
    files = {
        "ssl_keyfile": str(tmp_path / "server.key"),
        "ssl_certfile": str(tmp_path / "server.pem"),
    }
    serve.shutdown()
    serve.start(http_options={"host": "0.0.0.0", "port": PORT, **files})
    yield start
    serve.shutdown()


@pytest.mark.ray
def test_strangers_need_tls_and_a_key_and_without_keys_are_not_let_in(
    deploy: Callable[..., None], tmp_path: Path
) -> None:
    """One Serve for all of it: starting one takes longer than the checks."""

    begun = time.monotonic()
    issued = {
        role: keys.create_key(role, [role], rate)
        for role, rate in (("read", 100), ("events", 100), ("admin", 100))
    }
    issued["slow"] = keys.create_key("slow", ["read"], 0.2)
    keys.write_keys(tmp_path / "keys.json", [key for _, key in issued.values()])
    secrets = {name: {"Authorization": f"Bearer {secret}"} for name, (secret, _) in issued.items()}
    deploy("closed", "/", str(tmp_path / "keys.json"))
    deploy("open", "/open", None)
    trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with httpx.Client(base_url=URL, verify=trusted, timeout=30) as client:
        each_role_may_its_own(client, secrets)
        too_many_are_told_when_to_come_back(client, secrets["slow"])
        assert client.get("/open/recommend").json()["items"]
    only_tls_answers()
    strangers_are_refused_without_keys()
    assert time.monotonic() - begun < 120


def each_role_may_its_own(client: httpx.Client, secrets: dict[str, dict[str, str]]) -> None:
    assert client.get("/healthz").json()["release"]
    click = {"user_id": "u03", "item_id": "i01", "type": "click"}
    statuses = {
        name: (
            client.get("/search?q=red%20chair", headers=headers).status_code,
            client.post("/events", json=click, headers=headers).status_code,
            client.get("/releases", headers=headers).status_code,
        )
        for name, headers in {"none": {}, "wrong": {"X-API-Key": "x"}, **secrets}.items()
        if name != "slow"
    }
    assert statuses == {
        "none": (401, 401, 401),
        "wrong": (401, 401, 401),
        "read": (200, 403, 403),
        "events": (403, 200, 403),
        "admin": (200, 200, 200),
    }


def too_many_are_told_when_to_come_back(client: httpx.Client, headers: dict[str, str]) -> None:
    first, second = (client.get("/recommend", headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 429)
    assert 1 <= int(second.headers["Retry-After"]) <= 5


def only_tls_answers() -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{PORT}/healthz", timeout=10)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
        httpx.get(f"{URL}/healthz", timeout=10)


def strangers_are_refused_without_keys() -> None:
    """Clients that come by another address than loopback, though from this machine."""
    import ray

    address = ray.util.get_node_ip_address()
    if ip_address(address).is_loopback:
        pytest.skip("this machine has no other address than loopback")
    with httpx.Client(base_url=f"https://{address}:{PORT}", verify=False, timeout=30) as stranger:
        refused = stranger.get("/open/recommend", headers={"X-Forwarded-For": "127.0.0.1"})
        assert refused.status_code == 403
        assert "NIGHTSHELF_KEYS" in refused.json()["error"]["message"]
        assert stranger.post("/open/releases/v/promote").status_code == 403
