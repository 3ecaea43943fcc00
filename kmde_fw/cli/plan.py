"""kmde plan: what a campaign would do, with no database and no labels."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from kmde_fw.cli.options import CampaignFile, Json
from kmde_fw.units import figures

if TYPE_CHECKING:
    import numpy as np

    from kmde_fw.core.analysis import CycleAnalysis
    from kmde_fw.core.candidates import CandidatePool
    from kmde_fw.records import Structure
    from kmde_fw.workflows.prepare import Prepared

#: closures that are timed to estimate a training
TIMED_CLOSURES = 5


def plan(campaign: CampaignFile, as_json: Json = False) -> None:
    """Analyse, generate and score as the first cycle would; say what the campaign needs. Writes nothing."""
    from kmde_fw.workflows.prepare import prepare

    prepared = prepare(campaign)
    facts = plan_facts(prepared)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _show(facts)


def plan_facts(prepared: Prepared) -> dict[str, Any]:
    """Everything that `kmde plan` says, as plain types."""
    from kmde_fw.core.analysis import analyse
    from kmde_fw.core.candidates import CandidatePool
    from kmde_fw.core.cost import costs
    from kmde_fw.core.scoring import score_candidates
    from kmde_fw.hdnnp.symmetry_functions import SymmetryFunctions

    settings, elements = prepared.settings, prepared.elements
    cutoff = settings.descriptor.cutoff
    train = [labelled.structure for labelled in prepared.train]
    functions = SymmetryFunctions(elements, settings.descriptor)
    analysis = analyse(
        train,
        prepared.target,
        [functions.compute(s).features for s in train],
        [functions.compute(s).features for s in prepared.target],
        elements,
        cutoff,
        settings.analysis,
        settings.design.strategy,
    )
    pool = CandidatePool(elements, settings.design, {s.id: s for s in prepared.parents}, seed=settings.seed, cycle=1)
    columns = score_candidates(pool, range(len(pool)), analysis.motifs, cutoff)
    prices = costs(columns.composition, elements, [structure.species for structure in train])
    first = _first_picks(prepared, analysis, pool, columns, functions, prices)
    limit = settings.stop.max_cost
    return {
        "name": settings.name,
        "train": {"structures": len(train), "atoms": sum(len(s) for s in train)},
        "target": {"structures": len(prepared.target), "atoms": sum(len(s) for s in prepared.target)},
        "outliers": {
            "atoms": len(analysis.outliers),
            "by_element": dict(sorted(Counter(o.element for o in analysis.outliers).items())),
        },
        "gap": {
            "total": analysis.coverage.total,
            "channels": {c.key: {"missing": c.missing, "bin_width": c.width} for c in analysis.coverage.channels},
        },
        "composition_gap": analysis.coverage.composition.describe(elements),
        "motifs": [{k: v for k, v in m.to_document().items() if k != "atoms"} for m in analysis.motifs],
        "candidates": {
            "number": len(pool),
            "families": len(pool.families),
            "parents": [s.name or s.formula for s in prepared.parents],
            "inside_domain": int((columns.bond >= settings.reference.domain.min_bond).sum()),
            "skipped": list(pool.skipped),
        },
        "first_picks": [{k: v for k, v in pick.items() if k != "structure"} for pick in first],
        "labels_at_most": settings.stop.max_surrogates,
        "fireworks_at_most": _fireworks(prepared),
        "cost": {
            "max_cost": limit,
            "affordable_candidates": len(pool) if limit is None else int((prices <= limit).sum()),
            **_cost(prepared, pool, columns.n_atoms),
            "dft": _dft_cost(prepared, pool, columns.n_atoms, [pick["structure"] for pick in first]),
        },
        "remarks": prepared.remarks,
    }


def _first_picks(
    prepared: Prepared,
    analysis: CycleAnalysis,
    pool: CandidatePool,
    columns: Any,
    functions: Any,
    prices: np.ndarray,
    n: int = 5,
) -> list[dict[str, Any]]:
    """The best candidates before there is any model, without the energy term of the score; prices: cost of each."""
    from kmde_fw.core.environments import Known
    from kmde_fw.core.preferences import preference_of
    from kmde_fw.core.selection import select

    settings = prepared.settings
    known = Known(
        initial=[d.structure for d in prepared.train],
        surrogates=[],
        target=prepared.target,
        outliers=analysis.outliers,
        elements=prepared.elements,
        features=lambda structures: [functions.compute(s).features for s in structures],
    )
    selection = select(
        columns,
        analysis.motifs,
        settings.design,
        n,
        energy_per_atom=lambda index: 0.0,
        structure_of=pool.structure,
        existing=[d.structure for d in prepared.train],
        min_bond=settings.reference.domain.min_bond,
        seed=[settings.seed, 1],
        closures=analysis.coverage.composition.closures(columns.composition),
        preference=preference_of(settings, columns, pool, known, cycle=1),
        cost=prices,
        max_cost=settings.stop.max_cost,
    )
    return [
        {
            "score": r.score,
            "reason": r.reason,
            "formula": pool.structure(r.index).formula,
            "description": pool.recipe(r.index).describe(),
            "structure": pool.structure(r.index),
        }
        for r in selection.picks
    ]


def _fireworks(prepared: Prepared) -> int:
    """Fireworks if the whole budget is spent and no label has to be replaced."""
    from kmde_fw.workflows.cycle import cycle_fireworks

    document = {"_id": prepared.settings.name, "config": prepared.config}
    total = len(cycle_fireworks(document, 0)) + 1
    n, cycle = 0, 1
    while picks := prepared.settings.picks_after(n):
        total += len(cycle_fireworks(document, cycle, n))
        n, cycle = n + picks, cycle + 1
    return total


def _cost(prepared: Prepared, pool: CandidatePool, n_atoms: np.ndarray) -> dict[str, Any]:
    """Labels in units of one train cell (electrons cubed), and trainings in seconds of this machine."""
    import numpy as np

    from kmde_fw.core.cost import relative_cost
    from kmde_fw.hdnnp.training import train

    settings = prepared.settings
    train_cells = [d.structure.species for d in prepared.train]
    order = np.argsort(n_atoms, kind="stable")
    typical, largest = (
        relative_cost([pool.structure(int(order[k])).species], train_cells) for k in (len(order) // 2, len(order) - 1)
    )
    n = settings.stop.max_surrogates
    few = settings.training.model_copy(update={"max_closures": TIMED_CLOSURES})
    # times between two closures: the first one also compiles
    times: list[float] = []
    train(
        prepared.train,
        prepared.elements,
        settings.descriptor,
        settings.network,
        few,
        settings.training.seeds[0],
        progress=lambda done, total, loss: times.append(time.perf_counter()),
    )
    closure = float(np.median(np.diff(times)))
    trainings = len(settings.training.seeds) * (1 + -(-n // settings.design.picks_per_cycle))
    return {
        "labels_in_train_cells": {"median_candidates": n * typical, "largest_candidates": n * largest},
        "seconds_per_closure": closure,
        "trainings": trainings,
        "training_seconds_at_most": trainings * settings.training.max_closures * closure,
    }


def _dft_cost(
    prepared: Prepared, pool: CandidatePool, n_atoms: np.ndarray, picks: list[Structure]
) -> list[dict[str, Any]]:
    """Sizes of single points, where the reference is VASP: of train cells, the first picks, and candidates."""
    import numpy as np

    from kmde_fw.config import VaspReference
    from kmde_fw.reference.vasp import VaspEngine

    if not isinstance(prepared.settings.reference, VaspReference):
        return []
    engine = VaspEngine(prepared.settings.reference, prepared.elements, {})
    order = np.argsort(n_atoms, kind="stable")
    cells = [("largest train cell", max((d.structure for d in prepared.train), key=len))]
    cells += [(f"pick {k}", structure) for k, structure in enumerate(picks, start=1)]
    cells += [
        ("median candidate", pool.structure(int(order[len(order) // 2]))),
        ("largest candidate", pool.structure(int(order[-1]))),
    ]
    return [
        {"cell": name, "formula": structure.formula, "atoms": len(structure), **engine.cost(structure)}
        for name, structure in cells
    ]


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from kmde_fw.cli.tables import gap_table, motif_table
    from kmde_fw.report.cycles import duration

    console = Console(width=None if Console().is_terminal else 120)
    train, target, outliers = facts["train"], facts["target"], facts["outliers"]
    console.print(f"campaign {facts['name']}: a dry run; nothing is written and nothing labelled", highlight=False)
    console.print(f"  train       {train['structures']} structures, {train['atoms']} atoms", highlight=False)
    console.print(f"  target      {target['structures']} structures, {target['atoms']} atoms", highlight=False)
    by_element = ", ".join(f"{n} {element}" for element, n in outliers["by_element"].items())
    console.print(f"  outliers    {outliers['atoms']} target atoms" + (f" ({by_element})" if by_element else ""))
    console.print(f"  composition {facts['composition_gap']}", highlight=False)
    console.print(gap_table(facts["gap"]))
    console.print(motif_table(facts["motifs"]))

    def line(title: str, text: str) -> None:
        console.print(f"  {title:<11} {text}", highlight=False)

    candidates, cost, labels = facts["candidates"], facts["cost"], facts["cost"]["labels_in_train_cells"]
    line(
        "candidates",
        f"{candidates['number']} per cycle from {candidates['families']} decorated crystals, "
        f"{candidates['inside_domain']} inside the reference's domain",
    )
    for name in candidates["parents"]:
        line("", name if name.startswith("parent ") else f"parent {name}")
    for sentence in candidates["skipped"]:
        line("", sentence)
    for k, pick in enumerate(facts["first_picks"], start=1):
        line(f"pick {k}", f"{pick['formula']}: {pick['description']}: {pick['reason']}")
    line("labels", f"at most {facts['labels_at_most']}")
    line(
        "cost",
        f"of all labels, in train cells (electrons³): {figures(labels['median_candidates'], 2)} for candidates of "
        f"median size, {figures(labels['largest_candidates'], 2)} for the largest",
    )
    if cost["max_cost"] is not None:
        line(
            "",
            f"at most {cost['max_cost']:g} (max_cost), which pays for any of {cost['affordable_candidates']} of "
            f"{candidates['number']} candidates",
        )
    if cost["dft"]:
        table = Table(title="single points", title_justify="left", header_style="bold")
        for name in ("cell", "formula", "atoms", "electrons", "plane waves", "k-points", "work, train cells"):
            table.add_column(name, justify="left" if name in ("cell", "formula") else "right")
        unit = cost["dft"][0]["work"]
        for row in cost["dft"]:
            sizes = (f"{row['electrons']:.0f}", str(row["plane_waves"]), str(row["k_points"]))
            table.add_row(row["cell"], row["formula"], str(row["atoms"]), *sizes, figures(row["work"] / unit, 2))
        console.print(table)
    each = duration(cost["training_seconds_at_most"] / cost["trainings"])
    closure = 1000 * cost["seconds_per_closure"]
    line("training", f"{cost['trainings']} of at most {each} each ({closure:.0f} ms per closure here, one thread)")
    console.print(f"  fireworks   at most {facts['fireworks_at_most']}", highlight=False)
    for remark in facts["remarks"]:
        console.print(f"  note: {remark}", highlight=False)
