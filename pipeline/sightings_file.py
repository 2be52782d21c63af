"""sightings.parquet: every Sighting of a run with its embedding, enough to replay the matcher.

One row per emission, in order of emitted_s; the row with closed = true is a stay's last word. Columns: camera string;
track_id int64; emitted_s, entered_s, last_s double; closed bool; n_crops int32; quality float; first_box, last_box
list<float>[4] (xyxy px, may be null); embedding list<float>[D], unit length; only where faces were looked for and
seen, face list<float>[F], unit length, null in the rows without one; and, only of a dual backbone, branch_weights
list<float>[2], shares of the local and the global branch.

    SightingsFileError (ValueError)   the file holds no sightings; names file, row and what is wrong
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import atomic
from st_model.ledger import StayKey
from st_model.sightings import Sighting

if TYPE_CHECKING:
    import pyarrow as pa


_VECTORS = ("embedding", "first_box", "last_box", "face", "branch_weights")
_ERASED = b"identrix embeddings erased"
_MAY_BE_NULL = ("first_box", "last_box", "face", "branch_weights")


class SightingsFileError(ValueError):
    """The file does not hold what a sightings.parquet must; says where."""


def _schema(dim: int, face_dim: int = 1, branches: bool = True) -> pa.Schema:
    """face_dim  length of a face's embedding, 0: there is no such column; branches  whether there are their weights"""
    import pyarrow as pa

    times = [(name, pa.float64()) for name in ("emitted_s", "entered_s", "last_s")]
    boxes = [(name, pa.list_(pa.float32(), 4)) for name in ("first_box", "last_box")]
    counts = [("closed", pa.bool_()), ("n_crops", pa.int32()), ("quality", pa.float32())]
    vectors = [("embedding", pa.list_(pa.float32(), dim))]
    vectors += [("face", pa.list_(pa.float32(), face_dim))] if face_dim else []
    vectors += [("branch_weights", pa.list_(pa.float32(), 2))] if branches else []
    return pa.schema([("camera", pa.string()), ("track_id", pa.int64()), *times, *counts, *boxes, *vectors])


def write_sightings(path: Path, sightings: list[Sighting]) -> None:
    """Write sightings.parquet, in order of emitted_s (equal times keep their order).

    Raises ValueError when embeddings differ in length, OutputError when the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(sightings, key=lambda s: s.emitted_s)
    dims = {len(s.embedding) for s in rows}
    if len(dims) > 1:
        raise ValueError(f"sightings of one run must have embeddings of one length, got {sorted(dims)}")
    face_dims = {len(s.face) for s in rows if s.face is not None}
    if len(face_dims) > 1:
        raise ValueError(f"sightings of one run must have faces of one length, got {sorted(face_dims)}")
    branches = any(s.branch_weights is not None for s in rows)
    schema = _schema(dims.pop() if dims else 1, face_dims.pop() if face_dims else 0, branches)
    columns: list[Any] = []
    for field in schema:
        values = [getattr(s, field.name) for s in rows]
        if field.name == "embedding" and rows:
            columns.append(pa.FixedSizeListArray.from_arrays(np.concatenate(values), field.type.list_size))
        else:
            columns.append(pa.array(values, field.type))
    with atomic(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd")


def read_sightings(path: Path) -> list[Sighting]:
    """Read a sightings.parquet, from this program or another, checked.

    Raises FileNotFoundError; SightingsFileError for a file that is not Parquet, columns that are missing, unknown or of
    another type, rows that are not in order of emitted_s, embeddings of differing length, of another length than 1, or
    with NaN: names the row (1-based); or more rows than the free memory holds.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        _check_size(path, pq.read_metadata(path))
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SightingsFileError(f"{path} is not a readable Parquet file: {error}") from error
    required = set(_schema(1).names) - set(_MAY_BE_NULL)
    names = set(table.column_names)
    if required - names == {"embedding"} and (table.schema.metadata or {}).get(_ERASED):
        raise SightingsFileError(
            f"{path}: its embeddings were erased when their retention ended; nothing can be matched"
        )
    if required - names:
        raise SightingsFileError(f"{path} lacks the columns {sorted(required - names)}")
    if names - set(_schema(1).names):
        raise SightingsFileError(f"{path} has unknown columns {sorted(names - set(_schema(1).names))}")
    return _checked_sightings(path, table)


def read_branch_weights(path: Path) -> dict[StayKey, tuple[float, float]]:
    """What the last row of each stay says of the branches of its encoder: (camera, track_id) -> (local, global).

    Stays without are left out; empty when there is no such file or column. Raises SightingsFileError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, name = Path(path), "branch_weights"
    if not path.is_file():
        return {}
    try:
        if name not in pq.read_schema(path).names:
            return {}
        table = pq.read_table(path, columns=["camera", "track_id", name])
    except (pa.ArrowInvalid, OSError) as error:
        raise SightingsFileError(f"{path} is not a readable Parquet file: {error}") from error
    found: dict[StayKey, tuple[float, float]] = {}
    for row, values in zip(table.to_pylist(), _vectors(path, name, table[name].combine_chunks()), strict=True):
        if values is None:
            continue
        if values.shape != (2,) or not np.isfinite(values).all():
            raise SightingsFileError(f"{path}: branch_weights must be two numbers, got {values.tolist()}")
        found[row["camera"], row["track_id"]] = (float(values[0]), float(values[1]))
    return found


def without_embeddings(table: pa.Table) -> pa.Table:
    """The table without its embeddings; `read_sightings` will say that they were erased."""
    gone = [name for name in ("embedding", "face") if name in table.column_names]
    return table.drop_columns(gone).replace_schema_metadata({_ERASED: b"1"})


def _check_size(path: Path, metadata: Any) -> None:
    """Say so before a file fills the memory: a replay holds every sighting, about 1.7 kB and its vectors (measured)."""
    numbers = sum(
        metadata.row_group(group).column(column).num_values
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    needed, free = 1700 * metadata.num_rows + 4 * numbers, _free_memory_bytes()
    if needed > free:
        raise SightingsFileError(
            f"{path} holds {metadata.num_rows:,} sightings, about {needed / 1e9:.1f} GB in memory where "
            f"{free / 1e9:.1f} GB are free: replay it in parts, by time, or on a larger machine"
        )


def _free_memory_bytes() -> int:
    """Memory that can be had without swapping; where the system does not say, no limit."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 1 << 62


def _checked_sightings(path: Path, table: pa.Table) -> list[Sighting]:
    columns: dict[str, Any] = {name: [None] * table.num_rows for name in _MAY_BE_NULL}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if column.null_count and name not in _MAY_BE_NULL:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]) + 1
            raise SightingsFileError(f"{path}, row {row}: {name} is null")
        columns[name] = _vectors(path, name, column) if name in _VECTORS else _scalars(path, name, column)
    sightings: list[Sighting] = []
    dim = 0
    for n in range(table.num_rows):
        fields = {name: values[n] for name, values in columns.items()}
        length = len(fields["embedding"])
        dim = dim or length
        try:
            if length != dim:
                raise ValueError(f"embedding of length {length}, the first row has {dim}")
            sighting = Sighting(**fields)
        except (ValueError, TypeError) as error:
            raise SightingsFileError(f"{path}, row {n + 1}: {error}") from error
        if sightings and sighting.emitted_s < sightings[-1].emitted_s:
            raise SightingsFileError(
                f"{path}, row {n + 1}: emitted_s {sighting.emitted_s} is earlier than in the row before"
            )
        sightings.append(sighting)
    return sightings


def _scalars(path: Path, name: str, column: Any) -> list[Any]:
    """A column of single values in the type it must have; whole numbers may come as floats, and so on."""
    import pyarrow as pa

    try:
        values: list[Any] = column.cast(_schema(1).field(name).type).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SightingsFileError(f"{path}: column {name} is {column.type}: {error}") from error
    return values


def _vectors(path: Path, name: str, column: Any) -> list[NDArray[np.float32] | None]:
    """A list or fixed-size list column as one float32 array (or None) per row, copied: no slow Python numbers."""
    import pyarrow as pa

    kind, item = column.type, getattr(column.type, "value_type", None)
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not (pa.types.is_null(kind) or (lists and (pa.types.is_floating(item) or pa.types.is_integer(item)))):
        raise SightingsFileError(f"{path}: column {name} is {kind}, expected lists of numbers")
    return [v.values.to_numpy(zero_copy_only=False).astype(np.float32) if v.is_valid else None for v in column]
