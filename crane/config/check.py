"""Checking a configuration file without using it (`ccontrol config check FILE`)."""

from __future__ import annotations

from crane.config.load import Finding, file_text, read_text
from crane.errors import CraneError


def check_text(text: str) -> list[Finding]:
    """Every mistake of a configuration text, in the order of the file's sections."""
    return list(read_text(text).findings)


def check_file(path: str) -> list[Finding]:
    """Every mistake of a file, also that it cannot be read; an empty list if it is right."""
    try:
        return check_text(file_text(path))
    except CraneError as error:
        return [Finding("", 0, error.code, error.message, error.hint)]
