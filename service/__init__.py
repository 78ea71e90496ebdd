"""graddx's engine: measures, diagnoses and advises. Knows nothing of HTTP."""
