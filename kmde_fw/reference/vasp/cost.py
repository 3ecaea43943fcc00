"""What a single point will cost: electrons, plane waves, k-points."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Å⁻² per eV: 2 m_e / ħ²
K2_PER_EV = 0.26246842


def plane_waves(volume: float, encut: float) -> float:
    """Plane waves below a cutoff at one k-point: V k³ / (6 π²), k² = 2 m E / ħ². volume: Å³; encut: eV."""
    return float(volume * (K2_PER_EV * encut) ** 1.5 / (6 * np.pi**2))


def cost(volume: float, electrons: float, encut: float, grid: tuple[int, int, int], spins: int) -> dict[str, Any]:
    """Sizes of a calculation, and `work`, which its time is about proportional to.

    electrons: of the valence; grid: subdivisions of the k-point mesh, of which time reversal leaves half; spins: 1 or
    2. An electronic step orthogonalises n_bands states of n_plane_waves coefficients at each k-point and spin: work =
    spins · n_k · n_bands² · n_plane_waves, in units of 10⁹.
    """
    waves = plane_waves(volume, encut)
    bands = 0.6 * electrons + 8
    points = (int(np.prod(grid)) + 1) // 2
    return {
        "electrons": float(electrons),
        "plane_waves": round(waves),
        "k_points": points,
        "work": float(spins * points * bands**2 * waves * 1e-9),
    }
