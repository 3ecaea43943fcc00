"""Inputs, level of theory, POTCARs: what is asked of VASP, and which labels may be mixed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk

from kmde_fw.config import VaspReference, parse_campaign
from kmde_fw.errors import ConfigError, EngineError
from kmde_fw.records import Structure
from kmde_fw.reference import describe_level, level_differences
from kmde_fw.reference.vasp import tags
from kmde_fw.reference.vasp.checks import check_geometry, check_level
from kmde_fw.reference.vasp.inputs import level_tags, make_inputs
from kmde_fw.reference.vasp.parse import read_outcar, read_run


def test_atoms_are_sorted_by_species_and_back(engine, crystal, tmp_path):
    inputs = make_inputs(engine().settings, crystal)
    inputs.write(tmp_path)
    lines = (tmp_path / "POSCAR").read_text().splitlines()
    assert lines[5].split() == ["Au", "Cu"]
    assert lines[6].split() == ["1", "3"]
    assert inputs.symbols == ("Au", "Cu_pv")
    assert (tmp_path / "POTCAR").read_text().count("TITEL") == 2
    assert (tmp_path / "POTCAR").stat().st_mode & 0o077 == 0, "for its owner only"
    read = np.array([line.split()[:3] for line in lines[8:12]], dtype=float)
    np.testing.assert_allclose(read @ crystal.cell, crystal.positions[inputs.order], atol=1e-13)
    assert not (tmp_path / "KPOINTS").exists()


def test_initial_moments_are_given_by_element(engine, crystal):
    assert make_inputs(engine(magmoms={"Cu": 0.0, "Au": 2.5}).settings, crystal).incar["MAGMOM"] == [2.5, 0, 0, 0]
    by_tag = make_inputs(engine(incar={"MAGMOM": {"Cu": 0.0, "Au": 2.5}}).settings, crystal).incar
    assert by_tag["MAGMOM"] == [2.5, 0, 0, 0]
    assert make_inputs(engine().settings, crystal).incar["MAGMOM"] == [0.6] * 4
    assert "MAGMOM" not in make_inputs(engine(incar={"ISPIN": 1}).settings, crystal).incar


def test_u_is_given_by_element(engine, crystal):
    made = engine(incar={"LDAU": True, "LDAUU": {"Cu": 4.0}})
    incar = make_inputs(made.settings, crystal).incar
    # in the order of POSCAR, Au before Cu; what VASP would take as 1 eV is written as 0
    assert [incar[tag] for tag in ("LDAUU", "LDAUJ", "LDAUL")] == [[0, 4.0], [0, 0], [0, 2]]
    assert made.level["incar"] | {"LDAU": True, "LDAUU": {"Cu": 4.0}, "LDAUL": {"Cu": 2.0}} == made.level["incar"]
    # a cell without such an element is calculated as it is without U, at the same level
    gold = make_inputs(made.settings, Structure.from_atoms(bulk("Au"))).incar
    assert not [tag for tag in gold if tag.startswith("LDAU")]
    keys = {made.level_key, engine().level_key}
    for other in ({"LDAUU": {"Cu": 4.5}}, {"LDAUJ": {"Cu": 1.0}}, {"LDAUL": {"Cu": 1}}, {"LDAUTYPE": 1}):
        keys.add(engine(incar={"LDAU": True, "LDAUU": {"Cu": 4.0}, **other}).level_key)
    assert len(keys) == 6


def test_u_that_depends_on_the_other_elements_is_two_levels(potcars):
    settings = VaspReference(engine="vasp", input_set="MPStaticSet", incar={"EDIFF": 1e-5})
    with pytest.raises(EngineError, match=r"gives Fe another U in a cell of Fe than in one of Fe O"):
        _ = level_tags(settings, ("Fe", "O"))
    fixed = settings.model_copy(update={"incar": {"EDIFF": 1e-5, "LDAU": True, "LDAUU": {"Fe": 5.3}}})
    assert level_tags(fixed, ("Fe", "O"))["LDAUU"] == {"Fe": 5.3}


def test_u_of_the_same_elements_in_another_order_is_the_same():
    first = tags.hubbard({"LDAU": True, "LDAUU": [0, 4], "LDAUJ": [0, 0], "LDAUL": [-1, 2]}, ["Al", "Fe", "Fe"])
    assert first == tags.hubbard({"LDAU": "T", "LDAUU": [4, 0], "LDAUJ": 0, "LDAUL": [2, 0]}, ["Fe", "Fe", "Al"])
    assert first == {"Fe": {"LDAUU": 4.0, "LDAUJ": 0.0, "LDAUL": 2.0}}
    assert tags.hubbard({"LDAU": True}, ["Al"])["Al"]["LDAUU"] == 1.0, "VASP's own"


def test_the_campaign_overrides_the_input_set(engine, crystal, tmp_path):
    incar = make_inputs(engine(incar={"encut": 520, "LREAL": "Auto"}, kspacing=0.3).settings, crystal).incar
    assert incar["ENCUT"] == 520
    assert incar["LREAL"] == "Auto"
    assert incar["KSPACING"] == 0.3
    assert incar["NSW"] == 0
    assert incar["LCHARG"] is False
    r2scan = make_inputs(engine(incar={"GGA": None, "METAGGA": "R2SCAN"}).settings, crystal).incar
    assert "GGA" not in r2scan
    assert r2scan["METAGGA"].upper() == "R2SCAN"
    for kpoints, grid in (([2, 3, 4], (2, 3, 4)), (100.0, (7, 7, 7))):
        inputs = make_inputs(engine(kpoints=kpoints).settings, crystal)
        inputs.write(tmp_path)
        assert inputs.grid == grid
        assert (tmp_path / "KPOINTS").read_text().splitlines()[2].startswith("Gamma")
        assert "KSPACING" not in inputs.incar
    assert make_inputs(engine(kspacing=0.3).settings, crystal).grid == (6, 6, 6)


@pytest.mark.parametrize("n", [2, 300])
def test_cells_of_2_to_300_atoms(engine, n):
    atoms = bulk("Cu", "hcp", 2.6) if n == 2 else bulk("Cu", "fcc", 3.6, cubic=True) * (3, 5, 5)
    structure = Structure.from_atoms(atoms)
    assert len(structure) == n
    inputs = make_inputs(engine().settings, structure)
    assert len(inputs.incar["MAGMOM"]) == n


@pytest.mark.parametrize(("reference", "message"), [
    ({"input_set": "MatPESStaticSett"}, "did you mean 'MatPESStaticSet'"),
    ({"incar": {"ENCUTT": 500}}, "VASP has no tag 'ENCUTT': did you mean 'ENCUT'"),
    ({"incar": {"NSW": 10}}, "NSW = 10: labels are single points"),
    ({"incar": {"NELECT": 10}}, "NELECT cannot be one number for cells of all sizes"),
    ({"incar": {"MAGMOM": [1, 2]}}, "MAGMOM = .* is of one cell; give it by element"),
    ({"incar": {"RWIGS": [1, 2]}}, "RWIGS = .* is of one cell; leave it out"),
    ({"incar": {"ENCUT": {"Cu": 500}}}, "ENCUT is one value for all elements; by element can be LDAUU, "),
    ({"incar": {"LDAU": True, "LDAUU": [0, 4]}}, "LDAUU = .* is of one cell; give it by element"),
    ({"incar": {"LDAUU": {"Cu": 4}}}, "LDAUU without LDAU: true has no effect"),
    ({"incar": {"LDAU": True, "LDAUJ": {"Cu": 1}}}, "LDAUJ without LDAUU has no effect"),
    ({"incar": {"LDAU": True, "LDAUU": {"Cu": 4}, "LDAUJ": {"Au": 1}}}, "LDAUJ names Au, and LDAUU does not"),
    ({"incar": {"LDAU": True, "LDAUU": {"Cu": -4}}}, "LDAUU of Cu is -4: it cannot be negative"),
    ({"incar": {"LDAU": True, "LDAUU": {"Fe": 4}}}, "reference.incar.LDAUU names Fe; the campaign's"),
    ({"magmoms": {"Fe": 4}}, "reference.magmoms names Fe; the campaign's elements are Au, Cu"),
    ({"incar": {"LSORBIT": True}}, "only collinear spins"),
    ({"functional": "PBE_65"}, "there are no POTCARs 'PBE_65': did you mean"),
    ({"potcars": {"Cu": "Cu_sv"}}, "no POTCAR 'Cu_sv' of PBE_64 in .*: did you mean 'Cu_pv'"),
    ({"input_set": "MPStaticSet", "functional": "PBE_64"}, "gives EDIFF = .* two levels of theory; fix it with"),
])  # fmt: skip
def test_what_the_campaign_file_gets_wrong_is_a_sentence(engine, reference, message):
    with pytest.raises(EngineError, match=message):
        _ = engine(**reference).level


@pytest.mark.parametrize(("handlers", "message"), [
    ({"VaspErorHandler": {}}, "custodian has no 'VaspErorHandler': did you mean 'VaspErrorHandler'"),
    ({"FrozenJobErrorHandler": {"timout": 1}}, "takes no 'timout': did you mean 'timeout'"),
])  # fmt: skip
def test_handlers_are_checked(engine, handlers, message):
    with pytest.raises(EngineError, match=message):
        engine(handlers=handlers)


def test_no_library(engine, monkeypatch):
    from pymatgen.core import SETTINGS

    made = engine()
    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR")
    with pytest.raises(EngineError, match="PMG_VASP_PSP_DIR is not set"):
        _ = made.level


def test_the_level_of_theory(engine):
    level = engine().level
    assert level["incar"]["ENCUT"] == 680
    assert level["incar"]["ISPIN"] == 2
    assert not {"ALGO", "NELM", "LWAVE", "MAGMOM"} & set(level["incar"])
    assert level["kpoints"] == {"KSPACING": 0.22, "KGAMMA": True}
    cu = level["potcars"]["Cu"]
    assert {k: cu[k] for k in ("symbol", "functional", "titel", "lexch", "zval", "enmax")} == {
        "symbol": "Cu_pv", "functional": "PBE_64", "titel": "PAW_PBE Cu_pv 06Sep2000", "lexch": "PE", "zval": 17.0,
        "enmax": 368.6,
    }  # fmt: skip
    assert len(cu["sha256"]) == 64
    assert "local part" not in json.dumps(level)
    assert describe_level(level) == (
        "VASP, PBE, ENCUT 680 eV, k-points every 0.22 Å⁻¹, PAW_PBE Au 04Oct2007, PAW_PBE Cu_pv 06Sep2000"
    )
    other = engine(kpoints=[4, 4, 4], incar={"LDAU": True, "LDAUU": {"Cu": 4.0}}).level
    assert "k-points 4×4×4, U of Cu 4 eV" in describe_level(other)


def test_only_what_decides_the_energy_is_in_the_key(engine):
    key = engine().level_key
    for same in (
        {"incar": {"ALGO": "Fast", "NCORE": 4, "NELM": 500}},
        {"keep": "all"},
        {"handlers": {}},
        {"incar": {"ENCUT": 680}},
    ):
        assert engine(**same).level_key == key, same
    for other in (
        {"incar": {"ENCUT": 520}},
        {"kspacing": 0.3},
        {"kpoints": 100},
        {"magmoms": {"Cu": 1}},
        {"incar": {"SIGMA": 0.1}},
        {"incar": {"kspacing": 0.3}},
    ):
        assert engine(**other).level_key != key, other


def test_another_potcar_of_the_same_title_is_another_level(engine, library):
    first = engine().level
    path = library / "POT_PAW_PBE_64" / "POTCAR.Cu_pv"
    text = path.read_text()
    path.write_text(text.replace("  1.0\n", "  1.1\n"))
    try:
        second = engine().level
    finally:
        path.write_text(text)
    (difference,) = level_differences(first, second)
    assert difference.startswith("potcars.Cu.sha256: ")


@pytest.mark.parametrize(("first", "second", "expected"), [
    (1e-5, 0.00001, True), ("Accurate", "accura", True), (True, ".TRUE.", True), (False, "F", True), ("Pe", "PE", True),
    (2, 2.0, True), ([2.0, 2.0], [2, 2], True), (520, 680, False), (True, False, False), ("Fast", "Normal", False),
    ([1, 2], [1], False), ("Auto", False, False), (-5, 0, False),
])  # fmt: skip
def test_values_of_tags_are_compared_by_meaning(first, second, expected):
    assert tags.same(first, second) is expected
    assert tags.same(second, first) is expected


def test_a_functional_is_not_the_one_whose_name_it_begins_with():
    assert tags.changes({"METAGGA": "R2SCAN", "PREC": "accura"}, {"METAGGA": "R2SCANL", "PREC": "Accurate"}) == {
        "METAGGA": ["R2SCAN", "R2SCANL"]
    }
    assert tags.changes({"METAGGA": "R2scan"}, {"METAGGA": "R2SCAN"}) == {}


def test_levels_allowed_and_refused():
    changed = {"ALGO": ["Fast", "All"], "ISMEAR": [-5, 0], "KPOINTS": ["4 4 4", "5 5 5"]}
    assert "ISMEAR -5 → 0, KPOINTS 4 4 4 → 5 5 5" in check_level(changed, ["SIGMA"])
    assert check_level(changed, ["ismear", "kpoints"]) == ""


def test_a_whole_lattice_vector_is_no_move(engine, crystal, tmp_path):
    engine(keep="all").label(crystal, tmp_path)
    run = read_run(next(tmp_path.iterdir()))
    shifted = Structure(run.structure.species, crystal.cell, run.structure.positions + crystal.cell[1])
    assert check_geometry(run, shifted) == ""
    wrong = Structure(run.structure.species, crystal.cell * 1.001, run.structure.positions)
    assert check_geometry(run, wrong).startswith("the cell has changed by")
    # and an OUTCAR says the same as vasprun.xml, to its own digits
    other = read_outcar(next(tmp_path.iterdir()) / "OUTCAR.gz")
    assert other.energies["e_fr_energy"] == run.energy
    assert other.titels == run.titels
    np.testing.assert_allclose(other.forces, run.forces, atol=1e-8)
    np.testing.assert_allclose(other.stress, run.stress, atol=1e-7)


def test_cost(engine, crystal):
    cost = engine().cost(crystal)
    assert cost["electrons"] == 3 * 17 + 11
    assert cost["plane_waves"] == pytest.approx(crystal.volume * (0.262468 * 680) ** 1.5 / (6 * np.pi**2), rel=1e-3)
    assert cost["k_points"] == 8 * 8 * 8 / 2
    assert engine(kspacing=0.5).cost(crystal)["work"] < cost["work"]


@pytest.mark.parametrize(("reference", "message"), [
    ({"engine": "vsap"}, "reference.engine: there is no 'vsap': did you mean 'vasp'"),
    ({"engine": "vasp", "incarr": {}}, "unknown key 'reference.incarr': did you mean 'incar'"),
    ({"engine": "vasp", "domain": {"scale": [0.9, 1.1]}}, "unknown key 'reference.domain.scale'"),
    ({"engine": "vasp", "kspacing": 0.2, "kpoints": 100}, "two rules for the same thing"),
    ({"calculator": "emt", "argument": {}}, "unknown key 'reference.argument': did you mean 'arguments'"),
    ({"engine": "vasp", "incar": {"LDAUU": {"Xx": 4}}}, "incar.LDAUU: 'Xx' is not a chemical element"),
    ({"engine": "vasp", "incar": {"MAGMOM": {"Cu": 1}}, "magmoms": {"Cu": 1}}, "two rules for the same thing"),
    ({"engine": "vasp", "keep": "some"}, "reference.keep"),
    ({"engine": "vasp", "max_failed_fraction": 0}, "reference.max_failed_fraction"),
])  # fmt: skip
def test_the_reference_section_is_strict(reference, message):
    with pytest.raises(ConfigError, match=message):
        parse_campaign({"name": "x", "train": ["a"], "target": ["b"], "reference": reference})
