"""POTCARs: found in the worker's library, named by title and hash. Their text goes into run directories, nowhere else.

They are proprietary. What may be kept of one is in `Potcar`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kmde_fw.config import did_you_mean
from kmde_fw.errors import EngineError


@dataclass(frozen=True)
class Potcar:
    """What may be said of a POTCAR. zval: valence electrons; enmax: eV; sha256: of the file's bytes, by us."""

    symbol: str
    functional: str
    titel: str
    lexch: str
    zval: float
    enmax: float
    sha256: str

    def to_document(self) -> dict[str, Any]:
        """As plain types."""
        return asdict(self)


def read_potcar(symbol: str, functional: str) -> Potcar:
    """Title, valence and hash of one POTCAR of the library. Raises EngineError, naming the file."""
    path = find(symbol, functional)
    text = _text(path)

    def field(name: str) -> str:
        match = re.search(rf"^.*?\b{name}\s*=\s*([^;\n]+)", text, re.MULTILINE)
        if match is None:
            raise EngineError(f"{path} has no {name}: it is not a POTCAR; put the right file there")
        return match[1].strip()

    return Potcar(
        symbol=symbol,
        functional=functional,
        titel=field("TITEL"),
        lexch=field("LEXCH"),
        zval=float(field("ZVAL").split()[0]),
        enmax=float(field("ENMAX").split()[0]),
        sha256=hashlib.sha256(text.encode("latin-1")).hexdigest(),
    )


def write_potcar(path: Path, symbols: list[str], functional: str) -> None:
    """The POTCAR of a run: those of its species, one after another, readable by their owner only."""
    path.touch(mode=0o600)
    path.write_text("".join(_text(find(symbol, functional)) for symbol in symbols), encoding="latin-1")


def find(symbol: str, functional: str) -> Path:
    """File of one POTCAR, laid out as pymatgen knows it. Raises EngineError that says where it was looked for."""
    from monty.os.path import zpath
    from pymatgen.core import SETTINGS
    from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP

    library = SETTINGS.get("PMG_VASP_PSP_DIR")
    if not library:
        raise EngineError(
            "PMG_VASP_PSP_DIR is not set: export it, or write it into ~/.config/.pmgrc.yaml; it is the folder that "
            "holds POT_PAW_PBE_64 and the like (pmg config -p makes it from VASP's archives)"
        )
    folders = {**POTCAR_FUNCTIONAL_MAP, **SETTINGS.get("PMG_VASP_PSP_SUB_DIRS", {})}
    if functional not in folders:
        raise EngineError(
            f"reference.functional: there are no POTCARs {functional!r}{did_you_mean(functional, folders)}; "
            f"known: {', '.join(folders)}"
        )
    folder = Path(library).expanduser() / folders[functional]
    for place in (folder / f"POTCAR.{symbol}", folder / symbol / "POTCAR"):
        path = Path(zpath(str(place)))
        if path.is_file():
            return path
    have = [path.name.removeprefix("POTCAR.").removesuffix(".gz") for path in folder.glob("POTCAR.*")]
    raise EngineError(
        f"no POTCAR {symbol!r} of {functional} in {folder}{did_you_mean(symbol, have)}; "
        f"look for POTCAR.{symbol} or {symbol}/POTCAR there, or choose another with reference.potcars"
    )


def _text(path: Path) -> str:
    from monty.io import zopen

    with zopen(path, "rb") as file:
        return bytes(file.read()).decode("latin-1")
