"""Values in which a live matcher keeps its gallery and open sightings in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StateChange:
    """What changed in the state of a live matcher, and the position in its input which that state belongs to.

    position  how far the decisions have come (for instance the id of the last sighting read)
    changed   name -> bytes of each entry that is new or different (one per identity, one per open sighting); not empty
    removed   names that are gone

    Raises ValueError for an empty value or the reserved name `position`.
    """

    position: str
    changed: Mapping[str, bytes] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "position" in self.changed or "position" in self.removed:
            raise ValueError("a state entry cannot be called 'position'")
        if not self.position or not all(self.changed.values()):
            raise ValueError("position and every state entry must not be empty")

    def then(self, later: StateChange) -> StateChange:
        """Both changes as one.

        >>> StateChange("1", {"a": b"x"}).then(StateChange("2", {"b": b"y"}, ("a",)))
        StateChange(position='2', changed={'b': b'y'}, removed=('a',))
        """
        gone = set(later.removed)
        changed = {k: v for k, v in {**self.changed, **later.changed}.items() if k not in gone}
        return StateChange(later.position, changed, tuple(sorted((set(self.removed) | gone) - changed.keys())))


@dataclass(frozen=True)
class State:
    """The state of a matcher as it was saved: entries by name, and the position it belongs to."""

    position: str
    entries: dict[str, bytes]
