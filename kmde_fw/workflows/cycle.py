"""The graph of one cycle, and the Firetasks that make it grow: Advance spawns the next cycle or stops, Finish ends.

    cycle 0                                     Train×seeds ─┐
                                                Analyse ─────┴▶ Evaluate ─▶ Advance ─▶ (cycle 1, or nothing) ─▶ Finish
    cycle c   Generate×shards ─▶ Select ─▶ Label×picks ─▶ the same

Advance returns the next cycle as a detour: it is inserted between Advance and Finish, so Finish stays WAITING as long
as the campaign lives, and `rlaunch rapidfire` in another shell knows that there is more to come.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

from fireworks import Firework, FWAction, LaunchPad, Workflow
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.config import parse_campaign
from kmde_fw.core.decision import CycleSummary, Decision, decide, vicinity_gain
from kmde_fw.firetasks.analyse import Analyse
from kmde_fw.firetasks.base import CPU, DFT, TRAIN, CampaignView, CycleTask, firework
from kmde_fw.firetasks.evaluate import Evaluate
from kmde_fw.firetasks.generate import Generate
from kmde_fw.firetasks.label import Label
from kmde_fw.firetasks.select import Select
from kmde_fw.firetasks.train import Train
from kmde_fw.processes import is_running
from kmde_fw.records import cycle_key
from kmde_fw.store import Store
from kmde_fw.workflows.rockets import remove_orphans

#: how long an owner has between its claim to spawn a cycle and the cycle's fireworks
CLAIM_SECONDS = 60.0


def cycle_fireworks(campaign: dict[str, Any], cycle: int, n_surrogates: int = 0) -> list[Firework]:
    """The fireworks of one cycle, the last of them its Advance.

    campaign: the campaign's document; n_surrogates: how many are labelled already.
    """
    settings = parse_campaign(campaign["config"], source=f"campaign {campaign['_id']}")
    common = {"campaign": campaign["_id"], "cycle": cycle}
    design: list[Firework] = []
    labels: list[Firework] = []
    if cycle > 0:
        generate = [firework(Generate(**common, shard=k), CPU) for k in range(settings.design.shards)]
        select = firework(Select(**common), CPU, generate)
        labels = [firework(Label(**common, slot=k), DFT, [select]) for k in range(settings.picks_after(n_surrogates))]
        design = [*generate, select]
    train = [firework(Train(**common, seed=seed), TRAIN, labels) for seed in settings.training.seeds]
    analyse = firework(Analyse(**common), CPU, labels)
    evaluate = firework(Evaluate(**common), CPU, [*train, analyse])
    advance = firework(Advance(**common), CPU, [evaluate])
    return [*design, *labels, *train, analyse, evaluate, advance]


def campaign_workflow(campaign: dict[str, Any]) -> Workflow:
    """Cycle 0 and Finish: what `kmde submit` adds to the LaunchPad."""
    fireworks = cycle_fireworks(campaign, 0)
    finish = firework(Finish(campaign=campaign["_id"], cycle=0), CPU, [fireworks[-1]])
    return Workflow([*fireworks, finish], name=campaign["_id"], metadata={"campaign": campaign["_id"]})


def may_spawn(store: Store, launchpad: LaunchPad, campaign: str, cycle: int, owner: str) -> bool:
    """True for exactly one owner of (campaign, cycle), and only until its fireworks are in the LaunchPad.

    An owner that died before it handed its fireworks over may ask again (a firework does, when it is rerun), and after
    CLAIM_SECONDS somebody else may (another `kmde submit`, or a new firework after an `lpad reset`).
    """
    key = cycle_key(campaign, cycle, "spawn")
    owned = store.claim(key, owner)
    # what an owner that was killed in the act left outside of any workflow does not count
    if not remove_orphans(launchpad, {"spec.kmde.campaign": campaign, "spec.kmde.cycle": cycle}):
        return False
    if owned:
        return True
    claim = store.get("claims", key)
    if claim is None or not (_is_gone(claim["owner"]) or store.claim_age(claim) >= CLAIM_SECONDS):
        return False
    return store.takeover(claim, owner)


def _is_gone(owner: str) -> bool:
    """True if an owner was a `kmde submit` or `kmde run` on this machine whose process is no more."""
    words = owner.split()
    here = len(words) == 3 and words[0] == "submit" and words[1] == socket.gethostname()
    return here and not is_running(int(words[2]), None)


@explicit_serialize
class Advance(CycleTask):
    """Close a cycle: write its document, decide, spawn the next one. However often it runs, it spawns once."""

    def step(self, view: CampaignView) -> FWAction | None:
        """Load what the cycle found, decide, store."""
        summaries = [_summary(view, cycle) for cycle in range(view.cycle + 1)]
        decision = decide(summaries, view.settings.stop, view.settings.reference.max_failed_fraction)
        view.store.insert_once("cycles", _cycle_document(view, summaries[-1], decision))
        # the stored decision counts: it was taken once, and a repeated run must not take another
        if view.required("cycles", view.cycle)["stop"]:
            return None
        following = view.cycle + 1
        if not may_spawn(view.store, self.launchpad, view.name, following, owner=f"firework {self.fw_id}"):
            return None
        fireworks = cycle_fireworks(view.document, following, summaries[-1].n_surrogates)
        return FWAction(detours=Workflow(fireworks, name=f"{view.name} {following:03d}"))


@explicit_serialize
class Finish(CycleTask):
    """The last firework: the campaign's state and why it stopped."""

    def step(self, view: CampaignView) -> FWAction | None:
        """Load the last cycle, store its reason. Of a campaign that is still at work (started twice), do nothing."""
        cycles = view.store.cycles(view.name)
        if not cycles or not cycles[-1]["stop"]:
            return None
        last = cycles[-1]
        view.store.set_campaign_state(view.name, "finished", last["reason"])
        return FWAction(stored_data={"reason": last["reason"]})


def _summary(view: CampaignView, cycle: int) -> CycleSummary:
    analysis = view.required("analyses", cycle)
    changes = view.required("evaluations", cycle).get("changes") or {}
    outcomes = view.surrogates(cycle)
    latest = [outcome for outcome in outcomes if outcome["cycle"] == cycle]
    selection: dict[str, Any] = view.required("selections", cycle) if cycle else {"reason": ""}
    return CycleSummary(
        cycle=cycle,
        n_surrogates=sum(outcome["label_id"] is not None for outcome in outcomes),
        n_outliers=analysis["n_outliers"],
        gap=analysis["gap"],
        zero=analysis["opinion"]["zero"],
        vicinity=analysis["opinion"]["vicinity"],
        far_inside=analysis["opinion"]["far_inside"],
        energy_change=changes.get("energy"),
        force_change=changes.get("forces"),
        remaining=vicinity_gain(selection.get("remaining")),
        # asked of the last cycle only
        cost=view.spent() if cycle == view.cycle else 0.0,
        failed_labels=sum(len(outcome["refused"]) for outcome in latest),
        broken_labels=sum(refused.get("state") != "outside" for outcome in latest for refused in outcome["refused"]),
        new_labels=sum(outcome["label_id"] is not None for outcome in latest) if cycle else None,
        shortage=selection["reason"],
    )


def _cycle_document(view: CampaignView, summary: CycleSummary, decision: Decision) -> dict[str, Any]:
    evaluation = view.required("evaluations", view.cycle)
    label_ids, _ = view.train_set()
    before = view.required("cycles", view.cycle - 1) if view.cycle else view.document
    return {
        "_id": cycle_key(view.name, view.cycle),
        "campaign": view.name,
        "cycle": view.cycle,
        "train_labels": label_ids,
        "models": evaluation["models"],
        "outcomes": [o["_id"] for o in view.surrogates() if o["cycle"] == view.cycle],
        "n_surrogates": summary.n_surrogates,
        "n_outliers": summary.n_outliers,
        "gap": summary.gap,
        **_gains(view),
        "changes": evaluation.get("changes"),
        "metrics": evaluation["metrics"],
        "cost": evaluation["cost"],
        "spent": summary.cost,
        "stop": decision.stop,
        "reason": decision.reason,
        "early_stop": decision.early,
        "seconds": (datetime.now(UTC) - before["created"]).total_seconds(),
    }


def _gains(view: CampaignView) -> dict[str, Any]:
    """What the train set leaves open; what the cycle's picks promised to close of it, and what was closed."""
    now = view.required("analyses", view.cycle)["opinion"]
    if view.cycle == 0:
        return {"opinion": now, "promised": [], "remaining": None, "realised": {}}
    before = view.required("analyses", view.cycle - 1)["opinion"]
    selection = view.required("selections", view.cycle)
    return {
        "opinion": now,
        "promised": [slot[0]["promise"] for slot in selection["slots"] if "promise" in slot[0]],
        "remaining": selection.get("remaining"),
        "realised": {measure: [before[measure], now[measure]] for measure in ("zero", "open", "vicinity")},
    }
