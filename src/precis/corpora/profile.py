"""The fingerprint of a training corpus, and whether new documents still look like it.

An alarm needs two things: a difference that chance does not explain, and one that is large enough to matter. Words
that training never saw are compared with what leaving one group out of the training corpus would have shown: how
often a document has words that no other group has.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precis.corpora.character_shares import CHARACTER_SHARES, character_shares
from precis.corpora.numbered_words import Lexicon, NumberedSplit
from precis.errors import PrecisError
from precis.files import atomic_path
from precis.text.tokenizer import Tokenizer
from precis.text.vocabulary import SPECIAL_TOKENS, UNK_ID, Vocabulary

FORMAT = 1
MIN_DOCUMENTS = 50
_BINS = 10
_TOP_WORDS = 200
# all tests together give a false alarm in fewer than one comparison of a thousand
_ALPHA_NEW_WORDS = 3e-4
_ALPHA_SHAPE = 1e-6
_MOST_NEW_WORDS = 10  # more in one document say no more: a foreign text has hundreds
_MIN_NEW_WORD_INCREASE = 0.02  # of the documents
_MIN_RECURRING_SHARE = 0.05  # of the documents: a new word that recurs is nothing that chance brings
_MIN_STABILITY_INDEX = 0.2  # the usual mark for a population that has changed
_MIN_WORD_SHIFT = 0.15  # of the documents that have the word
_MIN_SHIFTED_WORDS = 3
_SEVERAL, _NONE = -1, -2  # owners of a word that more than one group has, or none
_FEATURES = ("words", "oov_rate", *CHARACTER_SHARES)


@dataclass(frozen=True)
class Profile:
    """What `precis drift` compares new documents with; goes along with the model."""

    num_documents: int
    lowercase: bool
    mean: dict[str, float]
    edges: dict[str, list[float]]
    counts: dict[str, list[int]]
    new_word_share: float
    """Of the training documents, those with a word that no other group has."""
    new_name_share: float
    """The same for words that are written with a capital or a digit."""
    new_words_mean: float
    """How many words, at most ten, a training document has that no other group has, on average."""
    new_words_deviation: float
    copied_only: float
    """Of the words of the training summaries, those outside the vocabulary that the document has."""
    top_words: dict[str, float]
    """The most usual words, and the share of the documents that have each."""
    known_words: NDArray[np.uint32]
    """Hashes of all words of the training documents, in order."""

    def save(self, path: Path) -> None:
        """Write as JSON: the same bytes for the same corpus."""
        values = asdict(self)
        values["known_words"] = base64.b64encode(self.known_words.astype("<u4").tobytes()).decode()
        with atomic_path(path) as temporary:
            temporary.write_text(
                json.dumps({"format": FORMAT, **values}, ensure_ascii=False, indent=1) + "\n",
                encoding="utf-8",
            )

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Read what `save` wrote; raises PrecisError when the file is missing or something else."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise PrecisError(f"{path} was written by another version of precis; train the model again")
            known = np.frombuffer(base64.b64decode(values.pop("known_words"), validate=True), dtype="<u4")
            return cls(**values, known_words=known)
        except FileNotFoundError as error:
            raise PrecisError(
                f"{path} not found: run `dvc repro vocabulary`, or give a model's folder"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PrecisError(f"{path} is no profile of a corpus: {error}") from error


@dataclass(frozen=True)
class Finding:
    """One comparison: what was expected, what was found, and whether it is an alarm."""

    name: str
    expected: float
    found: float
    p_value: float
    effect: float
    alarm: bool
    says: str


@dataclass(frozen=True)
class Drift:
    """What all comparisons together say: `nothing`, `retrain` or `rebuild the vocabulary`."""

    verdict: str
    reason: str
    num_documents: int
    findings: list[Finding]
    new_words: list[str]
    """New words that recur, most frequent first."""


def build_profile(
    rows: NumberedSplit, lexicon: Lexicon, vocabulary: Vocabulary, lowercase: bool, copied_only: float
) -> Profile:
    """Look at a training corpus twice.

    Args:
        rows: of the training split.
        lexicon: what their numbers mean.
        vocabulary: of the source.
        lowercase: whether its words are lower-cased.
        copied_only: share of the summaries' words that only copying reaches.
    """
    words, word_of_form = lexicon.words, lexicon.word_of_form()
    owners, documents_with = _owners(rows, word_of_form, len(words))
    known = np.fromiter((word in vocabulary for word in words), bool, len(words))
    barely_known = np.zeros(len(words), dtype=bool)
    rarest = _rarest(vocabulary)
    barely_known[[number for number in np.flatnonzero(known) if words[number] in rarest]] = True
    owned = np.flatnonzero((owners != _SEVERAL) & (owners != _NONE))
    telling = np.zeros(len(words), dtype=bool)
    telling[owned] = [_is_word(words[number]) for number in owned]
    named = np.fromiter(map(_is_name, lexicon.forms), bool, lexicon.num_forms)
    features: dict[str, list[NDArray[np.float64]]] = {name: [] for name in _FEATURES}
    num_new: list[NDArray[np.int64]] = []
    with_new_names = 0
    for some in rows:
        of_row, numbers = some.documents.rows, word_of_form[some.documents.numbers]
        size = len(some.owners)

        def count(tokens: NDArray[np.bool_], of_row: NDArray[np.int64] = of_row, size: int = size) -> Any:
            return np.bincount(of_row[tokens], minlength=size)

        own = owners[numbers] == some.owners[of_row]
        # without this group they would not be in the vocabulary
        lost = (own | barely_known[numbers]) & known[numbers]
        new = own & telling[numbers]
        num_words = np.maximum(1, some.documents.lengths)
        features["words"].append(some.documents.lengths.astype(float))
        features["oov_rate"].append(count(~known[numbers]) / num_words + count(lost) / num_words)
        for name, shares in zip(CHARACTER_SHARES, some.shares.T, strict=True):
            features[name].append(shares)
        distinct = np.unique(of_row[new] * len(words) + numbers[new]) // max(1, len(words))
        num_new.append(np.minimum(np.bincount(distinct, minlength=size), _MOST_NEW_WORDS))
        with_new_names += int(np.count_nonzero(count(new & named[some.documents.numbers])))
    values = {name: np.concatenate([np.zeros(0), *some]) for name, some in features.items()}
    numbers_of_new = np.concatenate([np.zeros(0, dtype=np.int64), *num_new])
    num_documents = max(1, rows.num_rows)
    edges = {name: _edges(some) for name, some in values.items()}
    seen = np.flatnonzero(documents_with)
    most = {words[number]: int(documents_with[number]) for number in _highest(documents_with, _TOP_WORDS)}
    top = sorted(most.items(), key=lambda item: (-item[1], item[0]))[:_TOP_WORDS]
    return Profile(
        num_documents=rows.num_rows,
        lowercase=lowercase,
        mean={name: round(float(some.mean()), 6) if len(some) else 0.0 for name, some in values.items()},
        edges=edges,
        counts={name: _bin(some, edges[name]) for name, some in values.items()},
        new_word_share=round(float(np.count_nonzero(numbers_of_new)) / num_documents, 6),
        new_name_share=round(with_new_names / num_documents, 6),
        new_words_mean=round(float(numbers_of_new.mean()), 6) if len(numbers_of_new) else 0.0,
        new_words_deviation=round(float(numbers_of_new.std()), 6) if len(numbers_of_new) else 0.0,
        copied_only=copied_only,
        top_words={word: round(number / num_documents, 6) for word, number in top},
        known_words=np.unique(_hashes(words[number] for number in seen)),
    )


def _owners(
    rows: NumberedSplit, word_of_form: NDArray[np.int32], num_words: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By word: the one group that has it, else _SEVERAL or _NONE; and how many documents do."""
    owners = np.full(num_words, _NONE, dtype=np.int64)
    documents_with = np.zeros(num_words, dtype=np.int64)
    for some in rows:
        numbers = word_of_form[some.documents.numbers]
        pairs = np.unique(numbers * np.int64(len(some.owners)) + some.documents.rows)
        if not len(pairs):
            continue
        found, of_row = np.divmod(pairs, len(some.owners))
        there, starts, counts = np.unique(found, return_index=True, return_counts=True)
        documents_with[there] += counts
        least, most = (how.reduceat(some.owners[of_row], starts) for how in (np.minimum, np.maximum))
        owner = np.where(least == most, least, _SEVERAL)
        before = owners[there]
        owners[there] = np.where((before == _NONE) | (before == owner), owner, _SEVERAL)
    return owners, documents_with


def _highest(counts: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """The places of the highest counts that are not 0: so many, and all others that equal the last of them."""
    there = np.flatnonzero(counts)
    if len(there) > number:
        there = there[counts[there] >= np.partition(counts[there], -number)[-number]]
    return there


def compare(documents: Iterable[str], profile: Profile, vocabulary: Vocabulary) -> Drift:
    """Compare new documents with the profile; raises PrecisError when they are too few to say anything."""
    tokenizer, as_written = Tokenizer(profile.lowercase), Tokenizer(lowercase=False)
    features: dict[str, list[float]] = {name: [] for name in _FEATURES}
    top: Counter[str] = Counter()
    new: Counter[str] = Counter()
    new_by_document: list[set[str]] = []
    with_new_names = 0
    for document in documents:
        words = tokenizer.words(document)
        _measure(document, words, vocabulary, features)
        distinct = set(words)
        top.update(word for word in distinct if word in profile.top_words)
        # a word that the vocabulary has is no new one
        unseen = _unseen([word for word in distinct if word not in vocabulary and _is_word(word)], profile)
        with_new_names += bool(unseen) and _has_name(as_written.words(document), words, unseen)
        new.update(unseen)
        new_by_document.append(unseen)
    num_documents = len(new_by_document)
    if num_documents < MIN_DOCUMENTS:
        raise PrecisError(f"{num_documents} documents are too few to compare; {MIN_DOCUMENTS} say something")
    recurring = {word for word, number in new.items() if number >= max(3, num_documents / 200)}
    with_recurring = sum(not recurring.isdisjoint(words) for words in new_by_document)
    with_new_words = sum(map(bool, new_by_document))
    findings = [
        _new("new words", with_new_words, profile.new_word_share, num_documents, profile),
        _new("new names", with_new_names, profile.new_name_share, num_documents, profile),
        _number_of_new([min(len(words), _MOST_NEW_WORDS) for words in new_by_document], profile),
        _recurring(with_recurring, num_documents, recurring),
        *(_shape(name, np.array(features[name]), profile) for name in _FEATURES),
        _usual_words(top, num_documents, profile),
    ]
    verdict, reason = _verdict(findings)
    by_frequency = sorted(recurring, key=lambda word: (-new[word], word))
    return Drift(verdict, reason, num_documents, findings, by_frequency[:20])


def _verdict(findings: Sequence[Finding]) -> tuple[str, str]:
    alarms = [finding for finding in findings if finding.alarm]
    reason = "; ".join(finding.says for finding in alarms)
    if any(finding.name == "oov_rate" or "new" in finding.name for finding in alarms):
        return "rebuild the vocabulary", f"{reason}. Add such documents to the corpus, and run `dvc repro`"
    if alarms:
        return "retrain", f"{reason}. The vocabulary still fits; train again with such documents"
    return "nothing", "no difference is both beyond chance and large enough to matter"


def _new(name: str, with_new: int, expected: float, num_documents: int, profile: Profile) -> Finding:
    """Documents with a word that training never saw: more than leaving groups out of training shows?"""
    from scipy.stats import norm  # takes a second, and building a profile does without

    found = with_new / num_documents
    pooled = (expected * profile.num_documents + with_new) / (profile.num_documents + num_documents)
    spread = max(pooled * (1 - pooled), 1e-12) * (1 / max(1, profile.num_documents) + 1 / num_documents)
    p_value = float(norm.sf((found - expected) / math.sqrt(spread)))
    alarm = p_value < _ALPHA_NEW_WORDS and found - expected >= _MIN_NEW_WORD_INCREASE
    says = f"{found:.1%} of the documents have {name} that training never saw, {expected:.1%} were expected"
    return Finding(name, expected, found, p_value, found - expected, alarm, says)


def _number_of_new(numbers: Sequence[int], profile: Profile) -> Finding:
    """Words that training never saw, by document: a new subject brings several at once."""
    from scipy.stats import norm

    expected, found = profile.new_words_mean, float(np.mean(numbers))
    variance = max(profile.new_words_deviation**2, float(np.var(numbers)), 1e-12)
    spread = variance * (1 / max(1, profile.num_documents) + 1 / len(numbers))
    p_value = float(norm.sf((found - expected) / math.sqrt(spread)))
    alarm = p_value < _ALPHA_NEW_WORDS and found - expected >= _MIN_NEW_WORD_INCREASE
    says = f"a document has {found:.2f} words that training never saw, {expected:.2f} were expected"
    return Finding("number of new words", expected, found, p_value, found - expected, alarm, says)


def _recurring(with_recurring: int, num_documents: int, words: Iterable[str]) -> Finding:
    found = with_recurring / num_documents
    shown = ", ".join(sorted(words)[:5]) or "none"
    says = f"{found:.1%} of the documents share words that training never saw ({shown})"
    return Finding("recurring new words", 0.0, found, 0.0, found, found >= _MIN_RECURRING_SHARE, says)


def _shape(name: str, values: NDArray[np.float64], profile: Profile) -> Finding:
    """Compare a distribution, in bins that each hold a tenth of the training documents."""
    from scipy.stats import chi2_contingency

    then = np.array(profile.counts[name], dtype=float)
    now = np.array(_bin(values, profile.edges[name]), dtype=float)
    used = (then + now) > 0
    p_value = 1.0
    if used.sum() > 1:
        p_value = float(chi2_contingency(np.array([then[used], now[used]]))[1])
    # half a document more in each bin, or an empty bin would make it infinite
    p, q = (then + 0.5) / (then + 0.5).sum(), (now + 0.5) / (now + 0.5).sum()
    index = float(np.sum((q - p) * np.log(q / p)))
    expected, found = profile.mean[name], float(values.mean())
    alarm = p_value < _ALPHA_SHAPE and index >= _MIN_STABILITY_INDEX
    if name == "oov_rate":
        # longer documents have steadier rates: only a higher one is an alarm
        alarm = alarm and found >= expected * (1 + _MIN_STABILITY_INDEX)
    says = f"{name.replace('_', ' ')}: {found:.3g} on average, {expected:.3g} in training (stability index {index:.2f})"
    return Finding(name, expected, found, p_value, index, alarm, says)


def _usual_words(top: Counter[str], num_documents: int, profile: Profile) -> Finding:
    """The most usual words of training: how many are in many more, or many fewer, documents?"""
    from scipy.stats import norm

    shifted, smallest = [], 1.0
    for word, expected in profile.top_words.items():
        found = top[word] / num_documents
        spread = max(expected * (1 - expected), 1e-6) * (
            1 / num_documents + 1 / max(1, profile.num_documents)
        )
        p_value = 2 * float(norm.sf(abs(found - expected) / math.sqrt(spread)))
        smallest = min(smallest, p_value)
        if p_value < _ALPHA_SHAPE and abs(found - expected) >= _MIN_WORD_SHIFT:
            shifted.append(word)
    share = len(shifted) / max(1, len(profile.top_words))
    says = f"{len(shifted)} of the most usual words are in many more or fewer documents ({', '.join(shifted[:5])})"
    return Finding("usual words", 0.0, share, smallest, share, len(shifted) >= _MIN_SHIFTED_WORDS, says)


def _measure(
    document: str, words: Sequence[str], vocabulary: Vocabulary, features: dict[str, list[float]]
) -> None:
    features["words"].append(len(words))
    features["oov_rate"].append(vocabulary.ids(words).count(UNK_ID) / max(1, len(words)))
    for name, share in zip(CHARACTER_SHARES, character_shares(document), strict=True):
        features[name].append(share)


def _rarest(vocabulary: Vocabulary) -> set[str]:
    """The words that are in the vocabulary by a single occurrence."""
    ids = range(len(SPECIAL_TOKENS), len(vocabulary))
    least = min((vocabulary.count(id_) for id_ in ids), default=0)
    return {vocabulary.word(id_) for id_ in ids if vocabulary.count(id_) == least}


def _is_word(word: str) -> bool:
    """Whether a new word says anything: numbers and rules of dashes are new all the time."""
    return len(word) > 2 and any(map(str.isalpha, word))


def _has_name(written: Iterable[str], words: Iterable[str], new: set[str]) -> bool:
    """Whether one of the new words is written with a capital or a digit."""
    pairs = zip(written, words, strict=True)
    return any(word in new and _is_name(form) for form, word in pairs)


def _is_name(form: str) -> bool:
    """Whether a word, as it is written, may be a name or a number."""
    return form[0].isupper() or not form.isalpha()


def _unseen(words: Sequence[str], profile: Profile) -> set[str]:
    hashes, known = _hashes(words), profile.known_words
    if not len(known):
        return set(words)
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return {word for word, there in zip(words, known[places] == hashes, strict=True) if not there}


def _edges(values: NDArray[np.float64]) -> list[float]:
    """Where bins end that hold a tenth of the values each, fewer where many values are the same."""
    if not len(values):
        return []
    return sorted({round(float(edge), 9) for edge in np.quantile(values, np.arange(1, _BINS) / _BINS)})


def _bin(values: NDArray[np.float64], edges: Sequence[float]) -> list[int]:
    places = np.searchsorted(np.array(edges), np.round(values, 9), side="left")
    return [int(number) for number in np.bincount(places, minlength=len(edges) + 1)]


def _hashes(words: Iterable[str]) -> NDArray[np.uint32]:
    return np.fromiter((zlib.crc32(word.encode()) for word in words), dtype=np.uint32)
