"""The real server without its filter: what the seal holds back alone."""

from __future__ import annotations

import service.bootstrap
from api.__main__ import main


def let_everything_pass(path: object, model_format: str) -> None:
    """In place of service.intake.check.check_model."""


service.bootstrap.check_model = let_everything_pass  # type: ignore[attr-defined]
main()
