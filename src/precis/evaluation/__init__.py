"""Scores of summaries, what is in them, and how sure the difference of two systems is."""
