"""Settings, their example file and what is said about variables nobody reads."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.config import PREFIX, Settings, load, unknown_variables

EXAMPLE = Path(__file__).parents[3] / ".env.example"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no .env of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _example() -> dict[str, str]:
    lines = EXAMPLE.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))


def test_the_example_names_every_setting_in_order() -> None:
    assert [*_example()] == [PREFIX + name.upper() for name in Settings.model_fields]


def test_the_example_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Settings()
    for name, value in _example().items():
        monkeypatch.setenv(name, value)
    assert Settings() == plain


def test_every_setting_of_the_example_has_a_comment_above() -> None:
    for paragraph in EXAMPLE.read_text().strip().split("\n\n"):
        assert paragraph.startswith("# "), paragraph


def test_a_dotenv_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("GRADDX_PORT=9001\nGRADDX_WORKERS=3\nSOMETHING=else\n")
    monkeypatch.setenv("GRADDX_WORKERS", "1")
    assert (Settings().port, Settings().workers) == (9001, 1)


def test_settings_come_out_of_their_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = Settings(port=9001, workers=7, probe_seconds=1.5, run_uploads_unsealed=True)
    for name, value in changed.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == changed


def test_the_database_is_sqlite_in_the_data_folder() -> None:
    settings = Settings(data_dir=Path("somewhere"))
    assert settings.database_url == f"sqlite:///{Path.cwd()}/somewhere/graddx.sqlite3"


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Settings(database_url="postgresql://me:secret@host/graddx"))


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_a_broker_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"pip install -r requirements-broker.txt"):
        Settings(broker_url="amqp://localhost")


def test_passwords_come_from_files_and_into_the_urls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DATABASE", "BROKER"):
        secret = tmp_path / name.lower()
        secret.write_text(f"{name}/ :@\n")
        monkeypatch.setenv(f"GRADDX_{name}_PASSWORD_FILE", str(secret))
    monkeypatch.setenv("GRADDX_DATABASE_URL", "postgresql://me@db:5432/graddx")
    monkeypatch.setenv("GRADDX_BROKER_URL", "amqp://me:old@mq:5672/vhost")
    settings = Settings()
    assert settings.database_url == "postgresql://me:DATABASE%2F%20%3A%40@db:5432/graddx"
    assert settings.broker_url == "amqp://me:BROKER%2F%20%3A%40@mq:5672/vhost"
    assert "BROKER" not in repr(settings)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_a_setting_wins_over_its_file_and_a_missing_file_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "port").write_text("9001")
    monkeypatch.setenv("GRADDX_PORT_FILE", str(tmp_path / "port"))
    assert Settings().port == 9001
    assert unknown_variables() == ()
    monkeypatch.setenv("GRADDX_PORT", "9002")
    assert Settings().port == 9002
    monkeypatch.setenv("GRADDX_PORT_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match=r"GRADDX_PORT_FILE: .*nowhere"):
        Settings()


def test_queues_are_named_once_each() -> None:
    assert Settings(queues="gpu, cpu,gpu").queues == "gpu,cpu"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_is_this_machine(host: str) -> None:
    assert not Settings(host=host).beyond_this_machine


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_another_address_is_beyond_it_unless_that_is_meant(host: str) -> None:
    assert Settings(host=host).beyond_this_machine
    assert not Settings(host=host, allow_anyone=True).beyond_this_machine


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("WORKERS", "-1"),
        ("LEASE_SECONDS", "0"),
        ("PROBE_MEMORY_MB", "x"),
        ("RATE_LIMIT", "many"),
        ("RATE_LIMIT", "0/minute"),
        ("RATE_LIMIT", "5 per day"),
        ("BROKER_URL", "redis://localhost"),
        ("BROKER_PREFIX", "a b"),
        ("QUEUES", "tpu"),
    ],
)
def test_values_out_of_range_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_unknown_variables_are_told_with_the_nearest_name() -> None:
    Path(".env").write_text("GRADDX_QUEUELIMIT=3\nOTHER=1\n")
    environment = {"GRADDX_PROBE_SECOND": "1", "GRADDX_PORT": "1", "HOME": "/"}
    assert unknown_variables(environment) == (
        "GRADDX_PROBE_SECOND is not a setting; did you mean GRADDX_PROBE_SECONDS?",
        "GRADDX_QUEUELIMIT is not a setting; did you mean GRADDX_QUEUE_LIMIT?",
    )


def test_wrong_settings_end_the_process_with_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADDX_BROKER_URL", "redis://localhost")
    monkeypatch.setenv("GRADDX_PORT", "x")
    with pytest.raises(SystemExit) as caught:
        load()
    port, broker = str(caught.value).splitlines()
    assert port.startswith("GRADDX_PORT: Input should be a valid integer")
    assert broker.startswith("GRADDX_BROKER_URL: write amqp://")
    for name in ("GRADDX_BROKER_URL", "GRADDX_PORT"):
        monkeypatch.delenv(name)
    assert load() == Settings()
