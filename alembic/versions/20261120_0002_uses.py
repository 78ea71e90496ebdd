"""Which analysis refers to which file, so that files can be deleted when nobody needs them."""

import json

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"

# As they are at this revision.
_analyses = sa.table("analyses", sa.column("id"), sa.column("request"))
_uses = sa.table("uses", *map(sa.column, ("analysis_id", "artifact_id", "upload", "retain")))


def upgrade() -> None:
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.add_column(sa.Column("upload", sa.String(32), nullable=False, server_default=""))
    op.create_table(
        "uses",
        sa.Column("analysis_id", sa.String(36), nullable=False),
        sa.Column("artifact_id", sa.String(71), nullable=False),
        sa.Column("upload", sa.String(32), nullable=False),
        sa.Column("retain", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("analysis_id", "artifact_id", name="pk_uses"),
    )
    op.create_index("ix_uses_artifact_id", "uses", ["artifact_id"])
    op.create_index("ix_uses_retain_artifact_id", "uses", ["retain", "artifact_id"])
    _fill()


def _fill() -> None:
    """Every analysis so far retains its file, sent at a time without a name."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(_analyses)).all():
        artifact_id = json.loads(row.request)["model"].get("artifact_id")
        if artifact_id is not None:
            values = {"analysis_id": row.id, "artifact_id": artifact_id}
            connection.execute(sa.insert(_uses), values | {"upload": "", "retain": True})


def downgrade() -> None:
    op.drop_table("uses")
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.drop_column("upload")
