"""What is fetched is pinned by checksum, and from wherever the machine's package clients get it."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK_FILES = ("requirements.lock", "setup/uv.txt", "runtime/local/kafka.lock.toml", "dashboard/package-lock.json")

# A URL, or a name that ends like a host's: group ids of Java (org.apache.kafka) read the other way round.
HOST = re.compile(r"\w+://|\b[\w-]+\.(?:com|org|io|net|dev)(?:[/:\"\s]|$)")


@pytest.mark.parametrize("name", LOCK_FILES)
def test_a_lock_file_names_no_host(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert [line for line in lines if HOST.search(line)] == []


@pytest.mark.parametrize("name", ["requirements.lock", "setup/uv.txt"])
def test_every_python_package_is_pinned_with_a_checksum(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert pins
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_every_jar_is_pinned_with_a_checksum() -> None:
    jars = tomllib.loads((ROOT / "runtime/local/kafka.lock.toml").read_text())["dependencies"]
    assert [jar["artifactId"] for jar in jars if not re.fullmatch(r"[0-9a-f]{64}", jar.get("sha256", ""))] == []


def test_the_broker_and_its_clients_are_of_one_version() -> None:
    """The lock is resolved so that nobody else's managed versions reach Kafka's own jars."""
    jars = tomllib.loads((ROOT / "runtime/local/kafka.lock.toml").read_text())["dependencies"]
    assert len({jar["version"] for jar in jars if jar["groupId"] == "org.apache.kafka"}) == 1


def test_every_node_package_is_pinned_with_a_checksum() -> None:
    packages = json.loads((ROOT / "dashboard/package-lock.json").read_text())["packages"]
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []
