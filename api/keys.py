"""API keys for whoever runs the server: `python -m api keys create | list | revoke | forget`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

from service import bootstrap
from service.config import load
from service.domain.api_keys import OWNER, ApiKey, Scope, mint
from service.ports import ApiKeyRepository

NAME_LENGTH = 64
"""Characters of a key's name."""
USUAL = (Scope.READ, Scope.WRITE)
"""Scopes of a key that nobody said more about."""


def add_commands(parser: argparse.ArgumentParser) -> None:
    """create, list, revoke, forget."""
    commands = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    create = commands.add_parser("create", help="make a key and print it, this once")
    create.add_argument("--name", required=True, type=_name, help="for people")
    create.add_argument(
        "--owner",
        type=_owner,
        help="whose analyses and files it reaches; keys of one owner share them. Default: the name",
    )
    create.add_argument(
        "--scope",
        action="append",
        type=Scope,
        choices=[*Scope],
        metavar="|".join(Scope),
        help="what it may do, once for each; default: read and write",
    )
    create.add_argument("--days", type=_days, help="how long it is good; default: until revoked")
    commands.add_parser("list", help="every key but its secret")
    revoke = commands.add_parser("revoke", help="let a key open nothing any more")
    forget = commands.add_parser(
        "forget",
        help="remove a revoked key from the list; without any key the server on a loopback "
        "address is open again",
    )
    for one in (revoke, forget):
        one.add_argument("id", metavar="ID", help="12 digits, as `list` shows them")


def run(asked: argparse.Namespace) -> None:
    """Do what was asked. Raises SystemExit."""
    with bootstrap.api_keys(load()) as keys:
        match asked.act:
            case "create":
                _create(keys, asked)
            case "list":
                _list(keys)
            case "revoke":
                _told(keys.revoke(asked.id), f"no key {asked.id} that is not revoked")
            case "forget":
                _told(keys.forget(asked.id), f"no revoked key {asked.id}; revoke it first")


def _create(keys: ApiKeyRepository, asked: argparse.Namespace) -> None:
    owner = asked.owner or asked.name.lower()
    if not OWNER.fullmatch(owner):
        raise SystemExit("give --owner: the name holds what an owner's may not")
    now = datetime.now(UTC)
    expires = now + timedelta(days=asked.days) if asked.days else None
    key, text = mint(asked.name, owner, frozenset(asked.scope or USUAL), now, expires)
    keys.add(key)
    _say(text)


def _list(keys: ApiKeyRepository) -> None:
    now = datetime.now(UTC)
    rows: list[tuple[str, ...]] = [("ID", "NAME", "OWNER", "SCOPES", "CREATED", "EXPIRES", "STATE")]
    rows += [_row(key, now) for key in keys.list()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _say("  ".join(padded).rstrip())


def _row(key: ApiKey, now: datetime) -> tuple[str, ...]:
    state = "active" if key.active(now) else "revoked" if key.revoked_at else "expired"
    expires = f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "never"
    scopes = ",".join(sorted(key.scopes))
    return (key.id, key.name, key.owner, scopes, f"{key.created_at:%Y-%m-%d}", expires, state)


def _told(done: bool, why_not: str) -> None:
    if not done:
        raise SystemExit(why_not)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _name(text: str) -> str:
    if not 1 <= len(text) <= NAME_LENGTH or not text.isprintable():
        raise argparse.ArgumentTypeError(f"1 to {NAME_LENGTH} printable characters")
    return text


def _owner(text: str) -> str:
    if not OWNER.fullmatch(text):
        raise argparse.ArgumentTypeError(
            "up to 64 of a-z, 0-9, dot, hyphen and underscore, a letter or digit first"
        )
    return text


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 36500:
        raise argparse.ArgumentTypeError("more than 0 and at most 36500")
    return days
