"""Models in use: texts in, summaries with their sources out."""
