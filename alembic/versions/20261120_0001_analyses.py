"""Analyses, their layers and labels, and stored files."""

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "analyses",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("stage", sa.String(16)),
        sa.Column("model_format", sa.String(32)),
        sa.Column("model_sha256", sa.String(64)),
        sa.Column("verdict", sa.String(16)),
        sa.Column("passed", sa.Boolean),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("report", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_analyses"),
    )
    op.create_index("ix_analyses_status_id", "analyses", ["status", "id"])
    op.create_index("ix_analyses_verdict_id", "analyses", ["verdict", "id"])
    op.create_index("ix_analyses_model_sha256_id", "analyses", ["model_sha256", "id"])
    op.create_table(
        "layers",
        sa.Column("analysis_id", sa.String(36), nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("statistics", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("analysis_id", "index", name="pk_layers"),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name="fk_layers_analysis_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_layers_name_analysis_id", "layers", ["name", "analysis_id"])
    op.create_table(
        "labels",
        sa.Column("analysis_id", sa.String(36), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("analysis_id", "key", name="pk_labels"),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name="fk_labels_analysis_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_labels_key_value_analysis_id", "labels", ["key", "value", "analysis_id"])
    op.create_table(
        "artifacts",
        sa.Column("id", sa.String(71), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("format", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
    )


def downgrade() -> None:
    for table in ("artifacts", "labels", "layers", "analyses"):
        op.drop_table(table)
