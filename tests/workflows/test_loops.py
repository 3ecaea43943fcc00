import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).parents[2] / "fw_specs" / "cu_au" / "campaign.yaml"

SCRIPT = """
import sys
from pathlib import Path
from numba.core.registry import CPUDispatcher
from kmde_fw.cli.plan import plan_facts
from kmde_fw.workflows.loops import compile_loops
from kmde_fw.workflows.prepare import prepare

def made():
    modules = [module for name, module in sys.modules.items() if name.startswith("kmde_fw.")]
    loops = {loop for module in modules for loop in vars(module).values() if isinstance(loop, CPUDispatcher)}
    return {loop.py_func.__qualname__: len(loop.signatures) for loop in loops}

prepared = prepare(Path(sys.argv[1]))
compile_loops(prepared)
before = made()
assert before["accumulate"] == before["_scan"] == 1, before
plan_facts(prepared)
assert made() == before, (made(), before)
"""


def test_nothing_is_left_to_compile_in_a_cycle():
    done = subprocess.run([sys.executable, "-c", SCRIPT, CAMPAIGN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
