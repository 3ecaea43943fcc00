"""The compiled loops of the symmetry functions; what they compute is said in `symmetry_functions`.

What is the same for many pairs or triplets is a loop over nothing else, in which the compiler can use vector
instructions. For these it may reorder sums: the order is fixed at compile time, so results repeat. A plain version of
the same sums is in the tests.
"""

from math import factorial
from typing import NamedTuple

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})

# Power series, highest power first, right to the last digit: cos(√x) and sin(√x)/√x for x ≤ (π/2)², exp(-x) for
# x ≤ 1/2. The library's cos, sin and exp take one number at a time, and several times as long.
_COSINE = tuple((-1.0) ** k / factorial(2 * k) for k in range(11, -1, -1))
_SINE = tuple((-1.0) ** k / factorial(2 * k + 1) for k in range(11, -1, -1))
_EXPONENTIAL = tuple((-1.0) ** k / factorial(k) for k in range(14, -1, -1))

#: triplets that are worked on together: few enough to stay in the processor's cache
_BLOCK = 4096


#: names of f_c, as in `config.Descriptor`
CUTOFF_FUNCTIONS = ("cosine", "tanh3", "poly2")


class Channels(NamedTuple):
    """The symmetry functions: cutoff in Å; cutoff_function: its place in CUTOFF_FUNCTIONS; radial (n_radial, 2): η and
    R_s of each G2; the G3 are every one of etas with every one of bends, which are (ζ, λ); first_column
    (n_elements, n_elements): of the G3 of two elements.

    bends is a tuple, so that the compiler knows how many there are: this is worth a seventh of the time.
    """

    cutoff: float
    cutoff_function: int
    radial: np.ndarray
    etas: np.ndarray
    bends: tuple[tuple[float, float], ...]
    first_column: np.ndarray


class _Pairs(NamedTuple):
    """All pairs of centre and neighbour, sorted by centre: those of atom i are starts[i]:starts[i + 1].

    element: of the neighbour; vectors: R_j - R_i; squares: r²; inverse: 1 / r; sides, dsides: see `_sides`; radial:
    (n_pairs, n_radial) G2'(r) / r, without rows if derivatives are not asked for.
    """

    starts: np.ndarray
    element: np.ndarray
    vectors: np.ndarray
    squares: np.ndarray
    inverse: np.ndarray
    sides: np.ndarray
    dsides: np.ndarray
    radial: np.ndarray


@_compiled
def _series(coefficients: tuple[float, ...], x: float) -> float:
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


@_compiled
def _exponential(x: np.ndarray) -> np.ndarray:
    """exp(-x) for x ≥ 0, as exp(-x / 2^n) squared n times, which costs n bits of the last digits."""
    largest = 0.0
    for t in range(len(x)):
        largest = max(largest, x[t])
    scale, n = 1.0, 0
    while scale * largest > 0.5:
        scale, n = 0.5 * scale, n + 1
    result = np.empty(len(x))
    for t in range(len(x)):
        result[t] = _series(_EXPONENTIAL, scale * x[t])
    for _ in range(n):
        for t in range(len(x)):
            result[t] *= result[t]
    return result


@_compiled
def _cutoff_function(squares: np.ndarray, cutoff: float, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """f_c(r) and f_c'(r) / r, from r².

    kind, with x = r / r_c: 0 cos²(π x / 2); 1 tanh³(1 - x); 2 1 - 10 x³ + 15 x⁴ - 6 x⁵.
    """
    fc, dfc = np.empty(len(squares)), np.empty(len(squares))
    if kind == 0:
        scale = (0.5 * np.pi / cutoff) ** 2
        for t in range(len(squares)):
            cosine = _series(_COSINE, scale * squares[t])
            fc[t] = cosine * cosine
            dfc[t] = -2.0 * scale * cosine * _series(_SINE, scale * squares[t])
    elif kind == 1:
        for t in range(len(squares)):
            r = np.sqrt(squares[t])
            tanh = np.tanh(1.0 - r / cutoff)
            fc[t] = tanh * tanh * tanh
            dfc[t] = -3.0 * tanh * tanh * (1.0 - tanh * tanh) / (cutoff * r)
    else:
        for t in range(len(squares)):
            x = np.sqrt(squares[t]) / cutoff
            fc[t] = 1.0 - x * x * x * (10.0 - x * (15.0 - 6.0 * x))
            dfc[t] = -30.0 * x * (1.0 - x) * (1.0 - x) / (cutoff * cutoff)
    return fc, dfc


@_compiled
def _sides(squares: np.ndarray, fc: np.ndarray, dfc: np.ndarray, etas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s(r) = exp(-η r²) f_c(r) and s'(r) / r, (n_etas, n), from r²: in G3, the factor of one side of a triangle."""
    side, dside = np.empty((len(etas), len(squares))), np.empty((len(etas), len(squares)))
    exponent = np.empty(len(squares))
    for h in range(len(etas)):
        for t in range(len(squares)):
            exponent[t] = etas[h] * squares[t]
        gauss = _exponential(exponent)
        for t in range(len(squares)):
            side[h, t] = gauss[t] * fc[t]
        for t in range(len(squares)):
            dside[h, t] = gauss[t] * (dfc[t] - 2.0 * etas[h] * fc[t])
    return side, dside


@_compiled
def _bend(cosine: np.ndarray, parameters: tuple[float, float], bend: np.ndarray, dbend: np.ndarray) -> None:
    """Fill in 2^(1-ζ) (1 + λ cos θ)^ζ and its derivative with respect to cos θ; parameters: ζ and λ."""
    zeta, sign = parameters
    for t in range(len(cosine)):
        # rounding may carry |cos θ| beyond 1
        bend[t] = 0.5 * max(1.0 + sign * cosine[t], 0.0)
        dbend[t] = zeta * sign
    if zeta == int(zeta):
        for _ in range(int(zeta) - 1):
            for t in range(len(cosine)):
                dbend[t] *= bend[t]
    else:
        for t in range(len(cosine)):
            dbend[t] *= bend[t] ** (zeta - 1.0)
    for t in range(len(cosine)):
        bend[t] *= 2.0 / (zeta * sign) * dbend[t]


@_compiled
def accumulate(
    starts: np.ndarray,
    element: np.ndarray,
    vectors: np.ndarray,
    distances: np.ndarray,
    channels: Channels,
    features: np.ndarray,
    slopes: np.ndarray,
) -> None:
    """Add every pair and triplet to `features` (n, F), and fill `slopes` (n_pairs, 3, T) if it has rows.

    The other arrays are those of a neighbour list; element (unsigned): of each pair's neighbour.
    """
    n_atoms, n_pairs, n_radial = len(starts) - 1, len(distances), len(channels.radial)
    squares, inverse, exponent = np.empty(n_pairs), np.empty(n_pairs), np.empty(n_pairs)
    for p in range(n_pairs):
        squares[p], inverse[p] = distances[p] * distances[p], 1.0 / distances[p]
    fc, dfc = _cutoff_function(squares, channels.cutoff, channels.cutoff_function)
    radial = np.empty((len(slopes), n_radial))
    for m in range(n_radial):
        eta, shift = channels.radial[m]
        for p in range(n_pairs):
            exponent[p] = eta * (distances[p] - shift) ** 2
        gauss = _exponential(exponent)
        for p in range(len(slopes)):
            radial[p, m] = gauss[p] * (dfc[p] - 2.0 * eta * (1.0 - shift * inverse[p]) * fc[p])
        for i in range(n_atoms):
            for p in range(starts[i], starts[i + 1]):
                features[i, element[p] * n_radial + m] += gauss[p] * fc[p]
    sides, dsides = _sides(squares, fc, dfc, channels.etas)
    pairs = _Pairs(starts, element, vectors, squares, inverse, sides, dsides, radial)

    # begin at starts[0], which is 0: a 0 as such is a type of its own, for which all that follows is compiled again
    begin = most = n = starts[0]
    for i in range(n_atoms):
        most = max(most, starts[i + 1] - starts[i])
    room = _BLOCK + most * (most - 1) // 2 + 1
    # unsigned: an index that cannot be negative needs no check whether it counts from the end
    first, second, far = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.uint32), np.empty(room)
    ends = np.zeros(n_atoms + 1, dtype=np.int64)
    for i in range(n_atoms):
        # neighbours that are closer to each other than the cutoff
        for j in range(starts[i], starts[i + 1]):
            for k in range(starts[i], j):
                x = vectors[j, 0] - vectors[k, 0]
                y = vectors[j, 1] - vectors[k, 1]
                z = vectors[j, 2] - vectors[k, 2]
                # no branch, which would often be guessed wrong: what is too far apart is written over by the next
                first[n], second[n], far[n] = j, k, x * x + y * y + z * z
                n += far[n] < channels.cutoff**2
        ends[i + 1] = n
        if n >= _BLOCK or i == n_atoms - 1:
            ends[begin] = 0
            _add_triplets(begin, i + 1, most, ends, first, second, far[:n], pairs, channels, features, slopes)
            begin, n = i + 1, 0


@_compiled
def _add_triplets(
    begin: int,
    end: int,
    most: int,
    ends: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    far: np.ndarray,
    pairs: _Pairs,
    channels: Channels,
    features: np.ndarray,
    slopes: np.ndarray,
) -> None:
    """The triplets of the atoms begin:end, and all slopes of their pairs.

    The triplets of atom i are ends[i]:ends[i + 1]; first, second: its pairs with the two neighbours; far: the square of
    the distance between these; most: neighbours of any atom.
    """
    starts, element, vectors, squares, inverse, sides, dsides, radial = pairs
    cutoff, kind, _, etas, bends, first_column = channels
    n_etas, n_bends, n_elements, n_radial = len(etas), len(bends), len(first_column), radial.shape[1]
    # the same as n_etas * n_bends, but not known to the compiler: it would not use vectors in loops that it unrolls
    n_angular = (slopes.shape[2] - n_radial) // n_elements
    fc, dfc = _cutoff_function(far, cutoff, kind)
    far_sides, far_dsides = _sides(far, fc, dfc, etas)
    cosine = np.empty(len(far))
    for t in range(len(far)):
        j, k = first[t], second[t]
        cosine[t] = 0.5 * (squares[j] + squares[k] - far[t]) * inverse[j] * inverse[k]
    bend, dbend = np.empty((n_bends, len(far))), np.empty((n_bends, len(far)))
    for m in range(n_bends):
        _bend(cosine, bends[m], bend[m], dbend[m])

    # dG/dR_j of the neighbours of one atom = a factor (rows[:, 0]) times R_j - R_i, plus a vector (rows[:, 1:])
    width = n_elements * n_angular
    scratch = np.empty(most * 4 * width)
    rows = scratch.reshape(most, 4, n_elements, n_angular)
    flat_rows = scratch.reshape(most, 4, width)
    values = np.empty(n_elements * width)
    values_of = values.reshape(n_elements, n_elements, n_angular)
    # of one triplet: G3; the factors of R_j - R_i in dG3/dR_j and of R_k - R_i in dG3/dR_k; that of the other in both
    parts = np.empty((4, n_etas, n_bends))
    part = parts.reshape(4, n_angular)
    for i in range(begin, end):
        start, n_neighbours = starts[i], starts[i + 1] - starts[i]
        values[:] = 0.0
        if len(slopes):
            scratch[: n_neighbours * 4 * width] = 0.0
        for t in range(ends[i], ends[i + 1]):
            j, k = first[t], second[t]
            a, b = j - np.uint32(start), k - np.uint32(start)
            # d cos θ / d R_j = (R_k - R_i) · turn - (R_j - R_i) · turn_j
            turn = inverse[j] * inverse[k]
            turn_j, turn_k = cosine[t] * inverse[j] * inverse[j], cosine[t] * inverse[k] * inverse[k]
            for h in range(n_etas):
                near = sides[h, j] * sides[h, k]
                whole, stretch = near * far_sides[h, t], near * far_dsides[h, t]
                stretch_j = stretch + dsides[h, j] * sides[h, k] * far_sides[h, t]
                stretch_k = stretch + sides[h, j] * dsides[h, k] * far_sides[h, t]
                for m in range(n_bends):
                    power, dpower = bend[m, t], dbend[m, t] * whole
                    parts[0, h, m] = power * whole
                    parts[1, h, m] = power * stretch_j - dpower * turn_j
                    parts[2, h, m] = power * stretch_k - dpower * turn_k
                    parts[3, h, m] = dpower * turn - power * stretch
            e_j, e_k = element[j], element[k]
            for m in range(n_angular):
                values_of[e_j, e_k, m] += part[0, m]
            if not len(slopes):
                continue
            for m in range(n_angular):
                rows[a, 0, e_k, m] += part[1, m]
            for m in range(n_angular):
                rows[b, 0, e_j, m] += part[2, m]
            for c in range(1, 4):
                x = vectors[k, c - 1]
                for m in range(n_angular):
                    rows[a, c, e_k, m] += part[3, m] * x
            for c in range(1, 4):
                x = vectors[j, c - 1]
                for m in range(n_angular):
                    rows[b, c, e_j, m] += part[3, m] * x

        for e in range(n_elements):
            for f in range(n_elements):
                for m in range(n_angular):
                    features[i, first_column[e, f] + m] += values_of[e, f, m]
        if not len(slopes):
            continue
        for a in range(n_neighbours):
            for c in range(3):
                row, x = slopes[start + a, c], vectors[start + a, c]
                for m in range(n_radial):
                    row[m] = radial[start + a, m] * x
                row = row[n_radial:]
                for m in range(width):
                    row[m] = flat_rows[a, 0, m] * x + flat_rows[a, 1 + c, m]
