"""kmde fw: FireWorks' own programs, with the password that kmde knows."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from kmde_fw.cli.options import use_config_beside
from kmde_fw.config import did_you_mean
from kmde_fw.errors import ConfigError, StoreError

#: program -> its function
PROGRAMS = {
    "lpad": ("fireworks.scripts.lpad_run", "lpad"),
    "qlaunch": ("fireworks.scripts.qlaunch_run", "qlaunch"),
    "rlaunch": ("fireworks.scripts.rlaunch_run", "rlaunch"),
}

#: arguments that say where the database is
LAUNCHPAD_WORDS = ("-l", "--launchpad_file", "--config_dir")
#: what lpad does without one
WITHOUT_DATABASE = ("init", "version")


def fw(
    context: typer.Context,
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help="lpad, qlaunch or rlaunch; its arguments follow")],
) -> None:
    """Run lpad, qlaunch or rlaunch as they are, with a launchpad file whose password is kept elsewhere.

    FireWorks reads a password from the launchpad file alone; here `password_file` and KMDE_MONGO_PASSWORD count, too,
    and a FW_config.yaml beside the launchpad file is used where FW_CONFIG_FILE names no other. Without -l FILE it is
    launchpad.yaml here or in a folder above, as for every command of kmde.
    """
    if program not in PROGRAMS:
        raise ConfigError(f"no program {program!r}{did_you_mean(program, PROGRAMS)}; known: {', '.join(PROGRAMS)}")
    arguments = _with_launchpad(program, context.args)
    given = _launchpad_file(arguments)
    if given:
        use_config_beside(given.parent)
    from fireworks import LaunchPad

    from kmde_fw.firetasks import counters
    from kmde_fw.store.connect import connect, read_launchpad, with_password

    if given:
        # FireWorks would name the whole URI, password and all, where it cannot connect
        connect(read_launchpad(given)).client.close()
    counters.use()
    plain = LaunchPad.from_file.__func__

    def from_file(cls: type[LaunchPad], filename: str, *rest: Any, **words: Any) -> LaunchPad:
        from kmde_fw.store.connect import check_keys, read_yaml

        path = Path(filename)
        settings = read_yaml(path)
        check_keys(settings, path)
        if settings.get("username"):
            return cls.from_dict(with_password(settings, path))
        return plain(cls, filename, *rest, **words)

    LaunchPad.from_file = classmethod(from_file)
    module, function = PROGRAMS[program]
    sys.argv = [program, *arguments]
    raise typer.Exit(getattr(import_module(module), function)())


def _launchpad_file(arguments: list[str]) -> Path | None:
    """What they give as -l FILE, -lFILE, --launchpad_file FILE or --launchpad_file=FILE."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word in ("-l", "--launchpad_file"):
            return Path(following)
        for start in ("--launchpad_file=", "-l"):
            if word.startswith(start):
                return Path(word.removeprefix(start))
    return None


def _with_launchpad(program: str, arguments: list[str]) -> list[str]:
    """The arguments, with -l and the file that kmde finds where they name none and need one."""
    from kmde_fw.store.connect import ENVIRONMENT_VARIABLE, find_launchpad

    if any(word in ("-h", "--help") or word.split("=")[0] in LAUNCHPAD_WORDS for word in arguments):
        return arguments
    # of lpad's own commands, some have another -c
    if "-c" in (arguments[:1] if program == "lpad" else arguments):
        return arguments
    if not arguments or (program == "lpad" and arguments[0] in WITHOUT_DATABASE):
        return arguments
    if os.environ.get(ENVIRONMENT_VARIABLE):
        raise StoreError(f"{program} cannot read {ENVIRONMENT_VARIABLE}, it takes a launchpad file: give one with -l")
    return ["-l", str(find_launchpad()), *arguments]
