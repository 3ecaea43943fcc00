"""The README's queries for the mongo shell return what it says, and its commands exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kmde_fw.cli import build_app
from kmde_fw.store import Store, queries

README = (Path(__file__).parent.parent / "README.md").read_text()
QUERIES = re.findall(r"// (.*)\n(db\..*)", README)


def run(store: Store, text: str, **replace: str) -> list[dict[str, Any]]:
    """One line of the mongo shell: find or aggregate with JSON arguments, sort and limit."""
    for old, new in {"al_fe_pt": "demo", **replace}.items():
        text = text.replace(old, new)
    calls = re.fullmatch(r"db\.(\w+)\.(find|aggregate)\((.*?)\)((?:\.\w+\([^)]*\))*)", text)
    assert calls, text
    collection, method, arguments, tail = calls.groups()
    result = getattr(store.database[collection], method)(*json.loads(f"[{arguments}]"))
    for name, argument in re.findall(r"\.(\w+)\(([^)]*)\)", tail):
        value = json.loads(argument)
        result = result.sort(list(value.items())) if name == "sort" else result.limit(value)
    return list(result)


def answers(store: Store) -> list[Any]:
    """What each query must return, in their order: (text replaced, check)."""
    pick = queries.surrogates(store, "demo")[0]
    cycles = store.cycles("demo")
    analysis = store.get("analyses", "demo/001")
    ranked = queries.candidates(store, "demo", 1, 1000)
    models = store.find("models")
    return [
        ({}, lambda rows: {r["_id"]: r["reason"] for r in rows} == {c["_id"]: c["reason"] for c in store.campaigns()}),
        ({}, lambda rows: [r["n_outliers"] for r in rows] == [c["n_outliers"] for c in cycles]),
        ({}, lambda rows: [o["reason"] for o in rows[0]["outliers"]] == [o["reason"] for o in analysis["outliers"]]),
        ({}, lambda rows: [r["score"] for r in rows] == [m["score"] for m in store.motifs("demo", 0)]),
        ({}, lambda rows: [r["score"] for r in rows] == [c["score"] for c in ranked[:5]]),
        (
            {},
            lambda rows: (
                sorted(r["reason"] for r in rows)
                == sorted(c["reason"] for c in ranked if c["outcome"] in ("reserve", "duplicate", "outside"))
            ),
        ),
        (
            {"STRUCTURE_ID": pick["structure_id"]},
            lambda rows: ("demo", 1, pick["rank"]) in [(r["campaign"], r["cycle"], r["rank"]) for r in rows],
        ),
        (
            {},
            lambda rows: (
                [x["reason"] for r in rows for x in r["refused"]]
                == [f["reason"] for f in queries.failures(store, "demo") if f["kind"] == "label"]
            ),
        ),
        (
            {"LABEL_ID": pick["label_id"]},
            lambda rows: (
                sorted(r["_id"] for r in rows)
                == sorted(m["_id"] for m in queries.passport(store, pick["structure_id"])["models"])
            ),
        ),
        (
            {},
            lambda rows: (
                {r["_id"]: r["seconds"] for r in rows}
                == pytest.approx(
                    {
                        name: sum(m["seconds"] for m in models if m["made_for"]["campaign"] == name)
                        for name in {m["made_for"]["campaign"] for m in models}
                    }
                )
            ),
        ),
    ]


def test_there_are_ten():
    assert len(QUERIES) == 10


@pytest.mark.parametrize("number", range(10), ids=[question for question, _ in QUERIES])
def test_a_query_of_the_readme_returns_what_it_says(finished: Store, number: int):
    replace, check = answers(finished)[number]
    rows = run(finished, QUERIES[number][1], **replace)
    assert rows
    assert check(rows), rows


def test_every_command_of_the_readme_exists():
    known = {command.name for command in build_app().registered_commands} | {"db"}
    named = set(re.findall(r"^kmde ([a-z-]+)", README, flags=re.M))
    assert named <= known
    assert len(named) > 12
