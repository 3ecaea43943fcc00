"""The reference `vasp`: VASP single points, wrapped by custodian, accepted by a list of named checks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kmde_fw.config import VaspReference
from kmde_fw.errors import EngineError, InputError
from kmde_fw.records import LabelResult, Structure, content_hash
from kmde_fw.reference.domain import check_bonds
from kmde_fw.reference.vasp import tags
from kmde_fw.reference.vasp.checks import check_geometry, check_level, check_potcars, check_run
from kmde_fw.reference.vasp.cost import cost
from kmde_fw.reference.vasp.directories import finish, fresh, remove_potcars
from kmde_fw.reference.vasp.inputs import (
    VaspInputs,
    by_element,
    initial_moments,
    kpoint_rule,
    level_tags,
    make_inputs,
    potcar_symbols,
    read_incar,
)
from kmde_fw.reference.vasp.parse import VaspRun, read_run
from kmde_fw.reference.vasp.potcars import Potcar, read_potcar
from kmde_fw.reference.vasp.run import Verdict, make_handlers, run, seconds_left, split_command, tail
from kmde_fw.worker_env import resolve


class VaspEngine:
    """Labels with VASP. One level of theory for all cells of `elements`.

    env: the worker's, for `>>key<<`; run_name: tells this calculation's run directory from all others.
    """

    def __init__(
        self, settings: VaspReference, elements: Sequence[str], env: Mapping[str, Any], run_name: str = "label"
    ) -> None:
        self.settings = settings
        self.elements = tuple(sorted(elements))
        self.env = env
        self.run_name = run_name
        make_handlers(settings.handlers)

    @cached_property
    def potcars(self) -> dict[str, Potcar]:
        """The POTCAR of each element, as this machine's library has it. Raises EngineError where one is missing."""
        symbols, functional = potcar_symbols(self.settings, self.elements)
        return {element: read_potcar(symbol, functional) for element, symbol in symbols.items()}

    @cached_property
    def level(self) -> dict[str, Any]:
        """Decisive tags, k-point rule, initial moments, POTCARs by title and hash. EngineError where that fails."""
        for where, named in by_element(self.settings).items():
            foreign = [element for element in named if element not in self.elements]
            if foreign:
                raise EngineError(
                    f"reference.{where} names {', '.join(foreign)}; the campaign's elements are "
                    f"{', '.join(self.elements)}"
                )
        incar = level_tags(self.settings, self.elements)
        spin = {"moments": initial_moments(self.settings, self.elements)} if incar.get("ISPIN") == 2 else {}
        return {
            "engine": "vasp",
            "incar": incar,
            "kpoints": kpoint_rule(self.settings),
            **spin,
            "potcars": {element: potcar.to_document() for element, potcar in self.potcars.items()},
        }

    @cached_property
    def level_key(self) -> str:
        """Content hash of `level`."""
        return content_hash(self.level)

    def outside_domain(self, structure: Structure) -> str:
        """See `base.Engine.outside_domain`."""
        reason = check_bonds(structure, self.settings.domain.min_bond)
        return f"shortest bond: {reason}" if reason else ""

    @property
    def command(self) -> str:
        """How this worker starts VASP. Raises EngineError where its env does not say."""
        return resolve(self.settings.vasp_cmd, self.env, "reference.vasp_cmd")

    def scratch(self, default: Path) -> Path:
        """The folder of run directories on this worker."""
        if self.settings.scratch is None:
            return default
        return Path(resolve(self.settings.scratch, self.env, "reference.scratch")).expanduser()

    def cost(self, structure: Structure) -> dict[str, Any]:
        """Electrons, plane waves and k-points of a single point; see `vasp.cost`."""
        inputs = make_inputs(self.settings, structure)
        electrons = sum(self.potcars[s].zval for s in structure.species)
        encut = float(inputs.incar.get("ENCUT", max(p.enmax for p in self.potcars.values())))
        return cost(structure.volume, electrons, encut, inputs.grid, int(inputs.incar.get("ISPIN", 1)))

    def label(self, structure: Structure, run_directory: Path | None = None) -> LabelResult:
        """Inputs, run, checks. See `base.Engine.label`. run_directory: where the run's own directory is made."""
        started = time.monotonic()
        outside = self.outside_domain(structure)
        if outside:
            return LabelResult(state="rejected", reason=outside, checks={"shortest bond": outside.partition(": ")[2]})
        inputs = make_inputs(self.settings, structure)
        command = self.command
        split_command(command)
        seconds = seconds_left(self.settings)
        directory = fresh(self.scratch(run_directory or Path.cwd()), self.run_name)
        result: LabelResult | None = None
        try:
            inputs.write(directory)
            verdict = run(directory, command, self.settings, seconds)
            result = self._judge(directory, inputs, verdict, time.monotonic() - started)
        finally:
            # also when a signal ends this worker
            remove_potcars(directory)
        kept = finish(directory, self.settings.keep, result.state == "accepted")
        return LabelResult(**{**vars(result), "run_directory": kept})

    def _judge(self, directory: Path, inputs: VaspInputs, verdict: Verdict, seconds: float) -> LabelResult:
        """The run as a label: accepted, rejected by a check, or failed."""
        checks = {"shortest bond": "passed", "custodian": verdict.reason or "passed"}
        used = self._changed(directory, inputs)
        details: dict[str, Any] = {
            "command": self.command,
            "changed_tags": {t: [_text(v) for v in p] for t, p in used.items()},
        }
        common: dict[str, Any] = {
            "checks": checks,
            "corrections": verdict.corrections,
            "details": details,
            "run_directory": str(directory),
            "seconds": seconds,
        }
        if verdict.reason:
            details["tail"] = tail(directory)
            return LabelResult(state="failed", reason=verdict.reason, **common)
        try:
            found = read_run(directory)
        except InputError as error:
            details["tail"] = tail(directory)
            return LabelResult(state="failed", reason=str(error), **common)
        titels = [self.potcars[s].titel for s in dict.fromkeys(inputs.sorted_structure.species)]
        for name, reason in (
            *check_run(found),
            ("geometry", check_geometry(found, inputs.sorted_structure)),
            ("POTCARs", check_potcars(found, titels)),
            ("level of theory", check_level(used, self.settings.allow_changes)),
        ):
            checks[name] = reason or "passed"
        refused = [f"{name}: {reason}" for name, reason in checks.items() if reason != "passed"]
        details |= _details(found)
        notes = (
            [f"corrected by custodian: {', '.join(e for c in verdict.corrections for e in c['errors'])}"]
            if verdict.corrections
            else []
        )
        back = np.argsort(inputs.order)
        whole = found.forces.shape == (len(inputs.order), 3)
        return LabelResult(
            state="rejected" if refused else "accepted",
            reason="; ".join(refused),
            energy=found.energy,
            forces=found.forces[back] if whole else None,
            stress=found.stress,
            notes=[*notes, *found.notes],
            versions={"vasp": found.version},
            **common,
        )

    def _changed(self, directory: Path, inputs: VaspInputs) -> dict[str, list[Any]]:
        """What corrections made of the inputs: tag -> [asked, used], KPOINTS among them."""
        from pymatgen.io.vasp.inputs import Kpoints

        changed = tags.changes(inputs.incar, read_incar(directory / "INCAR"))
        path = directory / "KPOINTS"
        asked = None if inputs.kpoints is None else str(inputs.kpoints).splitlines()[1:]
        now = str(Kpoints.from_file(str(path))).splitlines()[1:] if path.exists() else None
        if asked != now:
            changed["KPOINTS"] = [" ".join(asked or []) or None, " ".join(now or []) or None]
        return changed


def _details(found: VaspRun) -> dict[str, Any]:
    """What a run says beside the label itself, as plain types without NaN."""
    energies = {k: v for k, v in found.energies.items() if np.isfinite(v)}
    return {
        "energies": energies,
        "electronic_steps": len(found.scf),
        "moment": found.moment,
        "grid": found.grid,
        "titels": found.titels,
    }


def _text(value: Any) -> Any:
    """A tag's value for the record."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


__all__ = ["VaspEngine"]
