"""The result of a check in the forms that CI systems read: one file each. SARIF, JUnit and
Markdown are written by the server."""
