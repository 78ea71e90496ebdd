"""A healthy zoo: networks that the field trains every day, at their usual initializations."""
