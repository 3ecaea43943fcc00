"""Arguments that several commands share, and the FW_config.yaml that goes with a launchpad file."""

import os
from pathlib import Path
from typing import Annotated

import typer

CampaignFile = Annotated[
    Path, typer.Argument(metavar="CAMPAIGN.yaml", help="a campaign file, or a workflow that starts one")
]
LaunchpadFile = Annotated[
    Path | None,
    typer.Option(
        "--launchpad",
        "-l",
        metavar="FILE",
        help="launchpad.yaml; default: KMDE_MONGO_URI, then launchpad.yaml here or in a folder above",
    ),
]
FworkerFile = Annotated[
    Path | None,
    typer.Option(
        "--fworker",
        metavar="FILE",
        help="my_fworker.yaml whose `env` this machine's workers get; default: my_fworker.yaml here, if there is one",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]


def use_config_beside(folder: Path) -> None:
    """Let FireWorks read the FW_config.yaml in the folder of the launchpad file, unless FW_CONFIG_FILE names another.

    It does so once, when it is imported.
    """
    config = folder / "FW_config.yaml"
    if config.is_file():
        os.environ.setdefault("FW_CONFIG_FILE", str(config.resolve()))
