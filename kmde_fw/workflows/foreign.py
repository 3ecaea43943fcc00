"""A potential made elsewhere, with n2p2 or RuNNer, as a starting point: what it lacks, and a campaign from there."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from kmde_fw.config import Analysis, Descriptor, Design, Network, campaign_path, parse_campaign, read_yaml
from kmde_fw.core.analysis import analyse
from kmde_fw.core.outliers import FeatureRange, OutlierAtom, find_outliers
from kmde_fw.errors import InputError
from kmde_fw.files import extxyz_frame, quoted
from kmde_fw.hdnnp.metrics import energy_errors, force_rmse
from kmde_fw.hdnnp.model_file import to_bytes
from kmde_fw.hdnnp.n2p2.keywords import Keywords
from kmde_fw.hdnnp.n2p2.read import elements_of, read_potential, units_of
from kmde_fw.hdnnp.n2p2.structures import read_input_data
from kmde_fw.hdnnp.n2p2.units import Units
from kmde_fw.hdnnp.n2p2.write import SETTINGS
from kmde_fw.hdnnp.symmetry_functions import SymmetryFunctions
from kmde_fw.inputs import find_elements, read_labelled
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Labelled, Structure
from kmde_fw.units import radius_sums

if TYPE_CHECKING:
    from kmde_fw.hdnnp.model import Hdnnp

DATA = "input.data"
#: what an import writes
MODEL, TRAIN, CAMPAIGN = "model.safetensors", "train.extxyz", "campaign.yaml"
#: shortest bonds of a train set, over the sums of covalent radii, outside which its units are doubtful
USUAL_BONDS = (0.6, 1.5)
#: values of the train set may leave the limits in scaling.data by this part of their range
SAME_RANGE = 1e-3


@dataclass(frozen=True, eq=False)
class Foreign:
    """What the folder of a potential holds.

    model: None where its train set alone was asked for; n_functions: symmetry functions of each element in its files;
    train: empty if there is no input.data; notes: sentences that a user should read, none of them an error.
    """

    folder: Path
    elements: tuple[str, ...]
    units: Units
    model: Hdnnp | None
    n_functions: dict[str, int]
    train: list[Labelled]
    notes: list[str]

    @property
    def descriptor(self) -> Descriptor:
        """Of the model, else the default."""
        return Descriptor() if self.model is None else self.model.descriptor


def read_foreign(folder: Path, given: Units | None, data_only: bool) -> Foreign:
    """Read a potential and its train set. Raises InputError, one sentence, for what cannot be used.

    given: the units of the files; None: as input.nn says. data_only: the train set alone, whatever the potential is.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the one with {SETTINGS}, scaling.data and the weights")
    notes = []
    keywords = Keywords(folder / SETTINGS)
    elements, units = tuple(sorted(elements_of(keywords))), units_of(keywords, given)
    model, n_functions = None, {}
    if not data_only:
        potential = read_potential(folder, given)
        model, n_functions = potential.model, potential.n_functions
        n_columns = len(model.symmetry_functions)
        if min(n_functions.values()) < n_columns:
            listed = ", ".join(f"{n} of {element}" for element, n in n_functions.items())
            notes.append(
                f"its symmetry functions ({listed}) are a part of the {n_columns} that our grid of the same parameters "
                "has: the model does not see the others, outliers and a campaign do"
            )
    train: list[Labelled] = []
    if (folder / DATA).exists():
        train = _train_set(folder / DATA, units, elements)
        notes += _doubts(train, elements, units)
    elif data_only:
        raise InputError(f"{folder}: has no {DATA}, and --data-only is about nothing else")
    else:
        notes.append(f"there is no {DATA}: outliers are by the limits in scaling.data, gaps and a campaign need it")
    return Foreign(folder, elements, units, model, n_functions, train, notes)


def _train_set(path: Path, units: Units, elements: Sequence[str]) -> list[Labelled]:
    """The structures of an input.data, checked as those of a campaign are."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / TRAIN
        with file.open("w", encoding="utf-8") as frames:
            for labelled in read_input_data(path, units, elements):
                frames.write(extxyz_frame(labelled, {"label": quoted(labelled.structure.name)}))
        try:
            return read_labelled(file, elements)
        except InputError as error:
            raise InputError(str(error).replace(str(file), str(path))) from None


def _doubts(train: Sequence[Labelled], elements: tuple[str, ...], units: Units) -> list[str]:
    """A sentence if bonds are too short or too long to be real, as they are in wrong units."""
    radii = radius_sums(elements)
    shortest = []
    for labelled in train:
        structure = labelled.structure
        kind = structure.species_index(elements)
        pairs = find_neighbours(structure, USUAL_BONDS[1] * float(radii.max()))
        if len(pairs.distances):
            shortest.append(float((pairs.distances / radii[kind[pairs.centre], kind[pairs.neighbour]]).min()))
    bond = float(np.median(shortest)) if shortest else np.inf
    if USUAL_BONDS[0] < bond < USUAL_BONDS[1]:
        return []
    size = f"{bond:.2f} times" if shortest else f"more than {USUAL_BONDS[1]} times"
    return [f"its shortest bonds are {size} the sum of the covalent radii: is {units.length} the right unit of length?"]


def facts(foreign: Foreign, target: Sequence[Structure]) -> dict[str, Any]:
    """What there is to know of an imported potential, as plain types; with a target: its outliers and gaps."""
    train = [labelled.structure for labelled in foreign.train]
    found: dict[str, Any] = {
        "folder": str(foreign.folder),
        "elements": list(foreign.elements),
        "units": {"length": foreign.units.length, "energy": foreign.units.energy},
        "potential": None,
        "train": None,
        "target": None,
        "notes": list(foreign.notes),
    }
    if foreign.model is not None:
        found["potential"] = {
            "cutoff": foreign.model.descriptor.cutoff,
            "symmetry_functions": foreign.n_functions,
            "descriptor": foreign.model.descriptor.model_dump(mode="json"),
            "hidden": list(foreign.model.hidden),
        }
    if train:
        found["train"] = {
            "structures": len(train),
            "atoms": sum(map(len, train)),
            "errors": None,
            "outside_scaling": None,
        }
        if foreign.model is not None:
            found["train"] |= _on_train(foreign.model, foreign.train)
            outside = found["train"]["outside_scaling"]
            if outside:
                found["notes"].append(
                    f"{outside} atoms of {DATA} are outside the limits in scaling.data: the potential was trained on "
                    "other structures, or the units are wrong"
                )
    if target:
        found["target"] = {"structures": len(target), "atoms": sum(map(len, target)), **_lacks(foreign, train, target)}
    return found


def _on_train(model: Hdnnp, train: Sequence[Labelled]) -> dict[str, Any]:
    """Errors of the model on its own train set, and how many of its atoms are outside of its own limits."""
    predictions = [model.predict(labelled.structure) for labelled in train]
    energies = energy_errors(
        np.array([p.energy for p in predictions]),
        np.array([x.energy for x in train]),
        np.array([len(x.structure) for x in train]),
    )
    outside = sum(int(model.extrapolating(p.features, p.species, SAME_RANGE).sum()) for p in predictions)
    return {
        "errors": {
            "energy_rmse": energies.rmse,
            "energy_bias": energies.bias,
            "force_rmse": force_rmse([p.forces for p in predictions], [x.forces for x in train]),
        },
        "outside_scaling": outside,
    }


def _lacks(foreign: Foreign, train: list[Structure], target: Sequence[Structure]) -> dict[str, Any]:
    """Outlier atoms of the target and, with a train set, gaps and key motifs."""
    settings, descriptor = Analysis(), foreign.descriptor
    elements = find_elements([*train, *target])
    outside = sorted(set(elements) - set(foreign.elements))
    if outside:
        raise InputError(
            f"the target contains {', '.join(outside)}, and the potential is for {', '.join(foreign.elements)}; leave "
            "these structures out, or begin a campaign without the potential"
        )
    functions = SymmetryFunctions(foreign.elements, descriptor)
    features = [functions.compute(structure).features for structure in target]
    if not train:
        assert foreign.model is not None
        ranges = {
            element: FeatureRange(low, high)
            for element, low, high in zip(foreign.elements, foreign.model.minimum, foreign.model.maximum, strict=True)
            if np.isfinite(low).all()
        }
        outliers = find_outliers(ranges, [s.species for s in target], features, settings.outlier_tolerance)
        return _outlier_facts(outliers, target, functions.keys)
    analysis = analyse(
        train,
        target,
        [functions.compute(structure).features for structure in train],
        features,
        foreign.elements,
        descriptor.cutoff,
        settings,
        Design().strategy,
    )
    return {
        **_outlier_facts(analysis.outliers, target, functions.keys),
        "gap": {
            "total": analysis.coverage.total,
            "channels": {c.key: {"missing": c.missing, "bin_width": c.width} for c in analysis.coverage.channels},
        },
        "composition_gap": analysis.coverage.composition.describe(foreign.elements),
        "motifs": [{k: v for k, v in m.to_document().items() if k != "atoms"} for m in analysis.motifs],
    }


def _outlier_facts(
    outliers: Sequence[OutlierAtom], target: Sequence[Structure], names: Sequence[str]
) -> dict[str, Any]:
    by_element = Counter(outlier.element for outlier in outliers)
    return {
        "outliers": {"atoms": len(outliers), "by_element": dict(sorted(by_element.items()))},
        "outlier_atoms": [
            {
                "structure": outlier.structure,
                "name": target[outlier.structure].name,
                "atom": outlier.atom,
                "element": outlier.element,
                "reason": outlier.reason,
                "exceeds": [
                    {"function": names[c.feature], "value": c.value, "low": c.low, "high": c.high, "excess": c.excess}
                    for c in outlier.components
                ],
            }
            for outlier in outliers
        ],
    }


def written(foreign: Foreign, targets: Sequence[Path], folder: Path, like: Path | None) -> dict[str, str | bytes]:
    """The files of a campaign from here: name -> content.

    The model; the train set in eV and Å; and a campaign file with the potential's symmetry functions and networks, for
    these targets. like: a campaign file that gives everything else, its reference first of all; None: to be added.
    """
    files: dict[str, str | bytes] = {}
    if foreign.model is not None:
        files[MODEL] = to_bytes(foreign.model)
    if foreign.train:
        files[TRAIN] = "".join(
            extxyz_frame(labelled, {"label": quoted(labelled.structure.name)}) for labelled in foreign.train
        )
        if targets:
            files[CAMPAIGN] = _campaign(foreign, targets, folder, like)
    return files


def _campaign(foreign: Foreign, targets: Sequence[Path], folder: Path, like: Path | None) -> str:
    """The text of a campaign file in `folder`."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", foreign.folder.resolve().name).strip("_.-")[:64] or "imported"
    data: dict[str, Any] = {
        "name": name,
        "description": f"from the n2p2 potential in {foreign.folder.resolve().name}",
        "elements": list(foreign.elements),
        "train": [TRAIN],
        "target": [_seen_from(folder, path) for path in targets],
        "descriptor": foreign.descriptor.model_dump(mode="json"),
    }
    if foreign.model is not None:
        data["network"] = Network(hidden=foreign.model.hidden).model_dump(mode="json")
    head = f"# A campaign from the potential in {foreign.folder}, whose train set is {TRAIN} (eV, Å).\n"
    if like is None:
        head += (
            f"# Add the `reference` with which {TRAIN} was labelled: another level of theory must not be mixed in.\n"
            "# `kmde init` shows how, or import again with --like CAMPAIGN.yaml.\n"
        )
    else:
        data |= _rest(like, folder, data)
        parse_campaign(data, str(like))
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def _rest(like: Path, folder: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Everything of a campaign file that the potential does not say, its paths as seen from `folder`."""
    path = campaign_path(like)
    there = read_yaml(path)
    if "reference" not in there:
        raise InputError(f"{like}: has no `reference`; --like takes a campaign file that has one")
    if set(there.get("elements") or known["elements"]) != set(known["elements"]):
        raise InputError(
            f"{like}: is for {', '.join(there['elements'])}, the potential for {', '.join(known['elements'])}"
        )
    data = {key: value for key, value in there.items() if key not in known}
    base = path.resolve().parent
    if data.get("parents"):
        data["parents"] = [_seen_from(folder, base / name) for name in data["parents"]]
    if data.get("evaluate"):
        data["evaluate"] = {
            name: [_seen_from(folder, base / path) for path in paths] for name, paths in data["evaluate"].items()
        }
    return data


def _seen_from(folder: Path, path: Path) -> str:
    """A path relative to a folder that may not be there yet."""
    return os.path.relpath(path.resolve(), folder.resolve())
