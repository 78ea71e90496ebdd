"""The docs as pages: Markdown of docs/ in, a folder of HTML out. `python -m api.guide` builds them
(`make docs`), `api/routes/guide.py` serves what was built."""
