"""`gannet models`: build and list the models of the local stack."""

from pathlib import Path
from typing import Annotated

import typer

from gannet_client.cli import session
from gannet_client.cli.session import Options
from gannet_client.local.stack import run_models

app = typer.Typer(help="Build and list the models that `gannet up` serves.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help="Models of the manifest; all if none is named.")]
Manifest = Annotated[
    Path | None, typer.Option(help="A TOML manifest that is merged over the built-in one.", exists=True, dir_okay=False)
]


@app.command()
def build(context: typer.Context, names: Names = None, manifest: Manifest = None) -> None:
    """Fetch, verify and build models that are not built yet."""
    _run(context, "build", names, manifest)


@app.command("list")
def list_(context: typer.Context, names: Names = None, manifest: Manifest = None) -> None:
    """List the models of the manifest."""
    _run(context, "list", names, manifest)


def _run(context: typer.Context, command: str, names: list[str] | None, manifest: Path | None) -> None:
    async def run(options: Options) -> None:
        arguments = [command, *(names or [])]
        if manifest is not None:
            arguments += ["--manifest", str(manifest)]
        if options.as_json:
            arguments.append("--json")
        code = await run_models(options.home, arguments)
        if code != 0:
            raise typer.Exit(code)

    session.execute(context, run)
