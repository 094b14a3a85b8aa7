"""The HTTP service: requests within limits, batches across requests, and models that change while it answers."""
