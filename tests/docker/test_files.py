"""The container files name only what exists. No engine runs here, so they are read, not built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pawl.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE_FILES = sorted(DOCKER.glob("compose*.yaml"))
# FROM image [AS name]; instructions may go on over lines that end with a backslash.
STAGES = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)


def load(path: Path) -> dict[str, Any]:
    value = yaml.safe_load(path.read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("path", [DOCKER / "Dockerfile", *COMPOSE_FILES], ids=lambda path: path.name)
def test_every_setting_named_exists(path: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+", path.read_text()))
    assert named, "the file configures nothing"
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields}


def test_settings_of_compose_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("app", "worker"):
        for name, value in load(DOCKER / "compose.yaml")["services"][service]["environment"].items():
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value))
    settings = Settings()
    assert settings.sql_url == "postgresql+psycopg://pawl:pawl@postgres:5432/pawl"
    assert settings.stream_url == "redis://redis:6379/0"


def test_compose_has_the_four_services_and_builds_stages_that_exist() -> None:
    services = load(DOCKER / "compose.yaml")["services"]
    assert set(services) == {"app", "worker", "redis", "postgres"}
    assert services["redis"]["image"].startswith("redis:7")
    assert services["postgres"]["image"].startswith("postgres:16")
    for name in ("app", "worker"):
        build = services[name]["build"]
        assert (DOCKER / build["context"] / build["dockerfile"]).resolve() == DOCKER / "Dockerfile"
        assert build["target"] in STAGES
        assert {"postgres", "redis"} <= set(services[name]["depends_on"])
    for name, service in services.items():
        for volume in service["volumes"]:
            assert volume.split(":")[0] in load(DOCKER / "compose.yaml")["volumes"], name
    for name in ("redis", "postgres"):
        assert "healthcheck" in services[name]


def test_cuda_override_changes_services_and_arguments_that_exist() -> None:
    base, override = load(DOCKER / "compose.yaml")["services"], load(DOCKER / "compose.cuda.yaml")["services"]
    for name, service in override.items():
        assert name in base
        for argument in service["build"]["args"]:
            assert re.search(rf"^ARG {argument}\b", DOCKERFILE, re.MULTILINE)


def test_every_copied_source_exists_and_is_sent_to_the_engine() -> None:
    allowed = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copies = re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
    sources = {source for copy in copies if "--from=" not in copy for source in copy.split()[:-1]}
    assert {"pyproject.toml", "app", "worker", "migrations"} <= sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in allowed
    for stage in re.findall(r"^COPY --from=(\S+)", DOCKERFILE, re.MULTILINE):
        assert stage in STAGES


def test_both_images_run_as_a_user_of_their_own_and_are_checked() -> None:
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.MULTILINE)
    for stage in ("app", "worker"):
        text = re.search(rf"^FROM runtime AS {stage}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
        assert text is not None
        assert "HEALTHCHECK" in text[1]
        assert "CMD [" in text[1]


def test_torch_is_the_version_of_the_constraints() -> None:
    [pinned] = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert re.findall(r"torch==([\w.]+)", DOCKERFILE) == [pinned]
    assert f"torch=={pinned}" in (ROOT / "Makefile").read_text()
