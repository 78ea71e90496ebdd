"""Settings: everything an operator may change, from the environment (GRADDX_*) or a .env file."""

from __future__ import annotations

import difflib
import importlib.util
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PREFIX = "GRADDX_"
ENV_FILE = ".env"
FILE = "_FILE"
"""A variable that ends so names a file which holds the setting."""


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _rate(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", value):
        raise ValueError("write COUNT/second, COUNT/minute, COUNT/hour or COUNT/day")
    return value


def _broker(value: str | None) -> str | None:
    if not value:
        return None
    if not re.match(r"amqps?://", value):
        raise ValueError("write amqp://user:password@host/vhost: RabbitMQ is the broker")
    if importlib.util.find_spec("celery") is None:
        raise ValueError(
            "a broker needs Celery, which is not installed: pip install -r "
            "requirements-broker.txt -c constraints.txt; or leave it unset to work without"
        )
    return value


def _queues(value: str) -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if {*names} - {"cpu", "gpu"}:
        raise ValueError("write cpu, gpu or cpu,gpu")
    return ",".join(dict.fromkeys(names))


class Settings(BaseSettings):
    """Read once at start, then passed down; every field is documented in `.env.example`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    allow_anyone: bool = False
    """Serve on an address other than loopback although no API key was made."""
    data_dir: Annotated[Path, AfterValidator(_absolute)] = Field(
        default=Path("data"), validate_default=True
    )
    """Folder of the embedded database and of uploaded files."""
    database_url: str = Field(default="", repr=False)
    """sqlite:///… or postgresql://…; empty: SQLite in the data folder."""
    database_password: str = Field(default="", repr=False)
    """Put into the database's URL, so that the URL may be shown to anyone."""
    broker_url: Annotated[str | None, AfterValidator(_broker)] = Field(default=None, repr=False)
    """amqp://…; unset: workers look into the database."""
    broker_password: str = Field(default="", repr=False)
    """Put into the broker's URL."""
    broker_prefix: str = Field(default="graddx", pattern=r"^[a-z0-9_.-]{1,64}$")
    """What the names of queues begin with: several servers can share a broker."""
    queues: Annotated[str, AfterValidator(_queues)] = ""
    """What a worker takes: cpu, gpu or cpu,gpu; empty: cpu from a broker, else all."""
    workers: int = Field(default_factory=lambda: min(_cores(), 4), ge=0)
    """Local worker processes; 0: none (start them with `make worker`)."""
    lease_seconds: float = Field(default=15, gt=0)
    """A worker silent for this long has lost its analysis to the next one."""
    queue_limit: int = Field(default=1000, ge=1)
    """Analyses that may wait; one more is answered 503 queue_full."""
    probe_seconds: float = Field(default=300, gt=0)
    """Wall-clock seconds of one analysis' child process."""
    probe_cpu_seconds: float = Field(default=600, gt=0)
    """CPU seconds of one child, all threads together."""
    probe_memory_mb: int = Field(default=4096, ge=256)
    """Memory (address space) of one child, MiB."""
    reply_max_mb: int = Field(default=64, ge=1)
    """Largest reply of a child, MiB."""
    run_uploads_unsealed: bool = False
    """Where a child cannot be sealed, run uploaded models all the same: they can then read and
    write whatever this server can."""
    gpu_memory_fraction: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory that one child may take."""
    run_uploads_on_gpu: bool = False
    """Run uploaded models on a GPU, too: the seal of a child that may use one has not been tried
    against hostile models."""
    max_upload_mb: int = Field(default=2048, ge=1)
    """Largest uploaded file, MiB."""
    max_body_mb: int = Field(default=16, ge=1)
    """Largest JSON body, MiB."""
    rate_limit: Annotated[str, AfterValidator(_rate)] = "3000/minute"
    """Calls of one API key, or of one address without a key: COUNT/second, minute, hour or
    day."""
    idempotency_hours: float = Field(default=24, gt=0)
    """How long an Idempotency-Key is remembered."""
    unused_file_days: float = Field(default=90, ge=0)
    """An uploaded file that nobody sent or referred to for so long is deleted; 0: never."""

    @model_validator(mode="after")
    def _database_in_the_data_folder(self) -> Settings:
        if not self.database_url:
            # A frozen model is still open to its own validators.
            object.__setattr__(
                self, "database_url", f"sqlite:///{self.data_dir / 'graddx.sqlite3'}"
            )
        return self

    @model_validator(mode="after")
    def _passwords_in_the_urls(self) -> Settings:
        for url, password in (
            ("database_url", self.database_password),
            ("broker_url", self.broker_password),
        ):
            if password and (given := getattr(self, url)):
                object.__setattr__(self, url, _with_password(given, password))
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a folder of all
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """As usual, and last the files that GRADDX_…_FILE name."""
        files = InitSettingsSource(settings_cls, _from_files(os.environ, cls.model_fields))
        return init_settings, env_settings, dotenv_settings, files

    @property
    def beyond_this_machine(self) -> bool:
        """Whether others than this machine can reach the address, which nobody said is meant."""
        return not (self.allow_anyone or _loopback(self.host))

    @property
    def threads_of_a_child(self) -> int:
        """Cores shared out among the workers, at least 1."""
        return max(1, _cores() // max(1, self.workers))

    def environment(self) -> dict[str, str]:
        """These settings as the variables that give them again in a child process."""
        return {
            PREFIX + name.upper(): str(value)
            for name, value in self.model_dump(mode="json").items()
            if value is not None
        }


def _from_files(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, Any]:
    """What stands in the files that the environment names: secrets of containers are files."""
    found = {}
    for name in names:
        if path := environment.get(f"{PREFIX}{name.upper()}{FILE}"):
            try:
                found[name] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SystemExit(f"{PREFIX}{name.upper()}{FILE}: {error}") from error
    return found


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{parts.username or ''}:{quote(password, safe='')}@{host}"
    return parts._replace(netloc=netloc).geturl()


def load() -> Settings:
    """The settings, or the end of the process with one line for each that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise SystemExit("\n".join(map(_told, error.errors()))) from error


def _told(error: ErrorDetails) -> str:
    name = "".join(f"{PREFIX}{part}: ".upper() for part in error["loc"])
    return name + error["msg"].removeprefix("Value error, ")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


CLIENT_VARIABLES = ("GRADDX_URL", "GRADDX_API_KEY")
"""What the client reads from the same environment."""


def unknown_variables(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """One sentence for each GRADDX_* variable (environment and .env) that no setting reads."""
    names = {*(os.environ if environment is None else environment), *dotenv_values(ENV_FILE)}
    settings = [PREFIX + name.upper() for name in Settings.model_fields]
    known = [*settings, *(name + FILE for name in settings), *CLIENT_VARIABLES]
    unknown = sorted(n for n in names if n.upper().startswith(PREFIX) and n.upper() not in known)
    return tuple(_complaint(name, known) for name in unknown)


def _complaint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.upper(), known, n=1)
    return f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
