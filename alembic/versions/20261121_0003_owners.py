"""Whose everything is: owners of analyses and files, API keys, idempotency keys."""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"

# As it is at this revision: of everything that was asked for before there were keys.
LOCAL = "local"

_artifacts = sa.table(
    "artifacts", sa.column("owner"), sa.column("used_at"), sa.column("created_at")
)


def _owner() -> sa.Column[str]:
    return sa.Column("owner", sa.String(64), nullable=False, server_default=LOCAL)


def upgrade() -> None:
    # Not in a batch: SQLite's copies the table, and dropping the old one takes the labels along.
    op.add_column("analyses", _owner())
    op.add_column(
        "analyses", sa.Column("cached", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("analyses", sa.Column("question", sa.String(64)))
    op.create_index("ix_analyses_owner_id", "analyses", ["owner", "id"])
    op.create_index("ix_analyses_owner_question_id", "analyses", ["owner", "question", "id"])
    _own_artifacts()
    with op.batch_alter_table("uses") as uses:
        uses.add_column(_owner())
        uses.drop_index("ix_uses_artifact_id")
        uses.create_index("ix_uses_owner_artifact_id", ["owner", "artifact_id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("analysis_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
        sa.ForeignKeyConstraint(
            ["analysis_id"],
            ["analyses.id"],
            name="fk_idempotency_keys_analysis_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_idempotency_keys_analysis_id", "idempotency_keys", ["analysis_id"])
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )


def _own_artifacts() -> None:
    """A file is an owner's: the same content may be several people's."""
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.add_column(_owner())
        artifacts.add_column(sa.Column("used_at", sa.DateTime(timezone=True)))
    op.execute(_artifacts.update().values(used_at=_artifacts.c.created_at))
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.alter_column("used_at", nullable=False)
        artifacts.drop_constraint("pk_artifacts", type_="primary")
        artifacts.create_primary_key("pk_artifacts", ["owner", "id"])
        artifacts.create_index("ix_artifacts_used_at", ["used_at"])


def downgrade() -> None:
    op.drop_table("api_keys")
    op.drop_table("idempotency_keys")
    with op.batch_alter_table("uses") as uses:
        uses.drop_index("ix_uses_owner_artifact_id")
        uses.create_index("ix_uses_artifact_id", ["artifact_id"])
        uses.drop_column("owner")
    # The others' lie in folders that the code of before does not know.
    op.execute(_artifacts.delete().where(_artifacts.c.owner != LOCAL))
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.drop_index("ix_artifacts_used_at")
        artifacts.drop_constraint("pk_artifacts", type_="primary")
        artifacts.create_primary_key("pk_artifacts", ["id"])
        artifacts.drop_column("used_at")
        artifacts.drop_column("owner")
    for index in ("ix_analyses_owner_question_id", "ix_analyses_owner_id"):
        op.drop_index(index, "analyses")
    for column in ("question", "cached", "owner"):
        op.drop_column("analyses", column)
