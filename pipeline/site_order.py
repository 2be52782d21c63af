"""The order in which people expect names of cameras."""

from __future__ import annotations

import re


def with_numbers(name: str) -> list[tuple[int, str]]:
    """Sort key that puts camera 2 before camera 10.

    >>> sorted(["cam10", "cam2", "hall"], key=with_numbers)
    ['cam2', 'cam10', 'hall']
    """
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]
