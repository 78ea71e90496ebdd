"""Runs the migrations as one unit of work on the database of the settings.

A caller from Python may name another database: `config.attributes["database_url"]`.
"""

from alembic import context
from service.config import load
from service.storage.session import Database
from service.storage.tables import metadata

database = Database(context.config.attributes.get("database_url") or load().database_url)
try:
    with database.write() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            # SQLite alters a table by copying it.
            render_as_batch=True,
            transactional_ddl=True,
        )
        context.run_migrations()
finally:
    database.close()
