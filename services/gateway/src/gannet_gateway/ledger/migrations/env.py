"""Alembic's entry point: runs the migrations over the connection that `ledger.engine` hands over."""

from alembic import context

from gannet_gateway.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
