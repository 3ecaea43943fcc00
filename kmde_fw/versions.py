"""What computes here: versions of Python, of the packages and of our own source, for the record."""

from __future__ import annotations

import hashlib
import re
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    "kmde_fw",
    "fireworks",
    "pymongo",
    "torch",
    "numpy",
    "scipy",
    "ase",
    "vesin",
    "numba",
    "pymatgen",
    "spglib",
)


def versions() -> dict[str, Any]:
    """By name; `kmde_fw source` tells apart what has one version number."""
    packages = {package: version(package) for package in PACKAGES}
    return {"python": sys.version.split()[0], **packages, "kmde_fw source": source_hash()}


def numbers(version: str) -> tuple[int, ...]:
    """(0, 1, 0) of 0.1.0.dev3: for comparing releases."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


@cache
def source_hash() -> str:
    """First 12 characters of a sha256 over the names and bytes of this package's Python files."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
