"""All partial distributions of 20 × 204 atoms: `core.distributions` against freud's total g(r) alone.

Ours: neighbour list, the distances of 6 pair channels and the angles of 18 triplet channels, counted and put into bins.
freud: neighbour search and one histogram of distances, the elements left aside; its faster neighbour search counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.io import read
from common import arguments, finish, median_seconds, versions
from rich.table import Table

from kmde_fw.core.distributions import tally_geometry
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure

TARGET = Path(__file__).parents[1] / "fw_specs" / "al_fe_pt" / "target.extxyz"
ELEMENTS = ("Al", "Fe", "Pt")
CUTOFF = 4.0
DISTANCE_EDGES = np.linspace(0, CUTOFF, 401)
ANGLE_EDGES = np.linspace(0, 180, 361)
REPEATS = 15


def main() -> None:
    """Measure, compare, print."""
    options = arguments(__doc__)
    import freud

    freud.parallel.set_num_threads(1)
    frames = read(TARGET, ":")
    structures = [Structure.from_atoms(atoms) for atoms in frames]
    boxes = []
    for atoms in frames:
        cell = atoms.cell.standard_form()[0].array  # freud wants an upper triangular matrix of columns
        boxes.append((freud.box.Box.from_matrix(cell.T), atoms.get_scaled_positions() @ cell))

    def ours() -> int:
        tallies = tally_geometry(structures, ELEMENTS, CUTOFF)
        counts = {
            key: t.histogram(DISTANCE_EDGES if key.count("-") == 1 else ANGLE_EDGES) for key, t in tallies.items()
        }
        return int(sum(counts[key].sum() for key in counts if key.count("-") == 1))

    def peer(search: type) -> int:
        rdf = freud.density.RDF(bins=len(DISTANCE_EDGES) - 1, r_max=CUTOFF)
        for box, positions in boxes:
            rdf.compute(search(box, positions), reset=False)
        return int(rdf.bin_counts.sum())

    def linked_cells(box: object, positions: np.ndarray) -> object:
        return freud.locality.LinkCell(box, positions, cell_width=CUTOFF)

    n_pairs, n_peer = ours(), peer(freud.locality.AABBQuery)
    # freud works in single precision and sees each pair from both ends
    assert abs(2 * n_pairs - n_peer) <= 20, f"{n_pairs} pairs here, {n_peer / 2} in freud"
    ours_seconds = median_seconds(ours, REPEATS)
    searches = {"AABBQuery": freud.locality.AABBQuery, "LinkCell": linked_cells}
    seconds = {name: median_seconds(lambda s=search: peer(s), REPEATS) for name, search in searches.items()}
    lists = median_seconds(lambda: [find_neighbours(s, CUTOFF) for s in structures], REPEATS)
    best = min(seconds, key=lambda name: seconds[name])
    n_angles = sum(len(t) for key, t in tally_geometry(structures, ELEMENTS, CUTOFF).items() if key.count("-") == 2)
    ratio = seconds[best] / ours_seconds
    result = {
        "row": "neighbour list + 6 RDFs + 18 ADFs of 20 × 204 atoms",
        "ours_seconds": ours_seconds,
        "peers": {f"freud, total RDF alone ({name})": value for name, value in seconds.items()},
        "ratios": {f"freud, total RDF alone ({name})": value / ours_seconds for name, value in seconds.items()},
        "goal": "no slower than freud's total RDF alone",
        "reached": ratio >= 1,
        "neighbour_lists_seconds": lists,
        "pairs": n_pairs,
        "angles": n_angles,
        "versions": versions("freud-analysis", "numba", "numpy"),
    }
    table = Table("", "milliseconds", "ratio", title=result["row"])
    table.add_row("all of it", f"{1e3 * ours_seconds:.1f}", "")
    table.add_row("  of which neighbour lists", f"{1e3 * lists:.1f}", "")
    for name, value in seconds.items():
        table.add_row(f"freud, {name}, total RDF alone", f"{1e3 * value:.1f}", f"{value / ours_seconds:.2f}")
    finish(result, options.json, table)


if __name__ == "__main__":
    main()
