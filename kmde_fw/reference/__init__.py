"""Who labels. An engine is made from the campaign's `reference` section; its package is imported only when it works."""

from typing import TYPE_CHECKING

from kmde_fw import config
from kmde_fw.reference.base import Engine

if TYPE_CHECKING:
    from kmde_fw.reference.ase import AseEngine

__all__ = ["Engine", "make_engine"]


def make_engine(settings: config.AseReference) -> "AseEngine":
    """The engine that `settings.engine` names. Raises EngineError if this machine lacks the calculator."""
    from kmde_fw.reference.ase import AseEngine

    return AseEngine(settings)
