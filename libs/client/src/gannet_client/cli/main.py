"""The application: global options, and the commands."""

from pathlib import Path
from typing import Annotated

import typer

from gannet_client import config
from gannet_client.cli import collections, documents, jobs, keys, models, sources, tenants, webhooks
from gannet_client.cli.ask import ask
from gannet_client.cli.demo import demo
from gannet_client.cli.ingest import ingest
from gannet_client.cli.search import search
from gannet_client.cli.session import Options
from gannet_client.cli.status import status
from gannet_client.cli.up import up
from gannet_client.client import DEFAULT_TARGET, DEFAULT_TIMEOUT_S
from gannet_client.local.home import Home

EXIT_CODES = (
    "Exit codes: 0 all went well; 1 the server said no, or a part failed; 2 your mistake; "
    "3 the server cannot be reached; 4 no answer found (ask); 130 interrupted."
)

app = typer.Typer(
    name="gannet",
    help="Gannet: ingest documents, search them, and get answers with citations.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up)
app.command()(ingest)
app.command()(search)
app.command()(ask)
app.add_typer(documents.app, name="documents")
app.add_typer(collections.app, name="collections")
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(sources.app, name="sources")
app.add_typer(webhooks.app, name="webhooks")
app.command()(status)
app.add_typer(models.app, name="models")
app.command()(demo)


@app.callback()
def main(
    context: typer.Context,
    *,
    target: Annotated[
        str | None,
        typer.Option(
            envvar=config.TARGET_VARIABLE,
            help=f"The gateway's address; default: what `up` runs, else {DEFAULT_TARGET}.",
        ),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar=config.API_KEY_VARIABLE, help="API key; default: the one in the home folder.")
    ] = None,
    home: Annotated[
        Path, typer.Option(envvar=config.HOME_VARIABLE, help="Folder of the local stack.", show_default="~/.gannet")
    ] = Path("~/.gannet"),
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, one value a line, for programs.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Most seconds that one call may take.")
    ] = DEFAULT_TIMEOUT_S,
) -> None:
    """Keep the global options for the command."""
    context.obj = Options(
        target=target or None,
        api_key=api_key or None,
        home=Home(home.expanduser().absolute()),
        as_json=as_json,
        timeout_s=timeout_s,
    )


def run() -> None:
    """The `gannet` program."""
    app()
