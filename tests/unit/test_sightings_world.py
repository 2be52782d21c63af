"""The world of sightings keeps its promises: seeded, ordered, physical, and as difficult as it says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

from st_model.sightings_world import NOBODY, SightingsWorld, SiteChanges, WorldSettings, world_settings
from st_model.world_site import build_site


@pytest.fixture(scope="module", params=["easy", "middle", "hard"])
def watched(request):
    return SightingsWorld(world_settings(request.param, cameras=6, duration_s=1200), seed=3).watch()


def test_rows_come_in_order_and_belong_to_a_stay(watched):
    rows, stays = watched
    said = [row.sighting.emitted_s for row in rows]
    assert said == sorted(said)
    person = {(s.camera, s.track_id): s.person for s in stays}
    assert len(person) == len(stays)
    assert all(person[row.sighting.key] == row.person for row in rows)


def test_every_stay_has_one_last_word(watched):
    rows, stays = watched
    closed = defaultdict(set)
    for row in rows:
        if row.sighting.closed:
            closed[row.sighting.key].add(row.sighting.last_s)
    assert set(closed) == {(s.camera, s.track_id) for s in stays}
    assert all(len(ends) == 1 for ends in closed.values())


def test_nobody_is_twice_in_one_view(watched):
    _, stays = watched
    by_person = defaultdict(list)
    for stay in stays:
        if stay.person != NOBODY:
            by_person[stay.person, stay.camera].append(stay)
    for visits in by_person.values():
        visits.sort(key=lambda s: s.entered_s)
        for before, after in pairwise(visits):
            assert after.entered_s > before.last_s


def test_same_seed_same_world_and_another_seed_another():
    settings = world_settings("hard", cameras=4, duration_s=300)
    first, again = SightingsWorld(settings, 5).watch(), SightingsWorld(settings, 5).watch()
    other = SightingsWorld(settings, 6).watch()
    assert first[1] == again[1] != other[1]
    for a, b in zip(first[0], again[0], strict=True):
        assert a.sighting.key == b.sighting.key
        assert np.array_equal(a.sighting.embedding, b.sighting.embedding)


def test_a_longer_world_begins_like_a_shorter_one():
    short = SightingsWorld(world_settings("middle", duration_s=600), 1)
    long = SightingsWorld(world_settings("middle", duration_s=3600), 1)
    said = [row.sighting for row in short.observations() if row.sighting.emitted_s < 600]
    for a, b in zip(said, islice(long.observations(), len(said)), strict=True):
        assert (a.key, a.emitted_s, a.closed) == (b.sighting.key, b.sighting.emitted_s, b.sighting.closed)


def test_a_thousand_cameras_stream_without_holding_the_day():
    world = SightingsWorld(world_settings("hard", cameras=1000, duration_s=86400), 0)
    cameras = {row.sighting.camera for row in islice(world.observations(), 2000)}
    assert len(world.site.cameras) == 1000
    assert len(cameras) > 100


@pytest.mark.parametrize("cameras", [2, 3, 40, 1000])
def test_every_camera_can_be_reached(cameras):
    site = build_site(cameras, 3600, SiteChanges(layout_shift_s=1800), np.random.default_rng(cameras))
    for ways in (site.ways, site.ways_after):
        reached, waiting = {0}, [0]
        while waiting:
            for way in ways[waiting.pop()]:
                assert way.share > 0
                if way.to not in reached:
                    reached.add(way.to)
                    waiting.append(way.to)
        if ways is site.ways:
            assert len(reached) == cameras
    for ways in site.ways:
        assert sum(way.share for way in ways) == pytest.approx(1)


def test_layout_shift_makes_the_same_ways_longer():
    site = build_site(40, 3600, SiteChanges(layout_shift_s=1800), np.random.default_rng(1))
    before = {(i, w.to): w.metres for i, ways in enumerate(site.ways) for w in ways}
    after = {(i, w.to): w.metres for i, ways in enumerate(site.ways_after) for w in ways}
    longer = [pair for pair in before.keys() & after.keys() if after[pair] > before[pair]]
    assert 0.15 < len(longer) / len(before) < 0.5
    assert before.keys() - after.keys()
    assert after.keys() - before.keys()
    assert site.ways_from(0, 1799.9) == site.ways[0]
    assert site.ways_from(0, 1800.0) == site.ways_after[0]


def test_a_clock_that_jumps_shifts_what_is_said_and_not_the_truth():
    calm = replace(world_settings("middle", cameras=3, duration_s=1800), changes=SiteChanges())
    jumpy = replace(calm, changes=SiteChanges(clock_jumps=1))
    world = SightingsWorld(jumpy, 2)
    (jump,) = world.site.clock_jumps
    rows, stays = world.watch()
    said = [row.sighting.emitted_s for row in rows]
    assert said == sorted(said)
    true_s = {(s.camera, s.track_id): s.entered_s for s in stays}
    for row in rows:
        wrong_s = row.sighting.entered_s - true_s[row.sighting.key]
        late = row.sighting.camera == jump.camera and true_s[row.sighting.key] >= jump.at_s
        assert wrong_s == pytest.approx(jump.offset_s if late else 0.0)


def test_a_camera_that_fails_sees_nobody():
    settings = WorldSettings(cameras=3, duration_s=3600, changes=SiteChanges(blackouts=3))
    world = SightingsWorld(settings, 4)
    _, stays = world.watch()
    for blackout in world.site.blackouts:
        here = [s for s in stays if s.camera == blackout.camera]
        assert here
        assert not any(blackout.from_s < s.last_s and s.entered_s < blackout.to_s for s in here)


def test_look_alikes_make_it_harder():
    def confusion(difficulty):
        """Share of the strangers' pairs of stays that are more alike than the middle pair of one person."""
        rows, _ = SightingsWorld(world_settings(difficulty, duration_s=1200), 7).watch()
        last = [row for row in rows if row.sighting.closed and row.person != NOBODY][:400]
        vectors = np.array([row.sighting.embedding for row in last])
        person = np.array([row.person for row in last])
        upper = np.triu(np.ones((len(last), len(last)), bool), 1)
        same, cosine = person[:, None] == person, vectors @ vectors.T
        return (cosine[upper & ~same] > np.median(cosine[upper & same])).mean()

    easy, middle, hard = confusion("easy"), confusion("middle"), confusion("hard")
    assert easy < middle < hard


@pytest.mark.parametrize(
    "bad",
    [
        lambda: WorldSettings(groups=1.5),
        lambda: WorldSettings(duration_s=0),
        lambda: world_settings("impossible"),  # type: ignore[arg-type]
        lambda: build_site(1, 60, SiteChanges(), np.random.default_rng(0)),
        lambda: build_site(3, 60, SiteChanges(clock_jumps=1), np.random.default_rng(0)),
    ],
)
def test_impossible_worlds_are_refused(bad):
    with pytest.raises(ValueError, match=r"must|needs"):
        bad()
