"""kmde: one file per command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kmde_fw import __version__
from kmde_fw.errors import KmdeError


def build_app() -> typer.Typer:
    """The command line, its commands imported only now."""
    from kmde_fw.cli import (
        candidates,
        compare,
        data,
        db,
        diff,
        doctor,
        export,
        failures,
        from_md,
        fw,
        import_model,
        import_runs,
        init,
        launch,
        lineage,
        md,
        motifs,
        outliers,
        plan,
        reconcile,
        report,
        rm,
        run,
        schema,
        status,
        submit,
        validate,
        watch,
        why,
        work,
    )

    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Find the few structures to label next so that a potential stops extrapolating, and label them.",
    )
    app.callback()(_options)
    app.command("init")(init.init)
    app.command("validate")(validate.validate)
    app.command("plan")(plan.plan)
    app.command("submit")(submit.submit)
    app.command("run")(run.run)
    app.command("compare")(compare.compare)
    app.command("work")(work.work)
    app.command("launch")(launch.launch)
    app.command("fw", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(fw.fw)
    app.command("reconcile")(reconcile.reconcile)
    app.command("status")(status.status)
    app.command("why")(why.why)
    app.command("candidates")(candidates.candidates)
    app.command("motifs")(motifs.motifs)
    app.command("outliers")(outliers.outliers)
    app.command("failures")(failures.failures)
    app.command("diff")(diff.diff)
    app.command("lineage")(lineage.lineage)
    app.command("retrain")(lineage.retrain)
    app.command("report")(report.report)
    app.command("watch")(watch.watch)
    app.command("rm")(rm.rm)
    app.command("export")(export.export)
    app.command("md")(md.md)
    app.command("from-md")(from_md.from_md)
    app.command("schema")(schema.schema)
    app.command("import")(import_runs.import_runs)
    app.command("import-model")(import_model.import_model)
    app.command("doctor")(doctor.doctor)
    app.command("make-data")(data.make_data)
    app.add_typer(db.app, name="db")
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kmde_fw {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """Options of kmde itself."""


def main() -> None:
    """Entry point: what a person can mend is printed as sentences, and the exit code is 1."""
    try:
        build_app()()
    except KmdeError as error:
        for line in str(error).splitlines():
            print(f"kmde: {line}", file=sys.stderr)
        sys.exit(1)
