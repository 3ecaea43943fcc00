"""What a worker says about itself: `>>key<<` in a campaign stands for `key` of the `env` in its my_fworker.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kmde_fw.config import did_you_mean
from kmde_fw.errors import ConfigError, EngineError

#: key of a firework's spec under which FireWorks hands the worker's env over
SPEC_KEY = "_fw_env"
#: where `rlaunch` looks for it, too
DEFAULT_FILE = Path("my_fworker.yaml")
#: what a my_fworker.yaml may say
_KEYS = ("name", "category", "query", "env")
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


def read_fworker(path: Path | None) -> dict[str, Any]:
    """The `env` of a my_fworker.yaml; with None that of DEFAULT_FILE here, or nothing. Raises ConfigError."""
    return env_of(read_fworker_file(path) or {}, path)


def read_fworker_file(path: Path | None) -> dict[str, Any] | None:
    """All of a my_fworker.yaml; with None of DEFAULT_FILE here, None where there is none. Raises ConfigError."""
    if path is None:
        if not DEFAULT_FILE.is_file():
            return None
        path = DEFAULT_FILE
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give the my_fworker.yaml of this machine") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is a mapping of name, category, query and `env`")
    for key in data:
        if key not in _KEYS:  # a worker with a misspelt category would take the steps of all
            raise ConfigError(f"{path}: unknown key {key!r}{did_you_mean(str(key), _KEYS)}; known: {', '.join(_KEYS)}")
    return data


def query_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The `query` in a my_fworker.yaml's content, which is JSON in quotes. Raises ConfigError."""
    text = data.get("query", "{}")
    try:
        query = json.loads(text)
    except (TypeError, ValueError):
        query = None
    if not isinstance(query, dict):
        raise ConfigError(f"my_fworker.yaml: query is {text!r}, which is no JSON in quotes: write '{{}}'")
    return query


def env_of(data: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    """The `env` in a my_fworker.yaml's content. Raises ConfigError."""
    env = data.get("env") or {}
    if not isinstance(env, dict):
        raise ConfigError(f"{path or DEFAULT_FILE}: `env` is a mapping such as {{vasp_cmd: srun vasp_std}}")
    return env
