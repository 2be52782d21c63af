"""Whether a folder is that of a finished run, said in one line when it is not.

RunFolderError (FileNotFoundError)   it is not; says what it is instead, or which name was probably meant
"""

from __future__ import annotations

import difflib
from pathlib import Path


class RunFolderError(FileNotFoundError):
    """This is not the folder of a finished run."""


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, finished or not: nothing else should be written into it."""
    return any((Path(folder) / name).exists() for name in ("run.json", "journal"))


def finished_run(run_dir: Path, *needed: str) -> Path:
    """The folder itself, when the run in it is finished and holds the files that are needed. Raises RunFolderError."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        beside = [p.name for p in run_dir.parent.iterdir() if p.is_dir()] if run_dir.parent.is_dir() else []
        guess = difflib.get_close_matches(run_dir.name, beside, n=1, cutoff=0.5)
        hint = f"; did you mean {run_dir.parent / guess[0]}?" if guess else ""
        raise RunFolderError(f"{run_dir}: no such folder{hint}")
    missing = [name for name in needed if not (run_dir / name).is_file()]
    if (run_dir / "journal").is_dir() and missing:
        raise RunFolderError(
            f"{run_dir}: this run is going on or was killed; complete its files: identrix finish {run_dir}"
        )
    if missing:
        raise RunFolderError(f"{run_dir}: not the folder of a finished run ({', '.join(missing)} missing)")
    return run_dir
