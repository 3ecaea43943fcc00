"""Trajectories of every kind give the same frames; bad ones a sentence."""

import tracemalloc

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from kmde_fw.errors import InputError
from kmde_fw.md.trajectory import kind_of, read_frames

KNOWN = ("Au", "Cu")


def frames(n=3, size=1):
    generator = np.random.default_rng(0)
    found = []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.7, cubic=True) * size
        atoms.symbols[0] = "Au"
        atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [0.2, 0, 0], [0.1, -0.3, 0]]), scale_atoms=True)
        atoms.positions += generator.normal(0, 0.05, (len(atoms), 3))
        atoms.info["step"] = 100 * k
        found.append(atoms)
    return found


def dump(found, columns="id type element xu yu zu", rows=None):
    """As LAMMPS writes it, atoms in any order."""
    text = ""
    for atoms in found:
        (xhi, _, _), (xy, yhi, _), (xz, yz, zhi) = atoms.cell.array
        bounds = [
            (min(0, xy, xz, xy + xz), xhi + max(0, xy, xz, xy + xz), xy),
            (min(0, yz), yhi + max(0, yz), xz),
            (0, zhi, yz),
        ]
        text += f"ITEM: TIMESTEP\n{atoms.info['step']}\nITEM: NUMBER OF ATOMS\n{len(atoms)}\n"
        text += "ITEM: BOX BOUNDS xy xz yz pp pp pp\n"
        text += "".join(" ".join(repr(float(x)) for x in row) + "\n" for row in bounds)
        text += f"ITEM: ATOMS {columns}\n"
        for i in np.random.default_rng(1).permutation(len(atoms)):
            values = {"id": i + 1, "type": 1 + (atoms.symbols[i] == "Cu"), "element": atoms.symbols[i]}
            values |= dict(zip(("xu", "yu", "zu"), map(float, atoms.positions[i]), strict=True))
            text += " ".join(str(values[c]) for c in columns.split()) + "\n"
    return text


@pytest.fixture
def write(tmp_path):
    def to(name, content):
        path = tmp_path / name
        path.write_text(content)
        return path

    return to


def test_every_kind_gives_the_same_frames(tmp_path, write):
    found = frames()
    ase.io.write(tmp_path / "run.extxyz", found)
    ase.io.write(tmp_path / "run.traj", found)
    files = [
        (tmp_path / "run.extxyz", "extxyz", None),
        (tmp_path / "run.traj", "traj", None),
        (write("run.lammpstrj", dump(found)), "dump", None),
        (write("types.dump", dump(found, "id type xu yu zu")), "dump", ["Au", "Cu"]),
    ]
    for path, kind, types in files:
        assert kind_of(path) == kind
        read = list(read_frames(path, KNOWN, types))
        assert [f.number for f in read] == [1, 2, 3]
        if kind != "traj":
            assert [f.step for f in read] == [0, 100, 200]
        for frame, atoms in zip(read, found, strict=True):
            assert frame.structure.species == tuple(atoms.get_chemical_symbols())
            np.testing.assert_allclose(frame.structure.cell, atoms.cell.array, atol=1e-7)
            np.testing.assert_allclose(frame.structure.positions, atoms.positions, atol=1e-7)


@pytest.mark.parametrize("kind", ["dump", "extxyz"])
def test_a_large_trajectory_takes_the_room_of_a_frame(write, kind):
    found = frames(2, size=3)
    text = dump(found)
    if kind == "extxyz":
        import io

        file = io.StringIO()
        ase.io.write(file, found, format="extxyz")
        text = file.getvalue()
    path = write(f"long.{kind}", text * 100)
    tracemalloc.start()
    n = sum(1 for _ in read_frames(path, KNOWN))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 200
    assert peak < path.stat().st_size / 4


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.lammpstrj", lambda: dump(frames())[:-30], r"frame 3: is incomplete, it begins in line 27 .*head -n 26"),
        ("a.lammpstrj", lambda: dump(frames())[:-1], "frame 3: is incomplete"),
        ("a.lammpstrj", lambda: dump(frames()).rpartition("ITEM: ATOMS")[0], "frame 3: is incomplete"),
        ("a.lammpstrj", lambda: dump(frames(), "id type xu yu zu"), "--elements Al,Fe,Pt"),
        ("a.lammpstrj", lambda: dump(frames(), "type element xu yu zu"), "has no column id"),
        ("a.lammpstrj", lambda: dump(frames(), "id type element"), "cannot be read as a LAMMPS dump"),
        ("a.lammpstrj", lambda: dump(frames()).replace("pp pp pp", "pp pp ff"), "not periodic in all three"),
        ("a.lammpstrj", lambda: dump(frames()).replace("Au", "Pt"), "frame 1 .step 0.: has Pt, and the model knows"),
        ("a.xyz", lambda: "2\nno cell\nCu 0 0 0\nAu 0 0 2.6\n", "has no cell that is periodic"),
        ("a.xyz", lambda: "2\nno cell\nCu 0 0 0\n", "cannot be read as extxyz"),
        ("a.xyz", lambda: "Once upon a time\n", "is neither extended XYZ"),
        ("a.xyz", lambda: "", "is empty"),
    ],
)
def test_bad_files_are_one_sentence(write, name, content, said):
    path = write(name, content())
    with pytest.raises(InputError, match=said) as error:
        list(read_frames(path, KNOWN))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("kind", "off"),
    [("dump", 30), ("dump", 1), ("extxyz", 30), ("extxyz", 1), ("extxyz", 300), ("traj", 1), ("traj", 200)],
)
def test_of_a_file_that_is_cut_off_the_whole_frames_are_taken(tmp_path, kind, off):
    path = tmp_path / f"run.{kind}"
    if kind == "dump":
        path.write_text(dump(frames()))
    else:
        ase.io.write(path, frames())
    path.write_bytes(path.read_bytes()[:-off])
    said: list[str] = []
    read = list(read_frames(path, KNOWN, cut_off=said.append))
    assert [frame.number for frame in read] == [1, 2]
    assert said == [f"{path} ends within frame 3; the 2 whole ones before it are taken"]
    with pytest.raises(InputError, match="if the run was killed"):
        list(read_frames(path, KNOWN))


def test_damage_within_a_file_is_no_end_of_it(write):
    text = dump(frames())
    second = text.index("ITEM: TIMESTEP", 10)
    path = write("a.lammpstrj", text[: text.rindex("\n", 0, second - 1) + 1] + text[second:])
    with pytest.raises(InputError, match="frame 1: is incomplete"):
        list(read_frames(path, KNOWN, cut_off=lambda _: None))
    path = write("b.lammpstrj", text[: second - 20])
    with pytest.raises(InputError, match="frame 1: is incomplete"):
        list(read_frames(path, KNOWN, cut_off=lambda _: None))


def test_a_compressed_file_that_is_cut_off_is_a_sentence(tmp_path):
    import gzip

    path = tmp_path / "run.dump.gz"
    path.write_bytes(gzip.compress(dump(frames(20)).encode())[:-50])
    with pytest.raises(InputError, match=r"cannot be read .*ended before the end-of-stream"):
        list(read_frames(path, KNOWN))


def test_more_types_than_names_missing_files_and_bytes(write, tmp_path):
    path = write("a.dump", dump(frames(), "id type xu yu zu"))
    with pytest.raises(InputError, match="has 2 types, and --elements names 1"):
        list(read_frames(path, KNOWN, ["Cu"]))
    with pytest.raises(InputError, match="no such file"):
        list(read_frames(tmp_path / "none.xyz", KNOWN))
    (tmp_path / "bytes.dump").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="is neither"):
        list(read_frames(tmp_path / "bytes.dump", KNOWN))
