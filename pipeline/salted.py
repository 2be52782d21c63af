"""Names for persons in files that leave the house: they cannot be led back to ids without the salt."""

from __future__ import annotations

import hashlib
import hmac
import os

LEAST_SALT = 16
"""Bytes. Ids are small numbers: a salt that can be guessed gives all of them away."""


class SaltError(ValueError):
    """The salt is missing or too short."""


def salted_id(global_id: int, salt: bytes) -> str:
    """The person's name under a salt: the first 64 bits of HMAC-SHA256, as 16 hex digits.

    The same id and salt give the same name in every file; another salt gives names that cannot be joined with these.
    Raises SaltError for a salt of less than `LEAST_SALT` bytes.

    >>> salted_id(7, b"sixteen bytes ..")
    'b28b56867a87855a'
    """
    if len(salt) < LEAST_SALT:
        raise SaltError(f"the salt has {len(salt)} bytes; at least {LEAST_SALT} are needed, random ones")
    return hmac.new(salt, str(int(global_id)).encode(), hashlib.sha256).hexdigest()[:16]


def salted_number(global_id: int, salt: bytes) -> int:
    """As `salted_id`, as a whole number below 2^53, for formats that take numbers only (MOTChallenge, COCO).

    >>> salted_number(7, b"sixteen bytes ..") == int(salted_id(7, b"sixteen bytes .."), 16) >> 11
    True
    """
    return int(salted_id(global_id, salt), 16) >> 11


def salt_of(variable: str) -> bytes:
    """The salt that an environment variable holds; it never stands in a file or on a command line. Raises SaltError."""
    value = os.environ.get(variable)
    if not value:
        raise SaltError(f"the environment has no variable {variable} with the salt")
    if len(value.encode()) < LEAST_SALT:
        raise SaltError(f"the salt in {variable} is shorter than {LEAST_SALT} bytes: openssl rand -hex 32 makes one")
    return value.encode()
