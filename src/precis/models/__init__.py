"""The three models, their layers and their losses. Knows nothing of the rest of precis."""
