"""The store: units, packs, claims and their places on disk. Knows no keeper."""
