"""Amounts as people type them, and who types them."""

from __future__ import annotations

import getpass
import os
from decimal import Decimal, InvalidOperation

from donewhen.cli.exits import CommandError


def scaled(option: str, typed: str, scale: int) -> int:
    """Return a number as typed, in whole smaller units, never by way of binary floats.

    Raises:
        CommandError: it is no number, is negative, or is larger than a row can hold.
    """
    try:
        number = Decimal(typed)
    except InvalidOperation as error:
        raise CommandError(f"{option} {typed!r} is not a number") from error
    if not number.is_finite() or not 0 <= number <= 2**53 // scale:
        raise CommandError(f"{option} {typed!r} is not a number from 0 to {2**53 // scale}")
    if scale == 1 and number != int(number):
        raise CommandError(f"{option} {typed!r} is not a whole number")
    return round(number * scale)


def user() -> str:
    """Return the name of whoever types, as this system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
