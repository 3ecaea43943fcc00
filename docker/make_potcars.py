#!/usr/bin/env python3
"""Write a library of made-up POTCARs for the stand-in VASP: right names, valences and cutoffs, no pseudopotential.

    python docker/make_potcars.py DIR Al Fe_pv Pt [--functional PBE_64]

DIR is then what PMG_VASP_PSP_DIR names. VASP itself refuses such a file.
"""

import argparse
from pathlib import Path

FOLDERS = {"PBE": "POT_GGA_PAW_PBE", "PBE_54": "POT_GGA_PAW_PBE_54", "PBE_64": "POT_PAW_PBE_64"}
#: symbol: valence electrons, ENMAX in eV, date
KNOWN = {
    "Al": (3, 240.3, "04Jan2001"), "Fe": (8, 267.9, "06Sep2000"), "Fe_pv": (14, 293.2, "02Aug2007"),
    "Pt": (10, 230.3, "04Feb2005"), "Cu": (11, 295.4, "22Jun2005"), "Cu_pv": (17, 368.6, "06Sep2000"),
    "Au": (11, 229.9, "04Oct2007"),
}  # fmt: skip


def potcar(symbol):
    """Text of one made-up POTCAR."""
    valence, enmax, date = KNOWN.get(symbol, (6, 300.0, "01Jan2000"))
    element = symbol.split("_")[0]
    return f"""  PAW_PBE {symbol} {date}
   {valence:.16f}
 parameters from PSCTR are:
   VRHFIN ={element}: made up for the stand-in
   LEXCH  = PE
   EATOM  =    53.0387 eV,    3.8982 Ry

   TITEL  = PAW_PBE {symbol} {date}
   LULTRA =        F    use ultrasoft PP ?
   POMASS =   50.000; ZVAL   =   {valence:.3f}    mass and valenz
   ENMAX  =  {enmax:.3f}; ENMIN  =  {0.75 * enmax:.3f} eV
   END of PSCTR-controll parameters
 local part
  1.0
 End of Dataset
"""


def main():
    """Write what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("symbols", nargs="+")
    parser.add_argument("--functional", choices=FOLDERS, default="PBE_64")
    arguments = parser.parse_args()
    folder = arguments.directory / FOLDERS[arguments.functional]
    folder.mkdir(parents=True, exist_ok=True)
    for symbol in arguments.symbols:
        (folder / f"POTCAR.{symbol}").write_text(potcar(symbol))
    print(f"export PMG_VASP_PSP_DIR={arguments.directory.resolve()}")


if __name__ == "__main__":
    main()
