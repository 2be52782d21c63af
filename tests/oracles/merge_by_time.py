"""The merge of cameras in its plainest form: everything in memory, one full scan per batch."""

from __future__ import annotations

from collections.abc import Sequence


def merge_by_scanning(streams: Sequence[Sequence[tuple[float, float, str]]]) -> list[list[str]]:
    """Batches of values, as `pipeline.media_time.merge_in_time` must give them."""
    left = [list(stream) for stream in streams]
    batches = []
    while any(left):
        running = [stream for stream in left if stream]
        until_s = min(stream[0][0] for stream in running) + min(stream[0][1] for stream in running) / 2
        chosen = [stream.pop(0) for stream in left if stream and stream[0][0] <= until_s]
        batches.append([value for _, _, value in sorted(chosen, key=lambda item: item[0])])
    return batches
