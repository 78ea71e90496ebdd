"""Settings: everything an operator may change, from the environment (GRADDX_*) or a .env file."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "GRADDX_"
ENV_FILE = ".env"


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _rate(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", value):
        raise ValueError("write COUNT/second, COUNT/minute, COUNT/hour or COUNT/day")
    return value


def _not_yet(value: str | None) -> str | None:
    if value:
        raise ValueError(
            "a message broker is not yet supported; leave GRADDX_BROKER_URL unset to use "
            "local worker processes"
        )
    return None


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
    broker_url: Annotated[str | None, AfterValidator(_not_yet)] = None
    """Message broker; not yet supported."""
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
    known = [*(PREFIX + name.upper() for name in Settings.model_fields), *CLIENT_VARIABLES]
    unknown = sorted(n for n in names if n.upper().startswith(PREFIX) and n.upper() not in known)
    return tuple(_complaint(name, known) for name in unknown)


def _complaint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.upper(), known, n=1)
    return f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
