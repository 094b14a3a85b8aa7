"""The encoded corpus on disk and in batches."""
