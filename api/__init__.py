"""graddx's front door: HTTP in, use cases called, HTTP out. Decides nothing itself."""

VERSION = "0.1.0"
"""Of the service: shown in /openapi.json and as `engine.version` of every answer."""
