"""INCAR tags: which ones decide the numbers, and what differs between two sets of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
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
#: U, J and l of LDAU: one value per species, by element in a campaign
HUBBARD = ("LDAUU", "LDAUJ", "LDAUL")
#: they say that some species has a U, and of what kind
SWITCHES = frozenset({"LDAU", "LDAUTYPE"})
#: one number for every cell would be wrong for all but one
OF_ONE_CELL = frozenset({"NELECT", "NUPDOWN", "NGX", "NGY", "NGZ", "NGXF", "NGYF", "NGZF"})
#: what a label is, whatever the input set thinks
SINGLE_POINT = {"NSW": 0, "IBRION": -1}
#: nobody reads these files of a label, and they are large
NO_FILES = {"LWAVE": False, "LCHARG": False, "LAECHG": False, "LVHAR": False}


#: R2SCAN and R2SCANL are two functionals, U 4 and U 4.5 two corrections, while Accurate and accura are one precision
WHOLE_WORDS = frozenset({"GGA", "METAGGA", "LDAUU"})


def same(first: Any, second: Any, whole: bool = False) -> bool:
    """Whether two values of a tag mean the same to VASP: 1e-05 and 0.00001, Accurate and accura, [2, 2] and 2 2.

    whole: a word is not the same as its beginning.
    """
    if isinstance(first, list | tuple) or isinstance(second, list | tuple):
        a, b = (list(v) if isinstance(v, list | tuple) else [v] for v in (first, second))
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(first, bool) or isinstance(second, bool):
        return truth(first) == truth(second)
    try:
        # vasprun.xml gives eight decimals
        return math.isclose(float(first), float(second), rel_tol=1e-6, abs_tol=1e-9)
    except (TypeError, ValueError):
        # vasprun.xml cuts words off: accura
        one, other = (str(v).strip().lower() for v in (first, second))
        if whole:
            return one == other
        return bool(one and other) and (one.startswith(other) or other.startswith(one))


def truth(value: Any) -> bool | str:
    """A logical value as VASP may write it; another word as it is."""
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
    """Those of the tags that decide the numbers and are one for all cells; U is on in those only that have it."""
    return {t: value for t, value in sorted(tags.items()) if t not in FREE and t not in PER_CELL and t not in SWITCHES}


def hubbard(incar: Mapping[str, Any], species: Sequence[str]) -> dict[str, dict[str, float]]:
    """U, J and l of the elements that have a U or J: element -> tag -> value; nothing where LDAU is off.

    species: of each atom, in the order of POSCAR, whose blocks the lists count. Where a list is missing, VASP's own
    values count: U = J = 1 eV and l = 2 for each species.
    """
    if truth(incar.get("LDAU", False)) is not True:
        return {}
    blocks = [element for element, _ in groupby(species)]
    columns = []
    for tag, default in zip(HUBBARD, (1.0, 1.0, 2.0), strict=True):
        value = incar.get(tag, [default] * len(blocks))
        columns.append([float(v) for v in (value if isinstance(value, list | tuple) else [value])])
    found = {}
    for element, *values in zip(blocks, *columns, strict=False):
        if values[0] or values[1]:
            found[element] = dict(zip(HUBBARD, values, strict=True))
    return dict(sorted(found.items()))


def hubbard_words(values: Mapping[str, float] | None, kind: Any) -> str:
    """One element's entry of `hubbard` for people and for comparisons. kind: LDAUTYPE, whose default is 2."""
    if values is None:
        return "no U"
    u, j, moment = (values[tag] for tag in HUBBARD)
    return f"U {u:g} J {j:g} l {moment:g} type {kind or 2}"
