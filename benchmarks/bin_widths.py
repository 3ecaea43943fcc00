"""Bin widths by Shimazaki and Shinomoto's rule: `core.histograms.width_costs` against adaptivekde's `sshist`.

Both get the same 58 436 distances (the Al-Fe-Pt target, each pair from both ends, atoms displaced as by heat so that
the optimum lies inside the range), the same numbers of bins and the same 30 shifts. Costs and optimum must be the same
over sshist's usual 2 to 500 bins, for which it needs half a minute; the median of five is over 2 to 101. What is held
against the goal is the ratio over 2 to 500, in processor time, and the less favourable one for us: our work grows with
the number of edges, that of sshist with the number of histograms.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from ase.io import read
from common import arguments, finish, median_seconds, versions
from rich.table import Table

from kmde_fw.core.histograms import width_costs
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure

TARGET = Path(__file__).parents[1] / "fw_specs" / "al_fe_pt" / "target.extxyz"
CUTOFF = 4.0
HEAT = 0.05  # Å, standard deviation of the displacements
NUMBERS = np.arange(2, 501)
NUMBERS_REPEATED = np.arange(2, 102)
N_SHIFTS = 30
GOAL = 300


def main() -> None:
    """Measure, compare, print."""
    options = arguments(__doc__)
    from adaptivekde.sshist import sshist

    samples = distances()
    costs = width_costs(samples, NUMBERS, N_SHIFTS)
    ours_whole = median(cpu_seconds(lambda: width_costs(samples, NUMBERS, N_SHIFTS)) for _ in range(5))
    found = []
    peer_whole = cpu_seconds(lambda: found.append(sshist(samples, N=NUMBERS, SN=N_SHIFTS)))
    optimum, _, _, peer_costs, _ = found[0]
    best = int(NUMBERS[int(np.argmin(costs))])
    assert best == optimum, f"the optimum is {best} bins here and {optimum} in sshist"
    np.testing.assert_allclose(costs, peer_costs, rtol=1e-9)

    peer_seconds = median_seconds(lambda: sshist(samples, N=NUMBERS_REPEATED, SN=N_SHIFTS))
    ours_seconds = median_seconds(lambda: width_costs(samples, NUMBERS_REPEATED, N_SHIFTS))
    ratio = peer_whole / ours_whole
    result = {
        "row": f"bin widths, {len(samples)} distances, {N_SHIFTS} shifts, 2 to {NUMBERS[-1]} bins",
        "ours_seconds": ours_whole,
        "peers": {"adaptivekde sshist": peer_whole},
        "ratios": {"adaptivekde sshist": ratio},
        "goal": f"≥ {GOAL} times sshist, the same optimum",
        "reached": ratio >= GOAL,
        "optimum_bins": best,
        "edges_compared": int((NUMBERS + 1).sum()) * N_SHIFTS,
        "medians_of_5_up_to_101_bins": {"ours": ours_seconds, "sshist": peer_seconds},
        "ratio_up_to_101_bins": peer_seconds / ours_seconds,
        "versions": versions("adaptivekde", "numba", "numpy"),
    }
    table = Table("", "2 to 500 bins\nCPU seconds", "2 to 101 bins\nmedian of 5, s", "optimum", title=result["row"])
    table.add_row("width_costs", f"{ours_whole:.4f}", f"{ours_seconds:.4f}", f"{best} bins")
    table.add_row("sshist", f"{peer_whole:.2f}", f"{peer_seconds:.2f}", f"{optimum} bins")
    table.add_row("ratio", f"{ratio:.0f}", f"{peer_seconds / ours_seconds:.0f}", "")
    finish(result, options.json, table)


def cpu_seconds(function: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def distances() -> np.ndarray:
    """The samples, (n,), sorted."""
    parts = []
    for seed, atoms in enumerate(read(TARGET, ":")):
        atoms.rattle(HEAT, seed=seed)
        parts.append(find_neighbours(Structure.from_atoms(atoms), CUTOFF).distances)
    return np.sort(np.round(np.concatenate(parts), 6))


if __name__ == "__main__":
    main()
