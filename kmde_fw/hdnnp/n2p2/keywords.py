"""input.nn: keywords and their values, checked for what this package can and cannot represent."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kmde_fw.errors import InputError

#: keywords that decide what a potential predicts, and that we understand
UNDERSTOOD = frozenset(
    {
        "number_of_elements", "elements", "atom_energy", "cutoff_type", "cutoff_alpha", "symfunction_short",
        "scale_symmetry_functions", "center_symmetry_functions", "scale_symmetry_functions_sigma",
        "scale_min_short", "scale_max_short", "global_hidden_layers_short", "global_nodes_short",
        "global_activation_short", "normalize_nodes", "mean_energy", "conv_energy", "conv_length",
        "nnp_type", "nn_type_short",
    }
)  # fmt: skip
ALIASES = {
    "symfunction": "symfunction_short",
    "nnp_generation": "nnp_type",
    "nnp_type_gen": "nnp_type",
    "nnp_gen": "nnp_type",
}
#: keyword -> what is there that we have not
REFUSED = {
    "element_hidden_layers_short": "networks that differ from element to element",
    "element_nodes_short": "networks that differ from element to element",
    "element_activation_short": "networks that differ from element to element",
    "global_symfunction_short": "RuNNer's short form, which n2p2 does not read; write out every symfunction_short",
    "element_symfunction_short": "RuNNer's short form, which n2p2 does not read; write out every symfunction_short",
    "scale_min_short_atomic": "RuNNer's name, which n2p2 does not read; call it scale_min_short",
    "scale_max_short_atomic": "RuNNer's name, which n2p2 does not read; call it scale_max_short",
    "pairsymfunction_short": "a potential of pairs",
    "use_electrostatics": "electrostatics",
    "use_fixed_charges": "electrostatics",
    "use_vdw": "a dispersion correction",
}
#: these may come more than once
REPEATED = frozenset({"symfunction_short", "atom_energy"})
#: a keyword that is neither understood nor refused, and as similar as this to one that is: a misprint
MISPRINT = 0.85
#: RuNNer's keywords for other networks than that of the atoms' energies
_OTHER_NETWORKS = re.compile(r".*_(pair|elec|electrostatic|hybrid)$")


@dataclass(frozen=True)
class Entry:
    """One keyword: its line and the words after it."""

    where: str
    words: tuple[str, ...]

    def number(self, place: int = 0) -> float:
        """The word at `place` as a number. Raises InputError."""
        try:
            return float(self.words[place].replace("D", "E").replace("d", "e"))
        except IndexError:
            raise InputError(f"{self.where}: a number is missing") from None
        except ValueError:
            raise InputError(f"{self.where}: {self.words[place]!r} is no number") from None

    def whole(self, place: int = 0) -> int:
        """The word at `place` as a whole number. Raises InputError."""
        value = self.number(place)
        if not value.is_integer():
            raise InputError(f"{self.where}: {self.words[place]!r} is no whole number")
        return int(value)


class Keywords:
    """What an input.nn says, by keyword; `comments` is the text that n2p2 does not read.

    Raises InputError for a file that is no input.nn, a keyword that comes twice, one that we cannot represent, and a
    misprint of one that matters. Other keywords (of training, say) have no influence and are not looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, list[Entry]] = {}
        comments = []
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            content = re.split(r"[#!]", line, maxsplit=1)[0]
            comments.append(line[len(content) :])
            words = content.split()
            if words:
                name = ALIASES.get(words[0], words[0])
                entry = Entry(f"{path}, line {number} ({words[0]})", tuple(words[1:]))
                self._check(name, entry)
                self.entries.setdefault(name, []).append(entry)
        self.comments = "\n".join(comments)
        if not self.entries.keys() & UNDERSTOOD:
            raise InputError(f"{path}: has none of the keywords of n2p2 or RuNNer; this is something else")

    def _check(self, name: str, entry: Entry) -> None:
        if name in REFUSED:
            raise InputError(f"{entry.where}: cannot be represented: {REFUSED[name]}")
        if name in self.entries and name in UNDERSTOOD and name not in REPEATED:
            raise InputError(f"{entry.where}: is there a second time; n2p2 would not read this either")
        if name not in UNDERSTOOD and not _OTHER_NETWORKS.match(name):
            near = difflib.get_close_matches(name, UNDERSTOOD | ALIASES.keys(), n=1, cutoff=MISPRINT)
            if near:
                raise InputError(f"{entry.where}: there is no such keyword; did you mean {near[0]!r}?")

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def all(self, name: str) -> Sequence[Entry]:
        """Every entry of a keyword."""
        return self.entries.get(name, [])

    def one(self, name: str) -> Entry:
        """The entry of a keyword that must be there. Raises InputError."""
        if name not in self.entries:
            raise InputError(f"{self.path}: {name} is missing; is the file cut off?")
        return self.entries[name][0]

    def number(self, name: str, default: float) -> float:
        """The number that a keyword gives, or the default."""
        return self.one(name).number() if name in self else default


def read_text(path: Path) -> str:
    """A text file. Raises InputError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file") from None
