from precis.api import Summarizer as Summarizer
from precis.errors import PrecisError as PrecisError
from precis.serving.summary import Summary as Summary

__all__ = ["PrecisError", "Summarizer", "Summary"]
