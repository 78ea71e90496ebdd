"""The nouns of graddx: frozen dataclasses and pure rules, standard library only."""
