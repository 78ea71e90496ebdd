"""The files around the code: images, compose file, pre-commit, all held to what they speak of."""

from __future__ import annotations

import fnmatch
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from service.config import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILES = {path.suffix[1:]: path for path in sorted((ROOT / "docker").glob("Dockerfile.*"))}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
KNOWN = {PREFIX + name.upper() for name in Settings.model_fields}
OURS = ("migrate", "api", "worker-cpu", "worker-gpu")
"""Services that run this code."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return parsed


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Name and arguments, comments gone and continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [
        (name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line)
    ]


def arguments_of(name: str, dockerfile: Path) -> list[str]:
    return [rest for instruction, rest in instructions(dockerfile) if instruction == name]


def environment(dockerfile: Path) -> dict[str, str]:
    pairs = (pair for rest in arguments_of("ENV", dockerfile) for pair in shlex.split(rest))
    return dict(pair.split("=", 1) for pair in pairs)


def settled(service: dict[str, Any]) -> dict[str, str]:
    """What a container is set to, ${NAME:-default} filled in."""
    dockerfile = ROOT / service["build"]["dockerfile"]
    merged = environment(dockerfile) | {k: str(v) for k, v in service["environment"].items()}
    filled = {
        name: re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda m: m[3] if m[2] == "-" else "abc", value)
        for name, value in merged.items()
    }
    return {name: value for name, value in filled.items() if name.startswith(PREFIX)}


@pytest.mark.parametrize("dockerfile", DOCKERFILES.values(), ids=DOCKERFILES)
class TestImages:
    def test_what_is_copied_exists_and_reaches_the_build(self, dockerfile: Path) -> None:
        copied = [
            source for rest in arguments_of("COPY", dockerfile) for source in rest.split()[:-1]
        ]
        let_in = [
            line.removeprefix("!").rstrip("/")
            for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
            if line.startswith("!")
        ]
        assert copied
        for source in copied:
            assert (ROOT / source).exists(), source
            assert source.rstrip("/") in let_in, source

    def test_instructions_are_dockers_own(self, dockerfile: Path) -> None:
        names = [name for name, _ in instructions(dockerfile)]
        assert names[0] == "FROM"
        assert names[-1] == "CMD"
        assert {*names} <= {
            "FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE",
            "HEALTHCHECK", "CMD",
        }  # fmt: skip

    def test_nobody_is_root(self, dockerfile: Path) -> None:
        (user,) = arguments_of("USER", dockerfile)
        (made,) = (rest for rest in arguments_of("RUN", dockerfile) if "useradd" in rest)
        assert user == "graddx"
        assert "--uid 10001" in made
        assert "chown" not in made
        names = [name for name, _ in instructions(dockerfile)]
        assert "RUN" not in names[names.index("USER") :]

    def test_every_setting_exists(self, dockerfile: Path) -> None:
        assert {n for n in environment(dockerfile) if n.startswith(PREFIX)} <= KNOWN

    def test_python_is_the_projects(self, dockerfile: Path) -> None:
        wanted = re.search(
            r'python_version = "([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8")
        )
        assert wanted is not None
        (base,) = arguments_of("FROM", dockerfile)
        assert base.startswith(f"python:{wanted[1]}-")


def test_the_api_has_no_torch_and_the_worker_has_the_makefiles() -> None:
    def installing(name: str) -> list[str]:
        return [rest for rest in arguments_of("RUN", DOCKERFILES[name]) if "pip install" in rest]

    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert not re.search(r"^torch", requirements, re.MULTILINE)
    assert not any("torch" in rest.lower() for rest in installing("api"))
    assert "pip install ${TORCH}" in installing("worker")
    default = re.search(r"^TORCH \?= (.+)$", MAKEFILE, re.MULTILINE)
    assert default is not None
    assert arguments_of("ARG", DOCKERFILES["worker"]) == [f'TORCH="{default[1]}"']


def test_the_api_tells_that_it_lives() -> None:
    (check,) = arguments_of("HEALTHCHECK", DOCKERFILES["api"])
    assert "http://127.0.0.1:8000/livez" in check
    assert environment(DOCKERFILES["api"])["GRADDX_PORT"] == "8000"


class TestCompose:
    def test_it_is_a_compose_file(self, compose: dict[str, Any]) -> None:
        parts = {name: part for name, part in compose.items() if not name.startswith("x-")}
        parsed = PyCompose.from_yaml(yaml.safe_dump(parts))
        assert {*parsed.service_names()} == {*OURS, "postgres", "rabbitmq"}
        parts["services"]["api"]["mem_limitt"] = "1g"
        with pytest.raises(ValueError, match="mem_limitt"):
            PyCompose.from_yaml(yaml.safe_dump(parts))
        del parts["services"]["api"]["mem_limitt"]

    @pytest.mark.parametrize("name", OURS)
    def test_settings_are_accepted(
        self, name: str, compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        given = settled(compose["services"][name])
        assert {variable.removesuffix("_FILE") for variable in given} <= KNOWN
        monkeypatch.chdir(tmp_path)  # no .env of ours
        for variable, value in given.items():
            if variable.endswith("_FILE"):
                secret = Path(value).name
                assert value == f"/run/secrets/{secret}"
                assert secret in compose["services"][name]["secrets"]
                (tmp_path / secret).write_text(f"{secret}-password\n")
                value = str(tmp_path / secret)  # noqa: PLW2901
            monkeypatch.setenv(variable, value)
        settings = Settings()
        assert settings.database_url == (
            "postgresql://graddx:postgres-password@postgres:5432/graddx"
        )
        assert settings.broker_url == "amqp://graddx:rabbitmq-password@rabbitmq:5672//"
        assert settings.data_dir == Path("/data")
        assert settings.workers == (1 if name.startswith("worker") else 0)
        assert settings.queues == {"worker-cpu": "cpu", "worker-gpu": "gpu"}.get(name, "")

    def test_api_and_workers_share_the_uploaded_files(self, compose: dict[str, Any]) -> None:
        for name in ("api", "worker-cpu", "worker-gpu"):
            assert compose["services"][name]["volumes"] == ["artifacts:/data"]
        for dockerfile in DOCKERFILES.values():
            assert arguments_of("VOLUME", dockerfile) == ["/data"]

    def test_ports_are_published_on_this_machine_alone(self, compose: dict[str, Any]) -> None:
        ports = {n: s["ports"] for n, s in compose["services"].items() if "ports" in s}
        assert ports == {"api": ["127.0.0.1:8000:8000"]}

    def test_everything_is_bounded_and_nobody_can_become_more(
        self, compose: dict[str, Any]
    ) -> None:
        for name, service in compose["services"].items():
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert {"mem_limit", "pids_limit"} <= {*service}, name
            # RabbitMQ writes its own settings at every start.
            assert service.get("read_only") is (None if name == "rabbitmq" else True), name
            if name not in OURS:
                assert service["user"] == name

    def test_a_child_fits_into_its_worker(self, compose: dict[str, Any]) -> None:
        child = Settings.model_fields["probe_memory_mb"].default
        assert int(compose["services"]["worker-cpu"]["mem_limit"].rstrip("g")) * 1024 > child

    def test_dockerfiles_volumes_and_secrets_exist(self, compose: dict[str, Any]) -> None:
        for service in compose["services"].values():
            if "build" in service:
                assert (ROOT / service["build"]["dockerfile"]).is_file()
            for volume in service.get("volumes", ()):
                assert volume.split(":")[0] in compose["volumes"]
            assert {*service.get("secrets", ())} <= {*compose["secrets"]}
        default = compose["services"]["worker-cpu"]["build"]["args"]["TORCH"]
        assert default == f"${{TORCH:-{_torch_of_the_worker()}}}"

    def test_who_waits_for_whom_is_there_and_can_be_waited_for(
        self, compose: dict[str, Any]
    ) -> None:
        services = compose["services"]
        for service in services.values():
            for name, wait in service.get("depends_on", {}).items():
                if wait["condition"] == "service_healthy":
                    assert "test" in services[name]["healthcheck"]
                else:
                    assert wait["condition"] == "service_completed_successfully"
                    assert services[name]["restart"] == "no"

    def test_a_gpu_is_only_for_who_asks(self, compose: dict[str, Any]) -> None:
        profiled = {n for n, s in compose["services"].items() if "profiles" in s}
        assert profiled == {"worker-gpu"}

    def test_no_secret_stands_in_the_file(self, compose: dict[str, Any]) -> None:
        for service in compose["services"].values():
            for name, value in service.get("environment", {}).items():
                if "PASSWORD" in name:
                    assert name.endswith("_FILE")
                    assert str(value).startswith("/run/secrets/")
        for secret in compose["secrets"].values():
            folder = secret["file"].removeprefix("./").split("/")[0]
            assert f"/{folder}/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def _torch_of_the_worker() -> str:
    (line,) = arguments_of("ARG", DOCKERFILES["worker"])
    return line.removeprefix("TORCH=").strip('"')


def test_nothing_private_reaches_an_image() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = [rule[1:].rstrip("/") for rule in rules if rule.startswith("!")]
    for private in (".env", "data", ".git", ".venv", "tests"):
        assert not any(fnmatch.fnmatch(private, pattern) for pattern in let_in)


def test_pre_commit_calls_the_makefile() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (repo,) = config["repos"]
    assert repo["repo"] == "local"
    called = set()
    for hook in repo["hooks"]:
        command, *rest = shlex.split(hook["entry"])
        assert (command, hook["language"], hook["pass_filenames"]) == ("make", "system", False)
        (target,) = (word for word in rest if not word.startswith("-"))
        called.add(target)
    assert called == {"lint", "types"}
    assert called <= TARGETS
    for target in called:
        ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        assert re.search(rf"^make .*\b{target}\b", ci, re.MULTILINE), "CI calls the same"


def test_every_target_is_phony_and_told_in_the_help() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    told = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))
    assert TARGETS == {*phony[1].split()} == told
