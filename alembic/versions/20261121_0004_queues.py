"""Beyond one machine: queues, losses, deliveries, request ids, workers."""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"

_OPEN = sa.text("status IN ('queued', 'running')")


def upgrade() -> None:
    op.add_column("analyses", sa.Column("lost", sa.Integer, nullable=False, server_default="0"))
    op.add_column(
        "analyses", sa.Column("queue", sa.String(8), nullable=False, server_default="cpu")
    )
    op.add_column("analyses", sa.Column("dispatched_at", sa.DateTime(timezone=True)))
    op.add_column("analyses", sa.Column("request_id", sa.String(64)))
    # Whoever is at work was lost as often as it was claimed before: nothing was noted apart.
    op.execute("UPDATE analyses SET lost = attempt - 1 WHERE status = 'running' AND attempt > 0")
    op.create_index(
        "ix_analyses_open", "analyses", ["id"], postgresql_where=_OPEN, sqlite_where=_OPEN
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("queues", sa.String(16), nullable=False),
        sa.Column("device", sa.String(128), nullable=False),
        sa.Column("memory_mb", sa.Integer, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tally", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
    op.create_index("ix_workers_seen_at", "workers", ["seen_at"])


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_index("ix_analyses_open", "analyses")
    for column in ("request_id", "dispatched_at", "queue", "lost"):
        op.drop_column("analyses", column)
