"""Training with L-BFGS on the loss T(3.1), every structure in every step, forces from stored derivatives."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from kmde_fw import __version__, config
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp.forces import ForceMap, Geometry, TorchForceMap
from kmde_fw.hdnnp.metrics import energy_errors, force_rmse
from kmde_fw.hdnnp.model import Hdnnp, energy_offsets, feature_range, feature_scaling
from kmde_fw.hdnnp.network import Columns, Networks, initial_weights, n_parameters, with_first_layers
from kmde_fw.hdnnp.symmetry_functions import Fingerprint, SymmetryFunctions
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Labelled, Structure, content_hash
from kmde_fw.threads import torch_threads

Progress = Callable[[int, int, float], None]

#: closures that one step's line search may take (torch's own limit)
LINE_SEARCH_CLOSURES = 25
#: atoms of the structures whose loss and gradient are made together on the CPU: more no longer pays, but needs memory
CHUNK_ATOMS = 2048
#: `first_layer: whitened`: how far correlations of the inputs are taken out (0: not at all, 1: entirely); the least
#: variance that counts, over the largest; and how much smaller the first weights are at the start: a flatter start
#: gives a smoother function where there is no data
WHITENING, LEAST_VARIANCE, FLATTER = 0.5, 1e-3, 0.5
#: how often training goes back to the best weights, with half the learning rate, after a loss that is not a number
MAX_RECOVERIES = 3


@dataclass(frozen=True)
class TrainingReport:
    """What happened in a training.

    curve: (closures so far, train loss, validation loss or None) of each step; best_closure: where the weights of the
    model were found; energy errors in meV/atom, force errors in eV/Å, of the structures trained on and of those held
    out (None without any); validation_ids: ids of the structures held out; seconds: wall time.
    """

    curve: tuple[tuple[int, float, float | None], ...]
    closures: int
    best_closure: int
    stop_reason: str
    seconds: float
    train_energy_rmse: float
    train_force_rmse: float
    validation_energy_rmse: float | None
    validation_force_rmse: float | None
    validation_ids: tuple[str, ...]
    n_parameters: int
    seed: int

    def to_document(self) -> dict[str, Any]:
        """As plain types for BSON and JSON."""
        document = asdict(self)
        document["curve"] = [list(point) for point in self.curve]
        document["validation_ids"] = list(self.validation_ids)
        return document


def train(
    data: Sequence[Labelled],
    elements: tuple[str, ...],
    descriptor: config.Descriptor,
    network: config.Network,
    training: config.Training,
    seed: int,
    progress: Progress | None = None,
    always_train: Collection[str] = (),
) -> tuple[Hdnnp, TrainingReport]:
    """Train a model from new initial weights; the same arguments on the same machine give the same model.

    elements: those of the model; one without data keeps its initial weights. always_train: ids of structures that are
    never held out for validation (surrogates: each is the only one of its kind). progress: called with (closures done,
    closures at most, train loss). Scaling, ranges and offsets come from all the data, weights from what is not held
    out. Raises ModelError for data that cannot be trained on.
    """
    begin = time.perf_counter()
    _check(data)
    if training.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("training.device is cuda, but torch finds no such GPU here; set it to cpu, or train elsewhere")
    symmetry_functions = SymmetryFunctions(elements, descriptor)
    fingerprints = [symmetry_functions.compute(labelled.structure, derivatives=True) for labelled in data]
    species = np.concatenate([f.species for f in fingerprints])
    features = np.concatenate([f.features for f in fingerprints])
    by_element = [features[species == e] for e in range(len(elements))]
    center, scale = (np.array(x) for x in zip(*map(feature_scaling, by_element), strict=True))
    minimum, maximum = (np.array(x) for x in zip(*map(feature_range, by_element), strict=True))
    offsets = energy_offsets(data, elements)

    held_out = _choose_validation(data, elements, training.validation_fraction, always_train, seed)

    def batch(chosen: list[int]) -> _Batch:
        parts = [data[k] for k in chosen], [fingerprints[k] for k in chosen]
        return _Batch(*parts, network.hidden, center, scale, offsets, training.device, training.force_weight_near)

    train_batch = batch([k for k in range(len(data)) if k not in held_out])
    validation_batch = batch(held_out) if held_out else None

    shape = (len(elements), len(symmetry_functions), network.hidden)
    start = initial_weights(*shape, np.random.default_rng(seed))
    maps = np.array([np.eye(len(symmetry_functions))] * len(elements))
    if training.first_layer == "whitened":
        maps = np.array([whitening((x - c) * s) for x, c, s in zip(by_element, center, scale, strict=True)])
    with torch_threads(training.threads):
        search = _Search(start, maps, train_batch, validation_batch, training, progress)
        stop_reason = search.run()
        weights = search.model_weights(search.best_weights)
        train_errors = train_batch.errors(weights)
        validation_errors = validation_batch.errors(weights) if validation_batch else (None, None)

    model = Hdnnp(
        elements=tuple(elements),
        descriptor=descriptor,
        hidden=network.hidden,
        weights=weights.cpu().numpy().copy(),
        center=center,
        scale=scale,
        offsets=offsets,
        minimum=minimum,
        maximum=maximum,
        provenance={
            "code_version": __version__,
            "seed": seed,
            "training_data": training_data_hash(data),
            "training": training.record(),
        },
    )
    report = TrainingReport(
        curve=tuple(search.curve),
        closures=search.closures,
        best_closure=search.best_closure,
        stop_reason=stop_reason,
        seconds=time.perf_counter() - begin,
        train_energy_rmse=train_errors[0],
        train_force_rmse=train_errors[1],
        validation_energy_rmse=validation_errors[0],
        validation_force_rmse=validation_errors[1],
        validation_ids=tuple(data[k].structure.id for k in held_out),
        n_parameters=n_parameters(*shape),
        seed=seed,
    )
    return model, report


def whitening(inputs: np.ndarray) -> np.ndarray:
    """The coordinates in which one element's first layer is trained, from its inputs (n, F): W = W'·M, M (F, F).

    M = FLATTER · V diag(λ^(-WHITENING/2)) Vᵀ with variances λ and directions V of the inputs. Symmetry functions are so
    strongly correlated that L-BFGS, which starts downhill, would spend its closures on their few large directions; in
    these coordinates the others are not that small any more. The identity where there are fewer than two atoms.
    """
    n_features = inputs.shape[1]
    if len(inputs) < 2 or not np.ptp(inputs, axis=0).any():
        return np.eye(n_features)
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(inputs.T)))
    factors = np.maximum(variances, LEAST_VARIANCE * variances[-1]) ** (-WHITENING / 2)
    return FLATTER * (directions * factors) @ directions.T


def training_data_hash(data: Sequence[Labelled]) -> str:
    """sha256 over structure ids, energies and forces, whatever the order of the structures."""
    rows = [[x.structure.id, float(x.energy), np.asarray(x.forces, dtype=float).tolist()] for x in data]
    return content_hash(sorted(rows))


def _check(data: Sequence[Labelled]) -> None:
    if not data:
        raise ModelError("there is nothing to train on: the list of labelled structures is empty")
    for labelled in data:
        structure = labelled.structure
        name = structure.name or structure.formula
        if np.shape(labelled.forces) != (len(structure), 3):
            raise ModelError(f"structure {name}: forces have the shape {np.shape(labelled.forces)}, not (atoms, 3)")
        if not (np.isfinite(labelled.energy) and np.isfinite(labelled.forces).all()):
            raise ModelError(f"structure {name}: its energy or a force is not a finite number; remove the structure")


def _choose_validation(
    data: Sequence[Labelled], elements: tuple[str, ...], fraction: float, always_train: Collection[str], seed: int
) -> list[int]:
    """Indices of the structures held out: `fraction` of those that may be, drawn by seed, whatever their order.

    A structure stays in the train part if its composition is needed there: without it an element, or a direction of
    composition space, would have no data.
    """
    counts = np.array([labelled.structure.counts(elements) for labelled in data])
    names = [labelled.structure.id for labelled in data]
    free = sorted((k for k in range(len(data)) if names[k] not in always_train), key=lambda k: (names[k], k))
    wanted = round(fraction * len(free))
    if fraction > 0 and wanted == 0 and len(free) > 1:
        wanted = 1
    held_out: list[int] = []
    # a stream of its own, so that the initial weights do not depend on the validation fraction
    for k in np.random.default_rng([seed, 1]).permutation(free):
        rest = np.array([i not in (*held_out, k) for i in range(len(data))])
        if len(held_out) < wanted and rest.any() and _span(counts[rest]) == _span(counts):
            held_out.append(int(k))
    return sorted(held_out)


def _span(counts: np.ndarray) -> tuple[int, int]:
    """Elements present, and independent compositions, in counts (n_structures, n_elements)."""
    return int((counts.sum(axis=0) > 0).sum()), int(np.linalg.matrix_rank(counts))


class _Batch:
    """Structures made ready for training; their loss and its gradient are sums over chunks of them."""

    def __init__(
        self,
        data: Sequence[Labelled],
        fingerprints: Sequence[Fingerprint],
        hidden: tuple[int, ...],
        center: np.ndarray,
        scale: np.ndarray,
        offsets: np.ndarray,
        device: str = "cpu",
        near: config.NearWeight | None = None,
    ) -> None:
        self.n_elements, self.hidden = len(center), hidden
        self.columns = Columns.seen(scale, device)
        self.n_structures, self.n_atoms = len(data), sum(len(x.structure) for x in data)
        # a GPU is the faster the more it gets at once
        most = CHUNK_ATOMS if device == "cpu" else self.n_atoms
        ends = np.cumsum([len(x.structure) for x in data])
        groups = np.split(np.arange(len(data)), np.flatnonzero(np.diff((ends - 1) // most)) + 1)
        self.chunks = [
            _Chunk(
                [data[k] for k in group],
                [fingerprints[k] for k in group],
                self.columns,
                center,
                scale,
                offsets,
                device,
                near,
            )
            for group in groups
        ]

    def loss(self, weights: torch.Tensor, settings: config.Training) -> float:
        """α·mean((ΔE)²) + β·mean((ΔF)²), T(3.1); ΔE of the structure or per atom, as `energy_loss` says.

        With `force_weight_near`, (ΔF)² of the atoms near that element count `weight` times; the mean is still over all.
        """
        return self._evaluate(weights, settings, with_gradient=False)[0]

    def loss_and_gradient(self, weights: torch.Tensor, settings: config.Training) -> tuple[float, torch.Tensor]:
        """`loss`, and its derivatives with respect to the weights."""
        return self._evaluate(weights, settings, with_gradient=True)

    def _evaluate(
        self, weights: torch.Tensor, settings: config.Training, with_gradient: bool
    ) -> tuple[float, torch.Tensor]:
        """The loss and what of its gradient has been added up: all of it, or nothing."""
        networks = Networks(weights, self.n_elements, self.hidden, self.columns)
        energy_factor = settings.energy_weight / self.n_structures
        force_factor = settings.force_weight / (3 * self.n_atoms)
        loss = weights.new_zeros(())
        for chunk in self.chunks:
            atomic, gradients, trace = networks.evaluate(chunk.inputs, chunk.counts)
            weight = 1.0 / chunk.n_atoms if settings.energy_loss == "per_atom" else torch.ones_like(chunk.n_atoms)
            by_energy = (chunk.total(atomic) - chunk.energies) * weight
            by_forces = chunk.force_map.forward(gradients) - chunk.forces
            squares = by_forces.square()
            if chunk.force_weights is not None:
                squares, by_forces = squares * chunk.force_weights, by_forces * chunk.force_weights
            loss += energy_factor * by_energy.square().sum() + force_factor * squares.sum()
            if with_gradient:
                by_atomic = (2.0 * energy_factor * by_energy * weight)[chunk.structure]
                by_gradients = chunk.force_map.transposed(2.0 * force_factor * by_forces, gradients.shape[1])
                networks.backpropagate(trace, by_atomic, by_gradients)
        return float(loss), networks.gradient()

    def errors(self, weights: torch.Tensor) -> tuple[float, float]:
        """Energy RMSE in meV/atom and force RMSE in eV/Å."""
        networks = Networks(weights, self.n_elements, self.hidden, self.columns)
        energies, predicted_forces = [], []
        for chunk in self.chunks:
            atomic, gradients, _ = networks.evaluate(chunk.inputs, chunk.counts)
            energies.append(chunk.total(atomic))
            predicted_forces.append(chunk.force_map.forward(gradients).cpu().numpy())

        def joined(parts: list[torch.Tensor]) -> np.ndarray:
            return torch.cat(parts).cpu().numpy()

        expected, n_atoms = joined([c.energies for c in self.chunks]), joined([c.n_atoms for c in self.chunks])
        energy = energy_errors(joined(energies), expected, n_atoms)
        return energy.rmse, force_rmse(predicted_forces, [c.forces.cpu().numpy() for c in self.chunks])


class _Chunk:
    """Some structures: atoms sorted by element, inputs scaled and packed, offsets taken off the energies."""

    def __init__(
        self,
        data: Sequence[Labelled],
        fingerprints: Sequence[Fingerprint],
        columns: Columns,
        center: np.ndarray,
        scale: np.ndarray,
        offsets: np.ndarray,
        device: str,
        near: config.NearWeight | None,
    ) -> None:
        species = np.concatenate([f.species for f in fingerprints])
        order = np.argsort(species, kind="stable")
        row = np.empty_like(order)
        row[order] = np.arange(len(order))
        geometry = Geometry.of(fingerprints, row).of_inputs(scale[species[order]], columns.places())
        self.force_map = ForceMap(geometry) if device == "cpu" else TorchForceMap(geometry, device)
        features = np.concatenate([f.features for f in fingerprints])
        self.counts = np.bincount(species, minlength=len(center)).tolist()
        structure = np.repeat(np.arange(len(data)), [len(f.species) for f in fingerprints])
        baseline = np.bincount(structure, offsets[species])

        def on_device(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.inputs = columns.pack(on_device(((features - center[species]) * scale[species])[order]))
        self.structure = on_device(structure[order])
        self.n_atoms = on_device(np.array([float(len(x.structure)) for x in data]))
        self.energies = on_device(np.array([x.energy for x in data]) - baseline)
        self.forces = on_device(np.concatenate([x.forces for x in data]).astype(float)[order])
        # (n_atoms, 1), or None: all are 1
        self.force_weights = None
        if near is not None:
            weights = np.concatenate([force_weights(x.structure, near) for x in data])
            self.force_weights = on_device(weights[order][:, None])

    def total(self, atomic: torch.Tensor) -> torch.Tensor:
        """Energies (n_structures,) in eV without the offsets, from those of the atoms."""
        return torch.zeros_like(self.energies).index_add_(0, self.structure, atomic)


def force_weights(structure: Structure, near: config.NearWeight) -> np.ndarray:
    """How many times each atom's forces count, (n,): `weight` for the element's atoms and those near one, else 1."""
    chosen = np.array(structure.species) == near.element
    pairs = find_neighbours(structure, near.within)
    chosen[pairs.centre[chosen[pairs.neighbour]]] = True
    return np.where(chosen, near.weight, 1.0)


class _Search:
    """One run of L-BFGS: counts closures, keeps the best weights, knows when to stop.

    Its weights are those of the model but for the first layers: these are W', W = W'·M with M from maps (E, F, F).
    """

    def __init__(
        self,
        start: np.ndarray,
        maps: np.ndarray,
        train_batch: _Batch,
        validation_batch: _Batch | None,
        settings: config.Training,
        progress: Progress | None,
    ) -> None:
        self.weights = torch.from_numpy(start).to(settings.device, copy=True)
        self.maps = torch.from_numpy(maps).to(settings.device)
        self.train_batch = train_batch
        self.validation_batch = validation_batch
        self.settings = settings
        self.progress = progress
        self.closures = 0
        self.curve: list[tuple[int, float, float | None]] = []
        self.best_weights = self.weights.clone()
        self.best_loss = np.inf
        self.best_closure = 0
        # (weights, loss, gradient) of the present step's closures: the point that the line search takes costs nothing
        self.seen: list[tuple[torch.Tensor, float, torch.Tensor]] = []

    def run(self) -> str:
        """Optimise until there is a reason to stop, and return it in words."""
        settings = self.settings
        learning_rate, recoveries, steps_since_best = settings.learning_rate, 0, 0
        optimiser = self._optimiser(learning_rate)
        while True:
            if self.closures >= settings.max_closures and self._known() is None:
                return f"the limit of {settings.max_closures} closures was reached"
            loss = self._closure()
            if not np.isfinite(loss):
                if recoveries == MAX_RECOVERIES or not np.isfinite(self.best_loss):
                    return f"the loss was not a number, also after {recoveries} retries; the last good weights are kept"
                recoveries, learning_rate = recoveries + 1, learning_rate / 2
                self._restore_best()
                optimiser = self._optimiser(learning_rate)
                continue
            if self._record(loss):
                steps_since_best = 0
            else:
                steps_since_best += 1
                if steps_since_best >= settings.patience:
                    kind = "train" if self.validation_batch is None else "validation"
                    return f"{settings.patience} steps passed without a better {kind} loss"
            remaining = settings.max_closures - self.closures
            if remaining == 0:
                return f"the limit of {settings.max_closures} closures was reached"
            before = self.weights.clone()
            # torch counts the closure at the start of a step, which is known here, and the line search in max_eval
            optimiser.param_groups[0]["max_eval"] = min(LINE_SEARCH_CLOSURES, remaining)
            optimiser.step(self._closure)
            if torch.equal(before, self.weights) and self.closures < settings.max_closures:
                return "L-BFGS found no direction that lowers the train loss any further"

    def _optimiser(self, learning_rate: float) -> torch.optim.LBFGS:
        return torch.optim.LBFGS(
            [self.weights],
            lr=learning_rate,
            max_iter=1,  # one iteration per step, so that the validation loss is known after each
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=self.settings.history,
            line_search_fn=None if self.settings.line_search == "none" else self.settings.line_search,
        )

    def _known(self) -> tuple[torch.Tensor, float, torch.Tensor] | None:
        """The entry of `seen` for the present weights, if there is one."""
        return next((point for point in self.seen if torch.equal(point[0], self.weights)), None)

    def _closure(self) -> float:
        """Train loss of the present weights, and its gradient in weights.grad."""
        known = self._known()
        if known is not None:
            _, value, gradient = known
            self.weights.grad = gradient.clone()
            return value
        value, slopes = self.train_batch.loss_and_gradient(self.model_weights(self.weights), self.settings)
        self.weights.grad = with_first_layers(slopes, self.maps.mT, self.train_batch.hidden)
        self.closures += 1
        self.seen.append((self.weights.clone(), value, self.weights.grad.clone()))
        if self.progress is not None:
            self.progress(self.closures, self.settings.max_closures, value)
        return value

    def _record(self, loss: float) -> bool:
        """Note the present weights in the curve; keep them if they are the best so far, and say whether they are."""
        self.seen = [point for point in self.seen if torch.equal(point[0], self.weights)]
        validation = None
        if self.validation_batch is not None:
            validation = self.validation_batch.loss(self.model_weights(self.weights), self.settings)
        self.curve.append((self.closures, loss, validation))
        deciding = loss if validation is None else validation
        if not deciding < self.best_loss:
            return False
        self.best_loss, self.best_closure = deciding, self.closures
        self.best_weights = self.weights.clone()
        return True

    def model_weights(self, weights: torch.Tensor) -> torch.Tensor:
        """The weights of the model, from those of the search."""
        return with_first_layers(weights, self.maps, self.train_batch.hidden)

    def _restore_best(self) -> None:
        self.seen = []
        self.weights.copy_(self.best_weights)
