"""Pairs of documents and summaries: readers, splits, checks."""
