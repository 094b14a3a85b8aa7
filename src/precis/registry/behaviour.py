"""What a summarizer must do whatever its scores: checks by example that no average shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from precis.errors import PrecisError

if TYPE_CHECKING:
    from precis.serving.summarizer import Summarizer
    from precis.serving.summary import Summary, SummaryToken

# a name that no corpus has; letters only, so that it is one word
UNKNOWN_NAME = "Qwyzzlebrax"
Summarize = Callable[[Sequence[str]], "list[Summary]"]


def failed_behaviours(
    summarizer: Summarizer, documents: Sequence[str], *, long_input_words: int, long_input_seconds: float
) -> tuple[str, ...]:
    """Run all checks; one sentence for each that fails.

    Args:
        summarizer: the candidate.
        documents: a few of the test set.
        long_input_words: how long the longest input is.
        long_input_seconds: how soon it must be answered.
    """
    summarize = summarizer.summarize
    as_is = summarize(documents)
    problems = [
        _white_space(summarize, documents, as_is),
        _case(summarize, documents, as_is) if summarizer.tokenizer.lowercase else None,
        _unknown_name(summarizer, documents, as_is),
        _empty(summarize),
        _long(summarize, documents, long_input_words, long_input_seconds),
    ]
    return tuple(problem for problem in problems if problem is not None)


def _white_space(summarize: Summarize, documents: Sequence[str], as_is: Sequence[Summary]) -> str | None:
    padded = summarize([document + "  \n" for document in documents])
    changed = sum(one.text != other.text for one, other in zip(as_is, padded, strict=True))
    return f"white space at the end changes {changed} of {len(documents)} summaries" if changed else None


def _case(summarize: Summarize, documents: Sequence[str], as_is: Sequence[Summary]) -> str | None:
    upper = summarize([_ascii_upper(document) for document in documents])
    changed = sum(
        [token.word for token in one.tokens] != [token.word for token in other.tokens]
        for one, other in zip(as_is, upper, strict=True)
    )
    return f"upper case changes {changed} of {len(documents)} summaries" if changed else None


def _ascii_upper(text: str) -> str:
    # str.upper makes two letters of ß, and other words of other words
    return "".join(character.upper() if character.isascii() else character for character in text)


def _unknown_name(summarizer: Summarizer, documents: Sequence[str], as_is: Sequence[Summary]) -> str | None:
    """A copied word that the vocabulary lacks, exchanged for a name it lacks as well, must come through."""
    renamed, hopeful = [], []
    for number, (document, summary) in enumerate(zip(documents, as_is, strict=True)):
        copied = next((token for token in summary.tokens if _is_unknown_copy(summarizer, token)), None)
        if copied is None:
            renamed.append(document)  # in its place, so that all batches stay as they were, to the last digit
        else:
            renamed.append(_with_name(summarizer, document, copied.word))
            hopeful.append(number)
    if not hopeful:
        return None
    summaries = summarizer.summarize(renamed)
    lost = sum(UNKNOWN_NAME not in summaries[number].text for number in hopeful)
    return (
        f"an unknown name in the place of another is lost in {lost} of {len(hopeful)} summaries"
        if lost
        else None
    )


def _is_unknown_copy(summarizer: Summarizer, token: SummaryToken) -> bool:
    return (
        token.source is not None
        and token.text.isalpha()
        and token.word not in summarizer.target_vocabulary
        and token.word not in summarizer.source_vocabulary
    )


def _with_name(summarizer: Summarizer, document: str, word: str) -> str:
    pieces, end = [], 0
    for token in summarizer.tokenizer.tokens(document):
        if token.text == word:
            pieces += [document[end : token.start], UNKNOWN_NAME]
            end = token.end
    return "".join([*pieces, document[end:]])


def _empty(summarize: Summarize) -> str | None:
    for text in ("", " \n"):
        try:
            (summary,) = summarize([text])
        except (PrecisError, ValueError, RuntimeError, IndexError) as error:
            return f"the empty document is not answered ({type(error).__name__}: {error})"
        if summary.text:
            return f"the empty document is summarized as {summary.text!r}"
    return None


def _long(summarize: Summarize, documents: Sequence[str], num_words: int, seconds: float) -> str | None:
    words = " ".join(documents).split()
    text = " ".join((words * (num_words // max(1, len(words)) + 1))[:num_words])
    start = time.monotonic()
    try:
        (summary,) = summarize([text])
    except (PrecisError, ValueError, RuntimeError, IndexError, MemoryError) as error:
        return f"a document of {num_words:,} words is not answered ({type(error).__name__}: {error})"
    took = time.monotonic() - start
    if took > seconds:
        return f"a document of {num_words:,} words takes {took:.1f} s, at most {seconds:g} s are allowed"
    return None if summary.text else f"a document of {num_words:,} words gets the empty summary"
