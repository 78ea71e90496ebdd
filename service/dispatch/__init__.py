"""How workers learn that there is work; only the row in the database is the truth."""
