"""The only room with SQLAlchemy: analyses, their layers and labels, and stored files."""
