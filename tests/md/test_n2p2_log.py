"""Extrapolation warnings of n2p2 in a LAMMPS log: found again in the model, added up, refused where foreign."""

import numpy as np
import pytest

from kmde_fw.errors import InputError
from kmde_fw.hdnnp.n2p2.write import written_functions
from kmde_fw.md.n2p2_log import read_warnings


def warning(model, element, place, value, atom=7, old=False):
    """As n2p2 prints it: SymFncStatistics::getExtrapolationWarningLines."""
    function, column = written_functions(model, element)[place]
    k = model.elements.index(element)
    low, high = model.minimum[k, column], model.maximum[k, column]
    numbers = f"VALUE: {value:10.3E} MIN: {low:10.3E} MAX: {high:10.3E}\n"
    if old:
        return f"### NNP EXTRAPOLATION WARNING ### STRUCTURE: {0:6d} ATOM: {atom:6d} SYMFUNC: {place:4d} {numbers}"
    return (
        f"### NNP EXTRAPOLATION WARNING ### STRUCTURE: {0:6d} ATOM: {atom:9d} ELEMENT: {element:>2s} "
        f"SYMFUNC: {place + 1:4d} TYPE: {function.kind:2d} {numbers}"
    )


THERMO = "   Step          Temp          E_pair\n"


@pytest.fixture
def log(tmp_path):
    def write(*lines):
        path = tmp_path / "log.lammps"
        path.write_text("LAMMPS (22 Jul 2025)\n" + "".join(lines) + "Loop time of 1.0 on 1 procs\n")
        return path

    return write


def test_warnings_are_added_up_by_function_with_when_and_by_whom(model, log):
    high = model.maximum[1].max() + 5
    path = log(
        THERMO,
        "         0   300.0   -10.0\n",
        "       100   310.0   -10.1\n",
        warning(model, "Cu", 2, high, atom=7),
        warning(model, "Cu", 2, high + 1, atom=9),
        warning(model, "Au", 4, -1.0, atom=1),
        "       200   320.0   -10.2\n",
        warning(model, "Cu", 2, high, atom=7),
        "### NNP EW SUMMARY ### TS:        300 EW         11 EWPERSTEP  1.100E-01\n",
        "       300   320.0   -10.2\n",
    )
    found = read_warnings(path, model)
    facts = found.to_document(model.symmetry_functions.keys)
    assert (facts["warnings"], facts["steps"]) == (4, [0, 300])
    assert facts["summaries"] == [{"step": 300, "warnings": 11}]
    copper, gold = facts["functions"]
    column = written_functions(model, "Cu")[2][1]
    assert copper["function"] == model.symmetry_functions.keys[column]
    assert (copper["element"], copper["times"], copper["atoms"]) == ("Cu", 3, [7, 9])
    assert (copper["first_after"], copper["first_by"]) == (100, 200)
    assert copper["value"] == pytest.approx(high + 1, rel=1e-3)
    assert copper["excess"] > 0
    assert gold["value"] == -1.0
    assert gold["high"] == model.maximum[0, written_functions(model, "Au")[4][1]]


def test_the_older_form_without_element_is_found_by_its_range(model, log):
    found = read_warnings(log(warning(model, "Cu", 5, 99.0, old=True)), model)
    (warned,) = found.functions
    assert (warned.element, warned.column) == ("Cu", written_functions(model, "Cu")[5][1])
    assert warned.by is None


def test_every_function_is_found_again(model, log):
    for element in model.elements:
        k = model.elements.index(element)
        order = written_functions(model, element)
        lines = [warning(model, element, place, 99.0) for place in range(len(order))]
        found = read_warnings(log(*lines), model)
        assert [w.column for w in found.functions] == [column for _, column in order]
        assert np.isfinite(model.maximum[k]).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: line.replace("MAX:  ", "MAX: 9"), "of another potential"),
        (lambda line: line.replace("TYPE:  2", "TYPE:  9"), "of another potential"),
        (lambda line: line.replace("ELEMENT: Cu", "ELEMENT: Pt"), "of another potential"),
        (lambda line: line[:80] + "\n", "line 2: is no whole warning"),
        (lambda line: "", "has no extrapolation warnings"),
    ],
)
def test_foreign_and_broken_logs_are_one_sentence(model, log, change, said):
    with pytest.raises(InputError, match=said) as error:
        read_warnings(log(change(warning(model, "Cu", 0, 99.0))), model)
    assert "\n" not in str(error.value)


def test_the_last_line_of_a_killed_run_is_left_out(model, log):
    line = warning(model, "Cu", 0, 99.0)
    path = log(line, line)
    path.write_text(path.read_text().partition("Loop")[0][:-30])
    assert read_warnings(path, model).total == 1
