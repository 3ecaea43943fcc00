"""Arguments that several commands share."""

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
