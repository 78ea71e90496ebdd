"""An analysis as a page for people: charts, each with a table that says the same, and the code to
copy. One self-contained file: nothing on it is fetched from anywhere."""
