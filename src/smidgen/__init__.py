"""smidgen finds, trains, proves and ships image classifiers that must stay small."""

__version__ = "0.1.0"
