"""INCAR tags: which ones decide the numbers, and what differs between two sets of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: how the answer is looked for, and what is written down: an answer that converged does not depend on these
_FREE = """ALGO IALGO ISEARCH NELM NELMIN NELMDL ISTART ICHARG INIWAV TIME LDIAG WC MAXMIX IMIX INIMIX MIXPRE AMIN
    AMIX BMIX AMIX_MAG BMIX_MAG LMAXMIX LMIXTAU EBREAK DEPER NRMM NBANDS SYMPREC POTIM EDIFFG NBLOCK KBLOCK APACO NPACO
    SMASS
    LWAVE LCHARG LAECHG LVHAR LVTOT LELF LORBIT LOPTICS NEDOS EMIN EMAX NWRITE LH5 LDAUPRINT SYSTEM
    NCORE NPAR KPAR NSIM LPLANE LSCALAPACK LSCALU LSCAAWARE LASYNC MAXMEM"""
FREE = frozenset(_FREE.split())
#: one value per atom or per species: they differ from cell to cell by their nature
PER_CELL = frozenset({"MAGMOM", "LDAUU", "LDAUJ", "LDAUL", "RWIGS", "M_CONSTR"})
#: one number for every cell would be wrong for all but one
OF_ONE_CELL = frozenset({"NELECT", "NUPDOWN", "NGX", "NGY", "NGZ", "NGXF", "NGYF", "NGZF"})
#: what a label is, whatever the input set thinks
SINGLE_POINT = {"NSW": 0, "IBRION": -1}
#: nobody reads these files of a label, and they are large
NO_FILES = {"LWAVE": False, "LCHARG": False, "LAECHG": False, "LVHAR": False}


#: R2SCAN and R2SCANL are two functionals, while Accurate and accura are one precision
WHOLE_WORDS = frozenset({"GGA", "METAGGA"})


def same(first: Any, second: Any, whole: bool = False) -> bool:
    """Whether two values of a tag mean the same to VASP: 1e-05 and 0.00001, Accurate and accura, [2, 2] and 2 2.

    whole: a word is not the same as its beginning.
    """
    if isinstance(first, list | tuple) or isinstance(second, list | tuple):
        a, b = (list(v) if isinstance(v, list | tuple) else [v] for v in (first, second))
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(first, bool) or isinstance(second, bool):
        return _truth(first) == _truth(second)
    try:
        # vasprun.xml gives eight decimals
        return math.isclose(float(first), float(second), rel_tol=1e-6, abs_tol=1e-9)
    except (TypeError, ValueError):
        # vasprun.xml cuts words off: accura
        one, other = (str(v).strip().lower() for v in (first, second))
        if whole:
            return one == other
        return bool(one and other) and (one.startswith(other) or other.startswith(one))


def _truth(value: Any) -> bool | str:
    text = str(value).strip(" .").lower()
    return {"true": True, "t": True, "false": False, "f": False}.get(text, text)


def changes(asked: Mapping[str, Any], used: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Tags with another value, or in one of the two only: tag -> [asked, used], None where there is none."""
    return {
        tag: [asked.get(tag), used.get(tag)]
        for tag in sorted({*asked, *used})
        if tag not in asked or tag not in used or not same(asked[tag], used[tag], tag in WHOLE_WORDS)
    }


def decisive(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the tags that decide the numbers and are one for all cells."""
    return {tag: value for tag, value in sorted(tags.items()) if tag not in FREE and tag not in PER_CELL}
