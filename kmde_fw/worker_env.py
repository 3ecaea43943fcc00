"""What a worker says about itself: `>>key<<` in a campaign stands for `key` of the `env` in its my_fworker.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kmde_fw.config import did_you_mean
from kmde_fw.errors import EngineError

#: key of a firework's spec under which FireWorks hands the worker's env over
SPEC_KEY = "_fw_env"
_REFERENCE = re.compile(r">>(\w+)<<")


def resolve(text: str, env: Mapping[str, Any], option: str) -> str:
    """`text` with every `>>key<<` replaced from the worker's env. EngineError if the worker does not have that key.

    option: where the text comes from, for the sentence (reference.vasp_cmd).
    """

    def value(match: re.Match[str]) -> str:
        key = match[1]
        if key not in env:
            raise EngineError(
                f"{option} is {text!r}, and this worker's env has no {key!r}{did_you_mean(key, env)}; "
                f"write `env: {{{key}: ...}}` into its my_fworker.yaml (rlaunch -w my_fworker.yaml), "
                f"or the value itself into the campaign"
            )
        return str(env[key])

    return _REFERENCE.sub(value, text)
