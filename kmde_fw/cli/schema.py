"""kmde schema: the JSON schema of a campaign file, for editors."""

import json

import typer

from kmde_fw.config import Campaign


def schema() -> None:
    """Print the JSON schema of a campaign file."""
    typer.echo(json.dumps(Campaign.model_json_schema(), indent=2, ensure_ascii=False))
