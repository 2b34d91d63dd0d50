"""`iotd config`: what is in effect, and whether a file is right."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from iotd.cli._program import CannotRunError
from iotd.config import FORMATS, ConfigError, Settings, load, show

__all__ = ["FORMATS", "check_config", "load_or_tell", "show_config"]


def load_or_tell(file: Path | None, flags: Mapping[str, object]) -> Settings | None:
    """The settings, or `None` after every problem was told on standard error, one on each line.

    Raises `CannotRunError` if the file cannot be read.
    """
    try:
        return load(file, flags=flags)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotRunError(
            f"cannot read the configuration file {file}: {reason}; check its path and permissions"
        ) from None


def check_config(file: Path) -> int:
    """Check a file together with the environment; returns the exit code."""
    settings = load_or_tell(file, {})
    if settings is None:
        return 2
    _warn(settings)
    print("ok")
    return 0


def show_config(file: Path | None, format: str) -> int:
    """Print the configuration in effect; returns the exit code."""
    settings = load_or_tell(file, {})
    if settings is None:
        return 2
    _warn(settings)
    show(settings, format, sys.stdout)
    return 0


def _warn(settings: Settings) -> None:
    for warning in settings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
