"""Damaged and made-up inputs, and what must come of each: it is taken, or refused with a sentence.

Files begin as good ones and are changed at places and in ways that hypothesis draws; campaign files are also drawn as
data. A case fails on any error that is not ours, and on one that takes longer than SLOW.
"""

from __future__ import annotations

import gzip
import signal
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from kmde_fw.config import Campaign, parse_campaign, read_yaml
from kmde_fw.errors import KmdeError

SEEDS = Path(__file__).parent / "seeds"
CU_AU = Path(__file__).parents[2] / "fw_specs" / "cu_au"
#: CPU seconds that no input may take, the import of its reader included
SLOW = 15.0

#: pieces that files of these kinds break at
PIECES = [
    b"", b"\n", b"\x00", b"\xff\xfe", b" ", b"-", b"nan", b"inf", b"1e999", b"-1", b"0", b"99999999999", b"9" * 400,
    b"1e-320", b"X", b"Zz", b"<", b"</modeling>", b"&amp;", b"]]>", b'"', b"'", b"{", b"}", b"[", b"]", b": ", b"*****",
    b"Lattice=", b"Properties=", b"species:S:1:pos:R:3", b"pos:R:99", b'pbc="F F F"', b"T", b"\xc3\xa9", b"- ", b"? ",
    b"&a [*a]", b"*a", b"<<: ", b"!!python/object/apply:os.system [true]", b"!!binary x", b"2001-99-99", b"1:99:99",
    b"0x", b"0o9", b"~", b"true", b"#", b"%", b"@", b"`", b"|", b">", b"\t", b"\r\n", b"1_0", b".", b"e", b"Direct\n",
    b"Cartesian\n", b"Selective dynamics\n", b"[" * 3000,
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, seed: bytes) -> bytes:
    """A file with one to four changes: a piece put in or over, a part doubled, taken out or cut off."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.integers(0, 5))
        if how <= 1:
            piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)))
            data[at : at + (len(piece) if how else 0)] = piece
        elif how == 2:
            data[at : at + draw(st.integers(1, 80))] = b""
        elif how == 3:
            part = data[at : at + draw(st.integers(1, 200))]
            data[at:at] = part
        elif how == 4:
            del data[at:]
        elif at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


#: what YAML can say
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(), st.binary(max_size=4),
    st.sampled_from(["emt", "ase", "vasp", "thesis", "train.extxyz", "Cu", "Au", "Xx", "environment", 0, -1, 1e300]),
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


def _keys(model: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every option of a campaign as its path."""
    found = []
    for name, field in model.model_fields.items():
        found.append((*path, name))
        if hasattr(field.annotation, "model_fields"):
            found += _keys(field.annotation, (*path, name))
    return found


KEYS = [*_keys(Campaign), ("reference", "calculator"), ("reference", "arguments"), ("reference", "domain", "scale")]


@st.composite
def campaigns(draw: st.DrawFn) -> dict[Any, Any]:
    """The Cu-Au campaign with other values for some options, or options that do not exist."""
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(KEYS))
        inner = data
        for key in path[:-1]:
            if not isinstance(inner.get(key), dict):
                inner[key] = {}
            inner = inner[key]
        name = path[-1] if draw(st.integers(0, 4)) else draw(st.one_of(st.text(max_size=10), st.integers(), st.none()))
        inner[name] = draw(_VALUES)
    return data


def _too_slow(*_: object) -> None:
    raise AssertionError(f"still at it after {SLOW:.0f} s")


def _ours(function: Callable[[], Any]) -> None:
    """Nothing, if it returns or raises one of our sentences, in time."""
    begin = time.process_time()
    sentence = "no error"
    # what hangs is ended, too; whoever catches this was still too slow
    signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, SLOW + 1.0)
    try:
        function()
    except KmdeError as error:
        sentence = str(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
    assert sentence.strip(), "an error without a word"
    assert len(sentence) < 20_000, "an error that nobody can read"
    seconds = time.process_time() - begin
    assert seconds < SLOW, f"took {seconds:.1f} s"


def campaign_data(folder: Path, data: dict[Any, Any]) -> None:
    """Checked as the data of a campaign file."""
    _ours(lambda: parse_campaign(data, "fuzz.yaml"))


def campaign_file(folder: Path, data: bytes) -> None:
    """Read as a campaign file."""
    from kmde_fw.config import load_campaign

    path = folder / "fuzz.yaml"
    path.write_bytes(data)
    _ours(lambda: load_campaign(path))
    _ours(lambda: read_yaml(path))


def structures(name: str) -> Callable[[Path, bytes], None]:
    """Read as a structure file of that name, with and without labels."""

    def read(folder: Path, data: bytes) -> None:
        from kmde_fw.inputs import read_labelled, read_target

        path = folder / name
        path.write_bytes(data)
        _ours(lambda: read_target(path))
        if "POSCAR" not in name:
            _ours(lambda: read_labelled(path))

    return read


def vasp_run(name: str) -> Callable[[Path, bytes], None]:
    """Read as a VASP run, whole and as far as it goes."""

    def read(folder: Path, data: bytes) -> None:
        from kmde_fw.reference.vasp.parse import read_file

        path = folder / name
        path.write_bytes(data)
        _ours(lambda: read_file(path, whole=len(data) % 2 == 0))

    return read


def model(folder: Path, data: bytes) -> None:
    """Read as a model file, and used if it is one."""
    from kmde_fw.hdnnp.model_file import from_bytes
    from kmde_fw.inputs import read_structures

    def use() -> None:
        from_bytes(data, "fuzz.safetensors").predict(read_structures(CU_AU / "cuau.cif")[0])

    _ours(use)


@cache
def model_bytes() -> bytes:
    """A small model."""
    from kmde_fw.config import Descriptor, Network, Training
    from kmde_fw.hdnnp.model_file import to_bytes
    from kmde_fw.hdnnp.training import train
    from kmde_fw.inputs import read_labelled

    data = read_labelled(CU_AU / "train.extxyz")[:2]
    small = Descriptor(radial_eta=(0.05,), angular_eta=(0.01,), angular_zeta=(1,))
    trained, _ = train(data, ("Au", "Cu"), small, Network(hidden=(2,)), Training(max_closures=2), 0)
    return to_bytes(trained)


def _text(path: Path, lines: int | None = None) -> bytes:
    return "".join(path.read_text().splitlines(keepends=True)[:lines]).encode()


def seeds() -> dict[str, tuple[Any, Callable[[Path, Any], None], int]]:
    """Kind -> how a case is drawn, what is done with it, and its share of all cases."""
    extxyz = _text(CU_AU / "train.extxyz", 2 + int((CU_AU / "train.extxyz").read_text().split("\n")[0]))
    campaign, poscar = _text(CU_AU / "campaign.yaml"), _text(SEEDS / "POSCAR")
    vasprun, outcar = _text(SEEDS / "vasprun.xml"), _text(SEEDS / "OUTCAR")
    return {
        "campaign data": (campaigns(), campaign_data, 30),
        "campaign file": (damaged(campaign), campaign_file, 15),
        "extxyz": (damaged(extxyz), structures("fuzz.extxyz"), 15),
        "extxyz.gz": (damaged(gzip.compress(extxyz)), structures("fuzz.extxyz.gz"), 2),
        "POSCAR": (damaged(poscar), structures("POSCAR"), 15),
        "vasprun.xml": (damaged(vasprun), structures("vasprun.xml"), 4),
        "vasprun.xml of a run": (damaged(vasprun), vasp_run("vasprun.xml"), 3),
        "OUTCAR of a run": (damaged(outcar), vasp_run("OUTCAR"), 1),
        "model": (damaged(model_bytes()), model, 15),
    }
