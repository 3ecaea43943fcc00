"""The campaign file: one YAML, read into a strict model. What is computed with each option: METHOD in the README.

The first default of an option is ours; the preset `thesis` sets every option to what the thesis did.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from ase.data import atomic_numbers
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from kmde_fw.errors import ConfigError

PROTOTYPES = (
    "fcc", "bcc", "hcp", "diamond", "rocksalt", "cscl", "zincblende",
    "L1_2", "L1_0", "heusler", "half_heusler", "C14", "sigma",
)  # fmt: skip

PositiveInt = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeastOne = Annotated[float, Field(ge=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _known_element(symbol: str) -> str:
    if symbol == "X" or symbol not in atomic_numbers:
        raise ValueError(f"{symbol!r} is not a chemical element")
    return symbol


SetName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")]
Element = Annotated[str, AfterValidator(_known_element)]


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError("the lower bound must be below the upper bound")
    return bounds


Bounds = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_truth_as_number(cls, data: Any) -> Any:
        """YAML's yes, on and true would otherwise count as 1."""
        if isinstance(data, dict):
            for key, value in data.items():
                field = cls.model_fields.get(key)
                if isinstance(value, bool) and field is not None and field.annotation is not bool:
                    raise ValueError(f"{key} is {str(value).lower()}, and should be something else than true or false")
        return data


class Descriptor(Section):
    """Behler-Parrinello symmetry functions G2 and narrow G3, thesis T(1.2) and T(1.3)."""

    cutoff: Positive = Field(4.0, le=20.0, description="cutoff radius r_c in Å, also of the distributions")
    cutoff_function: Literal["cosine", "tanh3", "poly2"] = Field(
        "cosine",
        description="f_c with x = r/r_c: cosine (cos(πx) + 1)/2, tanh3 tanh³(1 - x), poly2 1 - 10x³ + 15x⁴ - 6x⁵",
    )
    radial_eta: tuple[NonNegative, ...] = Field((0.01, 0.05, 0.1), description="η of G2 in Å⁻²")
    radial_shift: tuple[NonNegative, ...] = Field((0.0,), description="R_s of G2 in Å")
    angular_eta: tuple[NonNegative, ...] = Field((0.01, 0.1), description="η of G3 in Å⁻²")
    # below 1 the derivative of G3 diverges where three atoms are in line
    angular_zeta: tuple[AtLeastOne, ...] = Field((1.0, 4.0), description="ζ of G3, 1 or more")
    angular_lambda: tuple[Literal[1, -1], ...] = Field((1, -1), description="λ of G3")

    @model_validator(mode="after")
    def _check_not_empty(self) -> Descriptor:
        radial = self.radial_eta and self.radial_shift
        if not radial and not (self.angular_eta and self.angular_zeta and self.angular_lambda):
            raise ValueError("there are no symmetry functions: give values of radial_eta or angular_eta")
        return self


class Network(Section):
    """One tanh network per element."""

    hidden: tuple[PositiveInt, ...] = Field((60, 60), description="nodes in each hidden layer")


class NearWeight(Section):
    """Forces that count more: those of an element's atoms and of what is near them."""

    element: Element = Field(description="the dopant, for example")
    within: Positive = Field(3.0, le=20.0, description="Å; its neighbours up to here, periodic images included")
    weight: Positive = Field(description="how many times the squared errors of these atoms' forces count")


class Training(Section):
    """L-BFGS on α·mean((ΔE)²) + β·mean((ΔF)²), T(3.1)."""

    seeds: tuple[int, ...] = Field((0,), min_length=1, description="one model per seed, trained in parallel fireworks")
    max_closures: PositiveInt = Field(900, description="evaluations of loss and gradient at most")
    # with 10, training stopped after 68 closures at three times the force error
    patience: PositiveInt = Field(
        50, description="stop after this many L-BFGS iterations without a better validation loss (else train loss)"
    )
    # a part of the initial train set says nothing about surrogates: stopping by it stops too early for them
    validation_fraction: float = Field(
        0.0, ge=0, lt=1, description="part of the initial train set held out (surrogates never are); 0: none"
    )
    line_search: Literal["strong_wolfe", "none"] = Field("strong_wolfe", description="step length of L-BFGS")
    learning_rate: Positive = Field(1.0, description="of L-BFGS: the first trial step, or the step without line search")
    first_layer: Literal["whitened", "plain"] = Field(
        "whitened",
        description="coordinates in which first layers are trained; whitened: correlated symmetry functions count more "
        "alike, and the start is flatter; plain: as they are",
    )
    history: PositiveInt = Field(100, description="corrections that L-BFGS remembers")
    energy_loss: Literal["per_atom", "total"] = Field("per_atom", description="of the energies per atom or per cell")
    # the thesis has 1, for energies of whole cells. Energies per atom are small: with 200, 1 meV/atom counts as much as
    # 14 meV/Å; with 1, forces alone are learned and energies stay at their offsets, off by 2 to 3 meV/atom
    energy_weight: NonNegative = Field(200.0, description="α, of the mean squared energy error")
    force_weight: NonNegative = Field(1.0, description="β, of the mean squared force error")
    force_weight_near: NearWeight | None = Field(
        None, description="forces near atoms of one element count more in the loss; null: all forces count alike"
    )
    threads: PositiveInt = Field(1, description="CPU threads of one training")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where networks are trained; cuda: a GPU that torch sees")

    @model_validator(mode="after")
    def _check_sense(self) -> Training:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: a seed is named twice, and would give the same model twice")
        if self.energy_weight == 0 and self.force_weight == 0:
            raise ValueError("energy_weight and force_weight are both 0: there is nothing to learn")
        if self.force_weight_near is not None and self.force_weight == 0:
            raise ValueError("force_weight is 0: no force counts, and force_weight_near changes nothing")
        return self

    def record(self) -> dict[str, Any]:
        """What decides a model, seeds apart, as plain types. What is not asked for is left out: it changes no id."""
        record = self.model_dump(mode="json", exclude={"seeds"})
        if self.force_weight_near is None:
            del record["force_weight_near"]
        return record


class Analysis(Section):
    """Coverage gap T(2.1), outlier atoms and motif scores T(2.2)-(2.3)."""

    distance_widths: Bounds = Field((0.005, 0.2), description="Å; bounds between which the bin width is searched")
    angle_widths: Bounds = Field((0.1, 10.0), description="degrees; the same for angles")
    min_samples: PositiveInt = Field(50, description="a channel with fewer samples takes the fallback width")
    fallback_distance_width: Positive = Field(0.05, description="Å")
    fallback_angle_width: Positive = Field(2.0, description="degrees")
    width_shifts: PositiveInt = Field(30, description="bin origins over which the Shimazaki-Shinomoto cost is averaged")
    outlier_tolerance: NonNegative = Field(
        1e-6, description="how far outside the train range a value still counts as inside, in units of that range"
    )
    n_motifs: PositiveInt = Field(20, description="key motifs kept, best first")
    motif_measure: Literal["density", "probability"] = Field(
        "density", description="density per Å or degree; probability = density × bin width is free of units"
    )


class Design(Section):
    """Candidate surrogates and the choice among them, T(2.4)-(2.6)."""

    strategy: str = Field(
        "environment", description="how candidates are chosen, or motifs scored; a name of the strategy registry"
    )
    selection: Literal["greedy", "top"] = Field(
        "greedy", description="greedy: a motif that k surrogates already contain counts 1/(1 + k); top: the best scores"
    )
    composition: Literal["close", "ignore"] = Field(
        "close", description="close: while there is a composition gap, prefer candidates that close it"
    )
    picks_per_cycle: PositiveInt = Field(1, description="surrogates labelled in one cycle")
    replacements: int = Field(3, ge=0, description="next-best candidates tried when a label fails, per pick")
    candidates: PositiveInt = Field(20_000, description="candidates per cycle")
    shards: PositiveInt = Field(2, description="fireworks that generate and score them in parallel")
    keep: PositiveInt = Field(1000, description="best candidates of a cycle stored as documents of their own")
    keep_columns: bool = Field(
        True,
        description="counts and penalties of all candidates stay in the database, about 10 bytes each; false: after "
        "the choice only the `keep` best and a summary of all stay",
    )
    prototypes: tuple[Literal[PROTOTYPES], ...] = Field(PROTOTYPES, description="crystals to decorate")  # type: ignore[valid-type]
    max_atoms: PositiveInt = Field(60, description="larger candidates and parents are not made")
    lattice_scan: Literal["bonds", "constants"] = Field(
        "bonds", description="bonds: shortest bond within bond_range; constants: lattice constant within constant_range"
    )
    bond_range: Bounds = Field((0.9, 1.3), description="shortest bond over the sum of its covalent radii")
    constant_range: Bounds = Field((2.5, 7.0), description="lattice constant a in Å, for lattice_scan: constants")
    derive_parents: bool = Field(
        True, description="parents are also derived from target and train structures: what these are supercells of"
    )
    parent_scale: Bounds = Field((0.95, 1.05), description="linear scale of parents")
    max_strain: float = Field(0.05, ge=0, lt=0.5, description="largest uniaxial or shear strain")
    max_displacement: NonNegative = Field(
        0.07, description="largest standard deviation of random displacements, Å; parents have 70 % of it or more"
    )


class Vicinity(Section):
    """What else the model should know: the target's structures displaced and strained, as in MD."""

    displacement: NonNegative = Field(0.05, description="standard deviation of each coordinate's displacement, Å")
    strain: float = Field(0.02, ge=0, lt=0.5, description="largest component of the strain")


class Stop(Section):
    """When the campaign is over."""

    rule: Literal["converged", "budget"] = Field(
        "converged",
        description="converged: when one of the rules below says so; budget: after N labels, what they say is recorded",
    )
    max_surrogates: int = Field(10, ge=0, description="N, the budget of labels")
    max_cost: NonNegative | None = Field(
        None, description="budget of all labels' cost in train cells (electrons cubed); null: no limit but N"
    )
    zero_outliers: bool = Field(
        True, description="stop when no target atom is an outlier, nor far from every train atom; unless what follows"
    )
    energy_change: Positive | None = Field(
        1.0,
        description="meV/atom; zero_outliers waits while labels move the target's predicted energies by more (root "
        "mean square), or its energy zero is still being found; null: it does not wait for them",
    )
    force_change: Positive | None = Field(
        0.05, description="eV/Å; the same for its predicted forces; null: it does not wait for them"
    )
    vicinity_gain: NonNegative | None = Field(
        0.03,
        description="zero_outliers waits while the best remaining candidate would make the target's vicinity known "
        "better by more than this part; null: it does not wait for it",
    )
    plateau_cycles: PositiveInt | None = Field(
        None, description="stop after this many cycles with neither fewer outliers nor a smaller gap; null: never"
    )
    plateau_gain: NonNegative = Field(0.01, description="relative decrease of the gap that counts as smaller")


class Domain(Section):
    """Where a reference can be trusted. Outside, candidates are not labelled and labels are refused."""

    min_bond: NonNegative = Field(0.85, description="shortest bond over the sum of its covalent radii")
    scale: Bounds | None = Field(
        None, description="linear scale relative to the reference's own equilibrium of the same crystal"
    )


class Reference(Section):
    """What every reference has."""

    max_failed_fraction: float = Field(
        0.5, gt=0, le=1, description="the campaign stops when more than this part of its calculations fails; 1: never"
    )


class AseReference(Reference):
    """Any ASE calculator of the worker's environment."""

    engine: Literal["ase"] = "ase"
    calculator: str = Field(description="a short name (emt, lj, sevennet, ...) or module.Class of an ASE calculator")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the calculator")
    domain: Domain = Field(Domain(), description="where it can be trusted")
    threads: PositiveInt = Field(1, description="CPU threads of a calculator that uses torch; 1: labels repeat exactly")


class VaspDomain(Section):
    """Where DFT can be trusted: its projector spheres must not overlap much. It has no holes under compression."""

    min_bond: NonNegative = Field(0.85, description="shortest bond over the sum of its covalent radii")


#: custodian's handlers that look at single points; FrozenJobErrorHandler's own timeout of 6 h is too long for them
HANDLERS: dict[str, dict[str, Any]] = {
    "VaspErrorHandler": {},
    "StdErrHandler": {},
    "MeshSymmetryErrorHandler": {},
    "UnconvergedErrorHandler": {},
    "FrozenJobErrorHandler": {"timeout": 3600},
}


class VaspReference(Reference):
    """VASP single points under custodian."""

    engine: Literal["vasp"]
    input_set: str = Field("MatPESStaticSet", description="a class of pymatgen.io.vasp.sets")
    incar: dict[str, bool | int | float | str | list[Any] | dict[str, float] | None] = Field(
        default_factory=dict,
        description="tags laid over those of the input set; null takes one of its tags out; LDAUU, LDAUJ, LDAUL and "
        "MAGMOM by element, such as {Fe: 4.0}",
    )
    kspacing: Positive | None = Field(None, description="largest distance of k-points in Å⁻¹ (2π included), KSPACING")
    kpoints: Positive | tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="k-points per Å⁻³ of reciprocal space, or one grid for every cell; default: the input set's"
    )
    functional: str | None = Field(None, description="family of POTCARs, such as PBE_64; default: the input set's")
    potcars: dict[Element, str] = Field(default_factory=dict, description="POTCAR of an element, such as Fe: Fe_pv")
    magmoms: dict[Element, float] = Field(
        default_factory=dict, description="initial moment of each atom of an element, μ_B; default: the input set's"
    )
    handlers: dict[str, dict[str, Any]] = Field(
        HANDLERS, description="custodian's error handlers by class name, each with its arguments"
    )
    max_corrections: PositiveInt = Field(5, description="corrections of one calculation before it counts as failed")
    allow_changes: tuple[str, ...] = Field(
        (), description="INCAR tags (or KPOINTS) that a correction may change although they change the energy"
    )
    vasp_cmd: str = Field(">>vasp_cmd<<", description="how to start VASP; >>key<<: from the worker's env")
    scratch: str | None = Field(
        None, description="folder of the run directories, such as >>scratch<<; default: the launch directory"
    )
    keep: Literal["all", "failed", "none"] = Field(
        "failed", description="run directories that stay, compressed: all, those without an accepted label, or none"
    )
    walltime: Positive | None = Field(
        None, description="seconds for one calculation; default: what is left of the SLURM job, or no limit"
    )
    walltime_reserve: NonNegative = Field(300.0, description="seconds before the end of the job when VASP is stopped")
    poll: Positive = Field(5.0, description="seconds between two looks at the running calculation")
    domain: VaspDomain = Field(VaspDomain(), description="where it can be trusted")

    @model_validator(mode="after")
    def _check_rules(self) -> VaspReference:
        if self.kspacing is not None and self.kpoints is not None:
            raise ValueError("kspacing and kpoints are two rules for the same thing: give one of them")
        if self.magmoms and any(tag.upper() == "MAGMOM" for tag in self.incar):
            raise ValueError("magmoms and incar.MAGMOM are two rules for the same thing: give one of them")
        for tag, value in self.incar.items():
            for element in value if isinstance(value, dict) else ():
                try:
                    _known_element(element)
                except ValueError as error:
                    raise ValueError(f"incar.{tag}: {error}") from None
        return self


#: one model per engine; the first is meant where `engine` is missing
REFERENCES: dict[str, type[Reference]] = {"ase": AseReference, "vasp": VaspReference}


def _engine_of(value: Any) -> str:
    """Which of REFERENCES a `reference` section is."""
    return str(value.get("engine", "ase") if isinstance(value, dict) else getattr(value, "engine", "ase"))


AnyReference = Annotated[
    Annotated[AseReference, Tag("ase")] | Annotated[VaspReference, Tag("vasp")], Discriminator(_engine_of)
]


class Campaign(Section):
    """A campaign: what is known (train), what it is for (target), who labels (reference), and how."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="letters, digits and _ . -")
    description: str = ""
    preset: Literal["ours", "thesis"] = "ours"
    elements: tuple[Element, ...] | None = Field(None, description="the only elements allowed; default: those found")
    train: tuple[str, ...] = Field(min_length=1, description="labelled structures: extxyz, vasprun.xml, OUTCAR")
    target: tuple[str, ...] = Field(min_length=1, description="structures of interest; labels are used for errors only")
    parents: tuple[str, ...] = Field((), description="known crystals of the system: extxyz, POSCAR, CIF")
    evaluate: dict[SetName, tuple[str, ...]] = Field(
        {}, description="name: labelled files; further sets whose errors are shown, never used to choose anything"
    )
    dopant: Element | None = Field(
        None,
        description="force errors are shown by distance to it; default: the rarest element of the target, if one is",
    )
    reference: AnyReference
    descriptor: Descriptor = Descriptor()
    network: Network = Network()
    training: Training = Training()
    analysis: Analysis = Analysis()
    design: Design = Design()
    vicinity: Vicinity = Vicinity()
    stop: Stop = Stop()
    seed: int = Field(0, ge=0, description="of every random draw that is not a training seed")

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") == "thesis":
            return _merge(THESIS, data)
        return data

    @model_validator(mode="after")
    def _check_elements(self) -> Campaign:
        if self.elements is not None and len(set(self.elements)) != len(self.elements):
            raise ValueError("elements: an element is named twice")
        return self

    def picks_after(self, n_surrogates: int) -> int:
        """Surrogates to pick next when so many are labelled: `picks_per_cycle`, fewer where the budget N ends."""
        return max(0, min(self.design.picks_per_cycle, self.stop.max_surrogates - n_surrogates))


#: what the thesis did; spelt out in full, so that a change of our defaults does not change the preset
THESIS: dict[str, Any] = {
    "descriptor": Descriptor().model_dump(),
    "network": {"hidden": [60, 60]},
    "training": {
        "seeds": [0, 1, 2, 3, 4],
        # "200 iterations" read as 200 closures
        "max_closures": 200,
        # 10 steps without improvement, of torch's 20 iterations each; waiting for 10 iterations stops at chance
        "patience": 200,
        "validation_fraction": 0.1,
        "line_search": "none",
        "learning_rate": 0.1,
        "first_layer": "plain",
        "history": 100,
        "energy_loss": "total",
        "energy_weight": 1.0,
        "force_weight": 1.0,
        "force_weight_near": None,
    },
    "analysis": {"motif_measure": "density", "n_motifs": 20, "outlier_tolerance": 1e-6},
    "design": {
        "strategy": "key_motif",
        "selection": "top",
        "composition": "ignore",
        "picks_per_cycle": 1,
        "prototypes": list(PROTOTYPES),
        "derive_parents": False,
        "lattice_scan": "constants",
        "constant_range": [2.5, 7.0],
    },
    "stop": {
        "rule": "converged",
        "max_surrogates": 10,
        "max_cost": None,
        "zero_outliers": False,
        "energy_change": None,
        "force_change": None,
        "vicinity_gain": None,
        "plateau_cycles": None,
    },
}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """A copy of `below` with the entries of `above` laid over it, section by section."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def load_campaign(path: Path) -> Campaign:
    """Read and check a campaign file. Raises ConfigError with one line per mistake.

    A workflow file for `lpad add` is followed to the campaign file that its StartCampaign task names.
    """
    return parse_campaign(read_yaml(campaign_path(path)), source=str(path))


def campaign_path(path: Path) -> Path:
    """The campaign file itself: `path`, or the one that a workflow file at `path` starts (relative to its folder)."""
    data = read_yaml(path)
    if "fws" not in data:
        return path
    try:
        named = [t["campaign_file"] for f in data["fws"] for t in f["spec"]["_tasks"] if "campaign_file" in t]
        return find_upwards(Path(named[0]), path.resolve().parent)
    except (LookupError, TypeError, ValueError):
        raise ConfigError(
            f"{path} is a workflow file (it has `fws`), but no task in it names a campaign_file; "
            "`kmde submit --workflow` writes one that does"
        ) from None


def find_upwards(path: Path, start: Path) -> Path:
    """`path` itself if absolute, else looked for in `start` and in each folder above it (as git looks for .git)."""
    for folder in (start, *start.parents):
        if (folder / path).is_file():
            return folder / path
    raise ConfigError(
        f"no file {path} in {start} or any folder above it; give an absolute path, or work inside the project's folder"
    )


def parse_campaign(data: Any, source: str = "campaign") -> Campaign:
    """Check a campaign given as a dictionary. Raises ConfigError with one line per mistake."""
    if not isinstance(data, dict):
        raise ConfigError(
            f"{source}: a campaign file is a YAML mapping with keys such as name, train, target, reference"
        )
    try:
        return Campaign.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {sentence(e)}" for e in error.errors())) from None


HINTS = {
    "campaign": "`kmde init` writes one",
    "comparison": "fw_specs/compare_al_fe_pt.yaml is an example",
}
KEYS = {"campaign": "name, train, target, reference", "comparison": "name, campaign, strategies, seeds"}


#: entries that a YAML file may have once its aliases are written out, and how many times those that stand in it
MAX_ENTRIES, MAX_COPIES = 100_000, 10


class PlainLoader(yaml.SafeLoader):
    """YAML that runs nothing, and whose aliases cannot make a small file endless."""

    def get_single_node(self) -> yaml.Node | None:
        """The document; a ConstructorError if its aliases copy too much."""
        node: yaml.Node | None = super().get_single_node()
        sizes: dict[int, float] = {}
        if node is not None and _entries(node, sizes) > max(MAX_ENTRIES, MAX_COPIES * len(sizes)):
            text = f"its aliases (*name) make more than {MAX_ENTRIES} entries of it, or it contains itself"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
        return node


def _entries(node: yaml.Node, sizes: dict[int, float]) -> float:
    """How many entries a node has with every alias written out. sizes: those of the nodes seen so far, by id."""
    if id(node) not in sizes:
        sizes[id(node)] = math.inf  # until it is known: what contains itself has no end
        values = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
        sizes[id(node)] = 1 + sum(_entries(part, sizes) for part in parts)
    return sizes[id(node)]


class _UniqueKeyLoader(PlainLoader):
    """YAML in which a key that comes twice is an error: the first would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, its keys looked at first."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} comes twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, kind: str = "campaign") -> Any:
    """A YAML file that is a mapping, none of its keys twice. Raises ConfigError that calls it a file of that kind."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {kind} file {path}: {error.strerror}; {HINTS[kind]}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file; {HINTS[kind]}") from None
    try:
        data = yaml.load(text, _UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date or a number that is none; RecursionError: a list in a list in a list ...
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a {kind} file is a YAML mapping with keys such as {KEYS[kind]}")
    return data


def load_with(path: Path, changes: Iterable[dict[str, Any]], source: str) -> Campaign:
    """The campaign file at `path` with entries laid over its own, section by section. `source` begins the errors."""
    data = read_yaml(path)
    for change in changes:
        data = _merge(data, change)
    return parse_campaign(data, source)


def sentence(error: Any, model: type[BaseModel] = Campaign) -> str:
    """One pydantic error as: where, what, and for an unknown key the nearest known one."""
    location = list(error["loc"])
    top = model
    if location[:1] == ["reference"] and len(location) > 1 and location[1] in REFERENCES:
        model = REFERENCES[location.pop(1)]
    where = ".".join(str(part) for part in location)
    if error["type"] == "union_tag_invalid":
        engine = error["ctx"]["tag"]
        return (
            f"{where}.engine: there is no {engine!r}{did_you_mean(engine, REFERENCES)}; known: {', '.join(REFERENCES)}"
        )
    if error["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1] if model is top else location[1:-1])
        return f"unknown key {where!r}{did_you_mean(str(location[-1]), known)}; known here: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{where!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    for pydantics, ours in (
        ("a valid tuple", "a list"),
        ("Tuple should", "The list should"),
        ("a valid dictionary", "a mapping"),
    ):
        message = message.replace(pydantics, ours)
    given = f" (got {error['input']!r})" if where and not isinstance(error["input"], dict) else ""
    return f"{where}: {message}{given}" if where else message


def _keys_at(model: type[BaseModel], location: list[Any]) -> list[str]:
    section: Any = model
    for part in location:
        annotation = section.model_fields[part].annotation
        section = next(
            a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)
        )
    return list(section.model_fields)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A tail for an error sentence: the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else ""
