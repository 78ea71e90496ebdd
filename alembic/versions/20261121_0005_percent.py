"""How far a running analysis is within its stage."""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("analyses", sa.Column("percent", sa.SmallInteger))


def downgrade() -> None:
    op.drop_column("analyses", "percent")
