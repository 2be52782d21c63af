"""What the tracks table says about persons: their stays with dwell times, and their moves between cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.tracks_table import FinalIds

if TYPE_CHECKING:
    import pyarrow as pa


def stays(tracks: pa.Table, final_ids: FinalIds) -> pa.Table:
    """One row per stay: global_id, camera, track_id, entered_s, left_s, dwell_s, probability (that the id is right).

    Ordered by person, then by time of entry.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    grouped = tracks.group_by(["global_id", "camera", "track_id"]).aggregate([("time_s", "min"), ("time_s", "max")])
    keys = zip(grouped["camera"].to_pylist(), grouped["track_id"].to_pylist(), strict=True)
    entered_s, left_s = (pc.round(grouped[name], 4) for name in ("time_s_min", "time_s_max"))
    table = pa.table(
        {
            "global_id": grouped["global_id"],
            "camera": grouped["camera"],
            "track_id": grouped["track_id"],
            "entered_s": entered_s,
            "left_s": left_s,
            "dwell_s": pc.round(pc.subtract(left_s, entered_s), 4),
            "probability": pa.array([round(final_ids.get(key, (0, 0.0))[1], 4) for key in keys], pa.float64()),
        }
    )
    order = ("global_id", "entered_s", "left_s", "camera", "track_id")
    return table.sort_by([(name, "ascending") for name in order])


def transitions(stays_table: pa.Table) -> pa.Table:
    """Moves of each person from one camera to another, in order of time per person, from the table of `stays`.

    Columns: global_id, from_camera, left_s, to_camera, entered_s, delay_s, probability (that of the stay entered).
    Stays of one person that follow each other in the same camera count as one: it was left when the last of them
    ended. delay_s is negative when the person was in both views at once.
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    before: dict[str, Any] | None = None
    for stay in stays_table.to_pylist():
        if before is None or stay["global_id"] != before["global_id"]:
            before = stay
        elif stay["camera"] == before["camera"]:
            before = before | {"left_s": max(before["left_s"], stay["left_s"])}
        else:
            rows.append(
                {
                    "global_id": stay["global_id"],
                    "from_camera": before["camera"],
                    "left_s": before["left_s"],
                    "to_camera": stay["camera"],
                    "entered_s": stay["entered_s"],
                    "delay_s": round(stay["entered_s"] - before["left_s"], 4),
                    "probability": stay["probability"],
                }
            )
            before = stay
    fields = [("global_id", pa.int64()), ("from_camera", pa.string()), ("left_s", pa.float64())]
    fields += [("to_camera", pa.string())] + [(n, pa.float64()) for n in ("entered_s", "delay_s", "probability")]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))
