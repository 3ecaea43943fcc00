"""Who labels. An engine is made from the campaign's `reference` section; its package is imported only when it works."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from kmde_fw import config
from kmde_fw.reference.base import Engine

if TYPE_CHECKING:
    from kmde_fw.reference.ase import AseEngine
    from kmde_fw.reference.vasp import VaspEngine

__all__ = ["Engine", "describe_level", "level_differences", "make_engine"]


@overload
def make_engine(settings: config.AseReference) -> "AseEngine": ...
@overload
def make_engine(
    settings: config.AseReference | config.VaspReference,
    elements: Sequence[str],
    env: Mapping[str, Any] | None = None,
    run_name: str = "label",
) -> "AseEngine | VaspEngine": ...


def make_engine(
    settings: config.AseReference | config.VaspReference,
    elements: Sequence[str] = (),
    env: Mapping[str, Any] | None = None,
    run_name: str = "label",
) -> "AseEngine | VaspEngine":
    """The engine that `settings.engine` names. Raises EngineError if this machine lacks what it needs.

    elements: the campaign's; env: the worker's own settings; run_name: tells a calculation's run directory from others.
    A calculator of ASE needs none of these.
    """
    if isinstance(settings, config.VaspReference):
        from kmde_fw.reference.vasp import VaspEngine

        return VaspEngine(settings, elements, env or {}, run_name)
    from kmde_fw.reference.ase import AseEngine

    return AseEngine(settings)


#: VASP's words for functionals that people call otherwise
FUNCTIONALS = {"PE": "PBE", "PS": "PBEsol", "RP": "RPBE", "RE": "revPBE", "CA": "LDA"}


def describe_level(level: Mapping[str, Any]) -> str:
    """A level of theory in a line for people."""
    if level["engine"] == "vasp":
        incar = level["incar"]
        functional = str(
            incar.get("METAGGA") or incar.get("GGA") or next(iter(level["potcars"].values()))["lexch"]
        ).upper()
        titels = ", ".join(potcar["titel"] for potcar in level["potcars"].values())
        encut = f"{incar['ENCUT']:g} eV" if "ENCUT" in incar else "of the POTCARs"
        u = "".join(f", U of {element} {value:g} eV" for element, value in incar.get("LDAUU", {}).items())
        return (
            f"VASP, {FUNCTIONALS.get(functional, functional)}, ENCUT {encut}, {_kpoint_words(level['kpoints'])}{u}, "
            f"{titels}"
        )
    return f"{level['calculator']} {level['arguments'] or ''}".rstrip()


def _kpoint_words(rule: Mapping[str, Any]) -> str:
    if "KSPACING" in rule:
        return f"k-points every {rule['KSPACING']:g} Å⁻¹"
    if "grid" in rule:
        return f"k-points {'×'.join(map(str, rule['grid']))}"
    return ", ".join(f"{key} {value}" for key, value in rule.items())


def level_differences(first: Mapping[str, Any], second: Mapping[str, Any], where: str = "") -> list[str]:
    """What two levels of theory differ in, in words: `incar.ENCUT: 520 and 680`."""
    found = []
    for key in sorted({*first, *second}):
        a, b = first.get(key), second.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += level_differences(a, b, f"{where}{key}.")
        elif a != b:
            found.append(f"{where}{key}: {a} and {b}")
    return found
