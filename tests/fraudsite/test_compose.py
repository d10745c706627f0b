"""The stack in containers, checked by reading it: no container engine runs where the tests do."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fraudsite.embedded import ROOT

STACK: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
ONE_SHOT = {"keys", "migrate", "seed"}


def test_the_full_stack_is_there() -> None:
    assert {"proxy", "web", "live", "scorer", "worker", "beat", "migrate", "postgres", "valkey"} <= set(SERVICES)
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", [])} == {
        "demo",
        "monitoring",
    }


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_service_is_pinned_hardened_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith(("0", "root"))
    assert service["mem_limit"] and service["cpus"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_each_lasting_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_every_dependency_waits_for_health_or_completion() -> None:
    for name, service in SERVICES.items():
        for other, rule in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert rule["condition"] == wanted, (name, other)


def test_named_volumes_and_networks_are_declared() -> None:
    for service in SERVICES.values():
        assert set(service.get("networks", [])) <= set(STACK["networks"])
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in STACK["volumes"] or (ROOT / source).exists(), mount


def test_servers_are_not_reachable_from_outside() -> None:
    assert STACK["networks"]["inside"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"proxy", "prometheus"}


def test_no_secret_has_a_value_in_the_stack() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|_KEY|TOKEN|_URL", name):
                assert name.endswith("_FILE") and value.startswith("/keys/")


def test_the_variables_of_the_stack_are_known_to_the_settings() -> None:
    explained = (ROOT / ".env.example").read_text()
    for name in STACK["x-desk"]["environment"]:
        assert re.search(rf"^{name.removesuffix('_FILE')}=", explained, re.MULTILINE), name


def test_secrets_are_made_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.keys", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    first = {path.name: path.read_text() for path in tmp_path.iterdir()}
    subprocess.run(command, cwd=ROOT, check=True)
    assert first == {path.name: path.read_text() for path in tmp_path.iterdir()}
    used = {value for service in SERVICES.values() for value in service.get("environment", {}).values()}
    assert {value.removeprefix("/keys/") for value in used if str(value).startswith("/keys/")} <= set(first)


def test_the_proxy_configuration_is_valid() -> None:
    caddy = Path(sys.executable).parent / "caddy"
    command = [str(caddy), "validate", "--config", "Caddyfile", "--adapter", "caddyfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert all(re.match(r"FROM [\w]+:\d+\.\d+\.\d+-", line) for line in lines if line.startswith("FROM"))
    assert "USER 10001:10001" in lines
