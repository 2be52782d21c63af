"""Workers, matchers and Redis are killed at random moments; what comes out is what comes out when nobody is."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from area_sites import walk
from site_players import SITE, PlayedSite, renamed

from pipeline.config import load_config
from st_model.counts import Axes, summed
from st_model.ledger import final_ids
from st_model.matcher import OnlineMatcher
from st_model.sightings_world import SightingsWorld, world_settings
from st_model.store import Store
from st_model.transitions import TransitionTables


def world_rows():
    """What each of two workers says, and the same in one stream."""
    settings = world_settings("middle", cameras=4, duration_s=900)
    rows = [seen.sighting for seen in SightingsWorld(settings, seed=3).observations()]
    return {f"w{n}": [row for row in rows if int(row.camera[1:]) % 2 == n] for n in range(2)}, rows


def undisturbed(rows, config):
    """(ids, counts) of one matcher in one process."""
    tables = TransitionTables(config.tables)
    matcher = OnlineMatcher(config.match, itertools.count(1).__next__, tables)
    for row in rows:
        matcher.submit(row)
    out = matcher.finish()
    ids = {key: global_id for key, (global_id, _) in final_ids(out.decisions, out.corrections).items()}
    return renamed(ids), summed(tables.items())


def counts_of(site, config):
    store = Store(site.url, SITE, axes=Axes.of(config.tables))
    try:
        return store.load_counts()
    finally:
        store.close()


def test_two_areas_lose_nobody_when_matchers_are_killed(tmp_path):
    """People walk to and fro between the areas; ids, as the workers read them, follow them through every kill."""
    rows = walk(14, "abab", gap_s=12.0, apart_s=30.0)
    by = {f"w{camera}": [row for row in rows if row.camera == camera] for camera in "ab"}
    with PlayedSite(
        tmp_path, by, matchers=2, pause_s=0.05, kind="redis-server", areas={"a": "hall", "b": "yard"}
    ) as site:
        site.finish(Random(5), 8)
        ids = site.ids()
        assert len(site.kills) >= 4
    people = {}
    for (_, track), global_id in ids.items():
        people.setdefault(track // 100, set()).add(global_id)
    assert len(people) == 14 and all(len(own) == 1 for own in people.values())
    assert len(set.union(*people.values())) == 14


@pytest.mark.parametrize(
    ("seed", "matchers", "kills", "kind"), [(0, 1, 0, "embedded"), (1, 1, 6, "embedded"), (2, 2, 6, "redis-server")]
)
def test_nothing_is_lost_and_nothing_counted_twice(tmp_path, seed, matchers, kills, kind):
    halves, rows = world_rows()
    with PlayedSite(tmp_path, halves, matchers=matchers, pause_s=0.015, kind=kind) as site:
        site.finish(Random(seed), kills)
        config = load_config(site.config_path)
        ids, counts = undisturbed(rows, config)
        assert len(site.kills) >= kills // 2
        assert renamed(site.ids()) == ids
        assert counts_of(site, config) == counts
