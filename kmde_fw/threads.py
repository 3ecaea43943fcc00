"""How many CPU threads torch uses: sums over several threads differ in their last digits from run to run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Inside, torch uses `n` threads. Where torch has not been imported, nothing changes and it is not."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
