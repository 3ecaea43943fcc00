"""The comparison file: strategies × seeds, each of them one campaign made from one base campaign file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from kmde_fw.config import PositiveInt, Section, read_yaml, sentence
from kmde_fw.errors import ConfigError

StrategyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,24}$")]

#: options that a comparison sets itself, by where they are in a campaign file
_OURS = {
    ("name",): "the comparison's `name`",
    ("seed",): "`seeds`",
    ("training", "seeds"): "`seeds`",
    ("stop", "max_surrogates"): "`surrogates`",
    ("stop", "rule"): "the comparison: every campaign spends its N",
}


class Comparison(Section):
    """A comparison file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", description="letters, digits and _ -")
    campaign: str = Field(description="the base campaign file, relative to the folder of this one")
    strategies: dict[StrategyName, dict[str, Any]] = Field(
        min_length=1, description="name: what it changes in the base campaign, section by section"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, description="one campaign for each: seed of its draws and of its one training per cycle"
    )
    surrogates: PositiveInt = Field(10, description="N, which every campaign spends")
    workers: PositiveInt = Field(2, description="worker processes on this machine")

    @model_validator(mode="after")
    def _check(self) -> Comparison:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: a seed is named twice")
        for name, changes in self.strategies.items():
            for path, ours in _OURS.items():
                found: Any = changes
                for key in path:
                    found = found.get(key) if isinstance(found, dict) else None
                if found is not None:
                    raise ValueError(f"strategies.{name}.{'.'.join(path)}: is set by {ours}; take it out")
        return self

    @property
    def runs(self) -> list[Run]:
        """Every campaign of the comparison, strategy by strategy."""
        return [
            Run(strategy, seed, f"{self.name}.{strategy}.{seed}") for strategy in self.strategies for seed in self.seeds
        ]


@dataclass(frozen=True)
class Run:
    """One campaign of a comparison."""

    strategy: str
    seed: int
    campaign: str


def load_comparison(path: Path) -> Comparison:
    """Read and check a comparison file. Raises ConfigError with one line per mistake."""
    try:
        return Comparison.model_validate(read_yaml(path, "comparison"))
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {sentence(e, Comparison)}" for e in error.errors())) from None


def worker_order(runs: Sequence[Run], worker: int, workers: int) -> list[str]:
    """Campaigns in the order in which one of several workers takes them: those of its own seeds first.

    Campaigns of one seed begin with the same model; one worker trains it, and the others never wait for it nor train it
    a second time.
    """
    seeds = list(dict.fromkeys(run.seed for run in runs))
    return [
        r.campaign for r in sorted(runs, key=lambda r: ((seeds.index(r.seed) - worker) % workers, seeds.index(r.seed)))
    ]
