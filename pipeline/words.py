"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """A number and what it counts, in the plural unless it is one.

    >>> counted(1, "pair"), counted(8, "pair"), counted(0, "person")
    ('1 pair', '8 pairs', '0 persons')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
