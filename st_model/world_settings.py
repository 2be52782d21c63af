"""What kind of world of sightings: size, habits of the people, looks, and three ready-made difficulties."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from st_model.world_site import SiteChanges


@dataclass(frozen=True)
class Looks:
    """How embeddings are made: lengths of the terms (each a Gaussian vector of about unit length times this).

    Columns are not equally wide: as in real embeddings a few carry most, so that strangers can be quite similar.

    dim       columns
    common    what all embeddings share: cosines of strangers lie around 0.5, not around 0
    outfits   how many different outfits there are; people of one outfit are look-alikes
    outfit, person   weights of what is worn and of the person under it
    camera    bias shared by everybody in one camera
    view      how this person looks in this camera
    stay      pose and light of one stay
    crop      noise of one crop; the mean over n crops has 1 / sqrt(n) of it
    """

    dim: int = 128
    common: float = 1.6
    outfits: int = 100
    outfit: float = 1.0
    person: float = 0.8
    camera: float = 0.5
    view: float = 0.8
    stay: float = 0.7
    crop: float = 1.0


@dataclass(frozen=True)
class WorldSettings:
    """What kind of world. Shares lie in [0, 1].

    cameras, duration_s   size; people stop coming after duration_s, those inside walk on
    arrivals_per_hour     parties (single people or groups) per gate and hour
    groups                share of the parties that are groups of 2 to 4 who stay within a second or two of each other
    loiterers             share of the stays that last ten times as long
    returns               share of the people leaving a view who come back into the same one
    comebacks             share of the people leaving the site who come again after 10 to 60 minutes
    broken                share of the stays whose track breaks for up to a second
    false_detections      per real stay
    late, duplicates      share of the rows that are said up to 10 s late, or twice
    """

    cameras: int = 6
    duration_s: float = 3600.0
    arrivals_per_hour: float = 60.0
    groups: float = 0.15
    loiterers: float = 0.03
    returns: float = 0.08
    comebacks: float = 0.1
    broken: float = 0.03
    false_detections: float = 0.02
    late: float = 0.02
    duplicates: float = 0.01
    looks: Looks = field(default_factory=Looks)
    changes: SiteChanges = field(default_factory=SiteChanges)

    def __post_init__(self) -> None:
        shares = (self.groups, self.loiterers, self.returns, self.comebacks, self.broken, self.late, self.duplicates)
        if not all(0 <= share <= 1 for share in shares) or self.false_detections < 0:
            raise ValueError(f"shares must lie in [0, 1], got {shares}")
        if self.duration_s <= 0 or self.arrivals_per_hour <= 0:
            raise ValueError("duration_s and arrivals_per_hour must be positive")


Difficulty = Literal["easy", "middle", "hard"]


def world_settings(difficulty: Difficulty, cameras: int = 6, duration_s: float = 3600.0) -> WorldSettings:
    """One of three worlds.

    easy    a network that knows the site, few people, nothing breaks
    middle  in between, habits as in WorldSettings
    hard    uniforms, colour casts, crowds, broken tracks, appearance like that of a network that never saw the site:
            as on Market-1501 with such a network, only about a quarter of the pairs of stays of one person are
            more alike than the most alike thousandth of the pairs of strangers

    Raises ValueError for another name.
    """
    if difficulty == "easy":
        return WorldSettings(
            cameras,
            duration_s,
            arrivals_per_hour=30,
            groups=0.05,
            loiterers=0.01,
            returns=0.03,
            comebacks=0.05,
            broken=0.01,
            false_detections=0.0,
            late=0.0,
            duplicates=0.0,
            looks=Looks(outfits=200, person=1.0, camera=0.3, view=0.6, stay=0.5),
        )
    if difficulty == "middle":
        return WorldSettings(cameras, duration_s)
    if difficulty == "hard":
        return WorldSettings(
            cameras,
            duration_s,
            arrivals_per_hour=90,
            groups=0.25,
            loiterers=0.06,
            returns=0.12,
            comebacks=0.15,
            broken=0.08,
            false_detections=0.05,
            late=0.05,
            duplicates=0.02,
            looks=Looks(outfits=40, person=0.6, camera=0.8, view=0.8, stay=0.8, crop=1.2),
        )
    raise ValueError(f"difficulty must be easy, middle or hard, got {difficulty!r}")
