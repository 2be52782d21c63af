"""What is past its time goes, what is not stays, and what needs it says why it cannot."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from door import QUICK, films, identrix

from pipeline.config import load_match_config
from pipeline.retention import DAY_S, ended_at_s
from pipeline.salted import SaltError, salt_of, salted_id, salted_number
from pipeline.site_store import open_store


def aged(run: Path, days: float, **retention: float) -> Path:
    facts = json.loads((run / "run.json").read_text())
    facts["config"]["retention"] |= retention
    (run / "run.json").write_text(json.dumps({**facts, "ended_at_s": time.time() - days * DAY_S}))
    return run


def retain(*arguments: object) -> list[tuple[str, str]]:
    done = identrix("retain", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return [(Path(row["run"]).name, row["what"]) for row in json.loads(done.stdout)["removed"]]


def test_every_run_by_its_own_settings(hall):
    runs = hall.parent / "runs"
    rules = {"videos": {"videos_days": 1}, "embeddings": {"embeddings_days": 1}, "old": {"runs_days": 1}}
    for name, rule in {**rules, "young": {"videos_days": 9, "runs_days": 9}, "kept": {}}.items():
        aged(Path(shutil.copytree(hall, runs / name)), 2.0, **rule)
    (runs / "old" / "notes.txt").write_text("mine")
    expected = [("embeddings", "embeddings"), ("old", "run"), ("videos", "videos")]
    assert retain(runs, "--dry-run") == expected and (runs / "videos" / "video").is_dir()
    assert retain(runs) == expected and retain(runs) == []

    assert not (runs / "videos" / "video").exists() and (runs / "young" / "video").is_dir()
    assert [path.name for path in (runs / "old").iterdir()] == ["notes.txt"]
    refused = identrix("replay", runs / "embeddings", "--out", runs / "again")
    assert refused.exit_code == 2 and "its embeddings were erased when their retention ended" in refused.stderr
    assert identrix("explain", runs / "embeddings", "P1").exit_code == 0
    corrected = identrix("correct", runs / "embeddings", "merge", "P1", "P2", "--no-teach")
    assert corrected.exit_code == 0, corrected.stderr
    assert identrix("forget", runs / "embeddings", "P3", "--yes").exit_code == 0
    assert retain(runs, "--set", "retention.sightings_days=1") == [
        *(("embeddings", "sightings"), ("kept", "sightings"), ("videos", "sightings"), ("young", "sightings"))
    ]


def test_a_new_run_applies_it_first(walk, hall):
    aged(hall, 3.0)
    other = Path(shutil.copytree(hall, hall.parent / "other"))
    facts = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**facts, "site": "elsewhere"}))
    (hall.parent / "broken").mkdir()
    (hall.parent / "broken" / "run.json").write_text("{")
    days = ("--set", "retention.videos_days=2")
    done = identrix("run", *films(walk), "--site", "hall", "--out", hall.parent / "next", *QUICK, *days)
    assert done.exit_code == 0, done.stderr
    assert not (hall / "video").exists() and (other / "video").is_dir()
    assert time.time() - ended_at_s(hall.parent / "next") < 600
    del facts["ended_at_s"]
    (other / "run.json").write_text(json.dumps(facts))  # a run of an older version does not say when it ended
    assert ended_at_s(other) == (other / "tables_start.json").stat().st_mtime


def test_redis_keys_get_their_lifetime(hall, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("site: hall\nretention: {redis_days: 5}\ncameras: [{name: a, source: a.mp4}]\n")
    config = load_match_config({"site": "hall"})
    with open_store(config, config.tables) as (store, _):
        store.client.hset(store.keys.of("state"), mapping={"person:1": b"x"})  # no lifetime at all
        done = json.loads(identrix("retain", hall, "--config", site, "--json").stdout)
        assert done["redis_keys"] >= 3  # counts, a writer's batch number, state
        for name in store.client.scan_iter("*"):
            if any(part in name for part in (b":counts:", b":batch:", b":state")):
                assert 0 < store.client.ttl(name) <= 5 * DAY_S, name
        assert store.client.ttl(store.keys.of("ids")) == -1  # never given twice, for ever


def test_no_such_folder(tmp_path):
    result = identrix("retain", tmp_path / "absent")
    assert result.exit_code == 2 and "no such folder" in result.stderr


def test_salted_names(monkeypatch):
    salt, other = b"a salt of enough bytes", b"another salt of enough"
    names = {salted_id(i, salt) for i in range(1000)}
    assert len(names) == 1000 and not names & {salted_id(i, other) for i in range(1000)}
    assert len({salted_number(i, salt) for i in range(1000)}) == 1000 and salted_number(3, salt) < 1 << 53
    with pytest.raises(SaltError, match="at least 16"):
        salted_id(1, b"short")
    with pytest.raises(SaltError, match="has no variable IDENTRIX_NO_SALT"):
        salt_of("IDENTRIX_NO_SALT")
    monkeypatch.setenv("IDENTRIX_NO_SALT", "short")
    with pytest.raises(SaltError, match="openssl rand -hex 32"):
        salt_of("IDENTRIX_NO_SALT")
    monkeypatch.setenv("IDENTRIX_NO_SALT", salt.decode())
    assert salt_of("IDENTRIX_NO_SALT") == salt
