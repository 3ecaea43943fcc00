"""kmde from-md: from the frames of a run in which atoms left the model's domain to the next campaign."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.models import Found, find_model
from kmde_fw.cli.options import Json, LaunchpadFile
from kmde_fw.errors import ConfigError, InputError, StoreError
from kmde_fw.units import MIN_BOND

if TYPE_CHECKING:
    from kmde_fw.md.back import Departures
    from kmde_fw.md.campaign import Origin
    from kmde_fw.md.n2p2_log import WarningLog
    from kmde_fw.md.trajectory import Frame

#: what the command said, as --json has it
REPORT = "from_md.json"


def from_md(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES", help="trajectory (extended XYZ, ASE's, LAMMPS dump), LAMMPS log with n2p2's warnings, both"
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="of the run: a file or folder; a campaign; CAMPAIGN/CYCLE; or an id")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="write target and campaign file into it")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="frames of the target, at most")] = 6,
    labels: Annotated[int, typer.Option(min=0, help="budget of the campaign, stop.max_surrogates")] = 5,
    name: Annotated[str | None, typer.Option(help="of the campaign; default: that of the model's, and _md")] = None,
    campaign: Annotated[
        Path | None, typer.Option(metavar="CAMPAIGN.yaml", help="to derive from, instead of the model's own campaign")
    ] = None,
    elements: Annotated[
        str | None, typer.Option(metavar="Al,Fe,Pt", help="the element of each LAMMPS type, for dumps without names")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="how far outside is inside, in train ranges")] = 1e-6,
    min_bond: Annotated[
        float,
        typer.Option(min=0, help="over the sum of covalent radii: a run has broken down where one is shorter"),
    ] = MIN_BOND,
    submit: Annotated[bool, typer.Option("--submit", help="put the campaign on the LaunchPad")] = False,
    launchpad: LaunchpadFile = None,
    as_json: Json = False,
) -> None:
    """Find the frames in which atoms left the model's domain, thin them, make a campaign.

    Without --output it only tells. A log alone tells which symmetry functions were left, when and by which atoms.
    """
    from kmde_fw.cli.tables import to_json
    from kmde_fw.md.back import describe, find_departures
    from kmde_fw.md.n2p2_log import read_warnings
    from kmde_fw.md.trajectory import kind_of

    types = _types(elements)
    logs = [path for path in files if kind_of(path) == "log"]
    trajectories = [path for path in files if path not in logs]
    if len(logs) > 1:
        raise InputError(f"{len(logs)} logs were given ({', '.join(map(str, logs))}); give the one of the run")
    if submit and (output is None or not trajectories):
        raise InputError("--submit needs a trajectory, and --output DIR for the files of the campaign")
    if output is not None and output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise InputError(f"{output} exists and is not empty; give another --output")
    found = find_model(model, launchpad)
    warned = read_warnings(logs[0], found.model) if logs else None
    facts: dict[str, Any] = {"model": found.name, "files": [str(path) for path in files], "notes": []}
    departures = None
    cut_off: list[str] = []
    if trajectories:
        departures = find_departures(
            _frames(trajectories, found, types, cut_off), found.model, found.certificate, frames, tolerance, min_bond
        )
        facts |= {
            "frames": departures.frames,
            "frames_outside": departures.outside,
            "frames_left_out": departures.left_out,
            "chosen": [describe(d, found.model, found.certificate) for d in departures.chosen],
            "domain": departures.domain,
        }
    if warned is not None:
        facts["log"] = warned.to_document(found.model.symmetry_functions.keys)
    facts["notes"] = cut_off + _notes(found, departures, warned)
    facts |= {"output": None, "campaign": None, "submitted": False}
    if output is not None and departures is not None and departures.chosen:
        origin = _origin(found, campaign, launchpad, facts["notes"])
        if submit and origin is None:
            raise InputError(f"there is no campaign to submit, and nothing was written: {facts['notes'][-1]}")
        _write(facts, departures, origin, name, trajectories[0], labels, output)
        if submit:
            facts["submitted"] = _submit(output, launchpad)
    typer.echo(to_json(facts) if as_json else "\n".join(_lines(facts, found)))


def _types(elements: str | None) -> list[str] | None:
    from ase.data import atomic_numbers

    if elements is None:
        return None
    names = [word.strip() for word in elements.split(",")]
    wrong = [word for word in names if word == "X" or word not in atomic_numbers]
    if wrong:
        raise ConfigError(f"--elements: {wrong[0]!r} is no chemical element; name one for each type, such as Al,Fe,Pt")
    return names


def _frames(trajectories: list[Path], found: Found, types: list[str] | None, cut_off: list[str]) -> Iterator[Frame]:
    """All frames; files that end within one are named in `cut_off`."""
    from kmde_fw.md.trajectory import read_frames

    return chain.from_iterable(read_frames(path, found.model.elements, types, cut_off.append) for path in trajectories)


def _notes(found: Found, departures: Departures | None, warned: WarningLog | None) -> list[str]:
    notes = []
    if found.certificate is None:
        notes.append("motifs are not named: the model file has no coverage certificate beside it (`kmde export`)")
    if departures is None:
        notes.append(
            "a log has no structures, so there is no target for a campaign: run again with `dump 1 all custom 100 "
            "dump.lammpstrj id type element x y z`, and give that file as well"
        )
        return notes
    if departures.left_out:
        notes.append(
            f"the run broke down, and {departures.left_out} frames from there on are left out; {departures.broke_down}"
        )
    if warned is not None and warned.functions and departures.chosen:
        first = min((w.by for w in warned.functions if w.by is not None), default=None)
        step = departures.chosen[0].frame.step
        if first is not None and step is not None and step > first:
            notes.append(
                f"the log warns from step {first} on and the first frame outside is of step {step}: dump more often to "
                "see how it began"
            )
    if warned is not None and warned.functions and not departures.chosen:
        notes.append("the log warns of atoms outside and no frame has any: dump more often")
    return notes


def _origin(found: Found, campaign: Path | None, launchpad: Path | None, notes: list[str]) -> Origin | None:
    """The campaign to derive from: the one given, else the model's own."""
    import hashlib

    from kmde_fw.md.campaign import origin_of_file, origin_of_model

    if campaign is not None:
        notes.append(f"the train set is that of {campaign}, without the surrogates of any campaign")
        return origin_of_file(campaign)
    key = found.key or (found.certificate.model.get("id") if found.certificate else None)
    if key is None:
        notes.append("only a target: nothing says which campaign the model is of; give --campaign FILE")
        return None
    try:
        return origin_of_model(key, hashlib.sha256(found.data).hexdigest(), launchpad)
    except StoreError as error:
        if found.key is not None:
            raise
        notes.append(f"only a target: {error}; give --campaign FILE, or --launchpad of its database")
        return None


def _write(
    facts: dict[str, Any],
    departures: Departures,
    origin: Origin | None,
    name: str | None,
    trajectory: Path,
    labels: int,
    output: Path,
) -> None:
    import yaml

    from kmde_fw.cli.tables import to_json
    from kmde_fw.config import parse_campaign
    from kmde_fw.files import write_folder
    from kmde_fw.md.campaign import CAMPAIGN, TARGET, campaign_files, target_text

    files = {TARGET: target_text(departures.chosen, trajectory.name)}
    facts["output"] = str(output)
    if origin is not None:
        facts["campaign"] = name or f"{origin.name}_md"[:64]
        files = campaign_files(origin, departures.chosen, facts["campaign"], trajectory.name, labels, output)
        # a wrong --name, say, before anything is written
        parse_campaign(yaml.safe_load(files[CAMPAIGN]), "the new campaign")
    files[REPORT] = to_json(facts)
    try:
        write_folder(output, files)
    except OSError as error:
        raise InputError(f"cannot write into {output}: {error.strerror}; give another --output") from None


def _submit(output: Path, launchpad: Path | None) -> bool:
    from kmde_fw.md.campaign import CAMPAIGN
    from kmde_fw.workflows.launchpad import launchpad_of
    from kmde_fw.workflows.prepare import prepare
    from kmde_fw.workflows.start import submit

    with launchpad_of(launchpad) as pad:
        return submit(pad, prepare(output / CAMPAIGN))


def _lines(facts: dict[str, Any], found: Found) -> Iterator[str]:
    from kmde_fw.core.certificate import foremost
    from kmde_fw.report.words import cure, domain_lines, exceeded_words, motif_words

    if "frames" in facts:
        yield f"{facts['frames']} frames, {facts['frames_outside']} of them with atoms outside of {facts['model']}"
        yield from domain_lines(facts["domain"], found.certificate is not None)
        if facts["chosen"]:
            yield f"{len(facts['chosen'])} frames that differ:"
        for row in facts["chosen"]:
            place = f"frame {row['frame']}" if row["step"] is None else f"step {row['step']}"
            yield f"  {place}: {row['n_outside']} of {row['n_atoms']} atoms outside"
            for atom in row["atoms"][:2]:
                what = exceeded_words(atom["exceeds"][0], atom["element"]) if atom["exceeds"] else atom["reason"]
                yield f"    {atom['element']} atom {atom['atom']}: {what}"
            if row["motifs"]:
                named = "; ".join(f"{motif_words(m)} ({m['times']})" for m in foremost(row["motifs"], 2))
                yield f"    around them, not in the train set: {named}"
    if "log" in facts:
        log = facts["log"]
        atoms = {atom for row in log["functions"] for atom in row["atoms"]}
        yield f"{log['warnings']} extrapolation warnings in the log, of {len(atoms)} atoms"
        for row in log["functions"][:10]:
            when = "" if row["first_by"] is None else f", first in step {row['first_by']} or before"
            yield (
                f"  {row['times']} times{when}, by {len(row['atoms'])} {row['element']} atoms "
                f"({', '.join(map(str, row['atoms'][:5]))}{', ...' if len(row['atoms']) > 5 else ''}): "
                f"{exceeded_words(row, row['element'])}"
            )
            yield f"    what would help: {cure({'element': row['element'], 'exceeds': [row]})}"
        counted = [row for row in log["summaries"] if row["warnings"]]
        if counted:
            yield (
                f"  summaries count {sum(row['warnings'] for row in counted)} warnings, the first until step "
                f"{counted[0]['step']}"
            )
    for note in facts["notes"]:
        yield f"note: {note}"
    if facts["output"]:
        what = (
            f"campaign {facts['campaign']}: kmde run {facts['output']}/campaign.yaml" if facts["campaign"] else "target"
        )
        yield f"wrote {facts['output']}: {what}"
    if facts["submitted"]:
        yield f"campaign {facts['campaign']} is queued; work it off with `kmde work` or `rlaunch rapidfire`"
    elif "frames" in facts and not facts["chosen"]:
        left = facts["frames"] > facts["frames_left_out"]
        yield "no frame has an atom outside: nothing to do" if left else "no frame is left: nothing to do"
