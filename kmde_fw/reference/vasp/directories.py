"""Run directories: a clean one for each launch, POTCARs that do not outlive it, and what is kept afterwards."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kmde_fw.errors import EngineError


def fresh(root: Path, name: str) -> Path:
    """A new, empty directory for the calculation `name`. EngineError if `root` cannot be written into.

    What earlier launches of the same calculation left there (killed workers, lost nodes) is removed: nothing in it is
    known to be whole, and it may hold a POTCAR.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        for earlier in root.glob(f"{name}.run-*"):
            shutil.rmtree(earlier, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}.run-", dir=root)).resolve()
    except OSError as error:
        raise EngineError(
            f"cannot make a run directory in {root}: {error.strerror}; give the worker another scratch folder"
        ) from None


def remove_potcars(directory: Path) -> list[Path]:
    """Delete POTCAR and its copies, whatever became of the run. Returns what was deleted."""
    found = [path for path in directory.rglob("POTCAR*") if path.is_file() or path.is_symlink()]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def finish(directory: Path, keep: str, accepted: bool) -> str:
    """Compress the files of a run directory, or delete it: `keep` is all, failed or none. Returns its path, or ""."""
    from monty.shutil import compress_dir

    remove_potcars(directory)
    if keep == "none" or (keep == "failed" and accepted):
        shutil.rmtree(directory, ignore_errors=True)
        return ""
    compress_dir(str(directory), "gz")
    return str(directory)
