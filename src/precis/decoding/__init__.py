"""Summaries from a model's steps: beam search, sampling, and where every word came from."""
