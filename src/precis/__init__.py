"""Train small, fast, private summarizers on your own documents."""

from importlib import import_module

__all__ = ["PrecisError", "Summarizer", "Summary"]

# what each name costs is paid when it is first used: `import precis` stays free
_PLACES = {"Summarizer": "precis.api", "Summary": "precis.serving.summary", "PrecisError": "precis.errors"}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'precis' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
