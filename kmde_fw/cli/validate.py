"""kmde validate: everything that can be wrong with a campaign, found before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.cli.options import CampaignFile, Json

if TYPE_CHECKING:
    from kmde_fw.workflows.prepare import Prepared


def validate(
    campaign: CampaignFile,
    as_json: Json = False,
    resolved: Annotated[bool, typer.Option("--resolved", help="also print every option with its value")] = False,
) -> None:
    """Read a campaign file and every structure that it names; say what is wrong, or what is there."""
    from kmde_fw.reference import describe_level
    from kmde_fw.workflows.prepare import prepare

    prepared = prepare(campaign)
    if as_json:
        typer.echo(json.dumps(_facts(prepared, campaign) | {"config": prepared.config}, indent=2, ensure_ascii=False))
        return
    facts = _facts(prepared, campaign)
    typer.echo(f"{campaign}: campaign {facts['name']} is valid")
    typer.echo(f"  elements    {' '.join(facts['elements'])}")
    typer.echo(f"  train       {facts['n_train']} labelled structures, {facts['n_train_atoms']} atoms")
    labels = (
        "with labels: errors will be shown" if facts["target_labelled"] else "without labels: no errors can be shown"
    )
    typer.echo(f"  target      {facts['n_target']} structures, {facts['n_target_atoms']} atoms, {labels}")
    names = (f"{p['name']} ({p['n_atoms']} {'atom' if p['n_atoms'] == 1 else 'atoms'})" for p in facts["parents"])
    typer.echo(f"  parents     {facts['n_parents']}" + "".join(f"\n              {name}" for name in names))
    typer.echo(f"  reference   {describe_level(facts['level'])}")
    for remark in prepared.remarks:
        typer.echo(f"  note: {remark}")
    if resolved:
        import yaml

        typer.echo(yaml.safe_dump(prepared.config, sort_keys=False, allow_unicode=True))


def _facts(prepared: Prepared, path: Path) -> dict[str, Any]:
    return {
        "file": str(path),
        "name": prepared.settings.name,
        "elements": list(prepared.elements),
        "n_train": len(prepared.train),
        "n_train_atoms": sum(len(d.structure) for d in prepared.train),
        "n_target": len(prepared.target),
        "n_target_atoms": sum(len(s) for s in prepared.target),
        "target_labelled": prepared.target_labels is not None,
        "n_parents": len(prepared.parents),
        "parents": [{"name": s.name or s.formula, "formula": s.formula, "n_atoms": len(s)} for s in prepared.parents],
        "level": prepared.level,
        "config_hash": prepared.config_hash,
        "remarks": prepared.remarks,
    }
