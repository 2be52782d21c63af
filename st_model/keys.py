"""Names and lifetimes of everything a site keeps in Redis.

All keys of one site begin with `identrix:{SITE}:`. The braces are a Redis Cluster hash tag: only what stands between
them decides the slot, so a site lies in one slot (and its scripts and transactions work), and many sites spread.

| key                    | type   | lifetime              | holds                                                      |
|------------------------|--------|-----------------------|------------------------------------------------------------|
| `schema`               | string | for ever              | version of this layout                                     |
| `axes`                 | hash   | until `reset`         | bin_s, origin_s, bins, epoch_s, one: what counts mean      |
| `version`              | string | for ever              | risen by every flush and reset; readers refresh from it    |
| `index`                | zset   | until `reset`         | FROM:TO:EPOCH -> version of its last change                |
| `counts:FROM:TO:EPOCH` | hash   | retention, rolling    | delay bin -> count (4096 = one observation)                |
| `batch:WRITER`         | string | retention, rolling    | last batch of that writer that was counted                 |
| `state`                | hash   | retention, rolling    | gallery, open sightings, decisions' position (personal)    |
| `ids`                  | string | for ever              | highest global id reserved: never lowered below a used one |
| `tracks`               | string | for ever              | highest track id reserved                                  |
| `sightings:AREA`       | stream | until decided         | what workers said; an entry goes when it is decided        |
| `decisions:AREA`       | stream | bounded, rolling      | decisions and corrections, for the workers                 |
| `events`               | stream | bounded, rolling      | new, update, end, merge, split: for other programs         |
| `match:AREA`           | hash   | retention, rolling    | state of an area's live matcher (personal)                 |
| `lease:AREA`           | string | seconds               | which matcher is active                                    |
| `fence:AREA`           | string | for ever              | risen by every take-over: who has an older one is refused  |
| `exits:AREA`           | stream | bounded; memory_s     | who left an area, and who was claimed (personal)           |
| `exit:GLOBAL_ID`       | string | 2 x memory_s, rolling | NUMBER:AREA holds the person, NUMBER: nobody (last exit)   |
| `mark:AREA`            | stream | one entry; retention  | how far an area has come, for the others                   |
| `progress:AREA`        | hash   | retention, rolling    | worker -> number of its last message that was decided      |
| `sent:AREA:WORKER:...` | string | retention, rolling    | number of the last message taken of a worker's session     |
| `forwarded:AREA`       | string | retention, rolling    | last entry of `events` that was forwarded (MQTT)           |
| `members`              | hash   | retention, rolling    | worker or matcher -> how it does, and where it reads       |

Rolling: every write starts the lifetime afresh, so an epoch ends that long after it last learnt something. Counting
from the last write, not from the epoch's own date, also serves recorded footage, whose clock may start at zero.

A server with a memory limit needs `maxmemory-policy noeviction` (its default): others may drop counts unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

SCHEMA = 1
"""Version of this layout; raised when an older program could misread it."""

RETENTION_S = 90 * 86400.0
"""Default lifetime of counts and state: about 13 half-lives of a week, after which an epoch weighs 1/8000."""

_ESCAPES = str.maketrans({character: f"%{ord(character):02X}" for character in "%:{}"})


def escaped(name: str) -> str:
    """A site or camera name as it stands inside a key: readable, only `%`, `:`, `{` and `}` are escaped.

    >>> escaped("Hall 2: east")
    'Hall 2%3A east'
    """
    return name.translate(_ESCAPES)


@dataclass(frozen=True)
class Keys:
    """The keys of one site.

    >>> Keys("mall").counts("gate", "lobby", 20100)
    'identrix:{mall}:counts:gate:lobby:20100'

    Raises ValueError for an empty site name (an empty hash tag would not bind the keys to one slot).
    """

    site: str

    def __post_init__(self) -> None:
        if not self.site:
            raise ValueError("a site needs a name: its keys in Redis are grouped by it")

    def of(self, name: str) -> str:
        """The full key of a short name from the table above.

        >>> Keys("mall").of("version")
        'identrix:{mall}:version'
        """
        return f"identrix:{{{escaped(self.site)}}}:{name}"

    def counts(self, from_camera: str, to_camera: str, epoch: int) -> str:
        """The hash of one ordered pair and epoch."""
        return self.of(f"counts:{member(from_camera, to_camera, epoch)}")

    def batch(self, writer: str) -> str:
        """The last batch number of one writer."""
        return self.of(f"batch:{escaped(writer)}")


def member(from_camera: str, to_camera: str, epoch: int) -> str:
    """A pair and epoch as it stands in `index` and behind `counts:`."""
    return f"{escaped(from_camera)}:{escaped(to_camera)}:{epoch}"


def parse_member(text: str) -> tuple[str, str, int]:
    """The inverse of `member`.

    >>> parse_member(member("a:b", "100%", 3))
    ('a:b', '100%', 3)

    Raises ValueError when the text is not one.
    """
    from_camera, to_camera, epoch = text.split(":")
    return unquote(from_camera), unquote(to_camera), int(epoch)
