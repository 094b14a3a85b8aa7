"""Word vectors from a text file in the format of word2vec or GloVe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from precis.errors import PrecisError
from precis.models.base import SummarizationModel
from precis.models.embeddings import WordEmbeddings


def load_vectors(path: str | os.PathLike[str], words: Sequence[str], table: Tensor) -> int:
    """Overwrite the rows of `table` whose words the file has; the file is read once, line by line.

    Args:
        path: UTF-8 text; a word and its numbers on each line, separated by single spaces; the first line of
            word2vec (two numbers) is skipped.
        words: the vocabulary in the order of the rows.
        table: (V, E), changed in place.

    Returns:
        how many words were found.

    Raises:
        PrecisError: the file is missing or not of this format, or its vectors are not E wide.
    """
    rows: dict[str, int] = {}
    for row, word in enumerate(words):
        rows.setdefault(word, row)
    size = table.shape[1]
    found: set[int] = set()
    try:
        with Path(path).open(encoding="utf-8", newline="\n") as lines, torch.no_grad():
            for number, line in enumerate(lines, start=1):
                parts = line.rstrip().split(" ")
                if number == 1 and len(parts) == 2:
                    continue
                # a word may itself hold spaces: the numbers are counted from the end
                word, values = " ".join(parts[:-size]), parts[-size:]
                if len(parts) <= size:
                    raise PrecisError(
                        f"{path}, line {number}: expected a word and {size} numbers (embedding_size), "
                        f"found {len(parts) - 1}"
                    )
                if number <= 2 and _is_number(parts[-size - 1]) and len(parts) > size + 1:
                    raise PrecisError(
                        f"{path}, line {number}: vectors are {len(parts) - 1} wide, embedding_size is {size}"
                    )
                if word not in rows or rows[word] in found:
                    continue
                try:
                    vector = torch.tensor([float(value) for value in values], dtype=table.dtype)
                except ValueError as error:
                    raise PrecisError(f"{path}, line {number}: {error}") from error
                if not vector.isfinite().all():
                    raise PrecisError(f"{path}, line {number}: a number is not finite")
                table[rows[word]] = vector
                found.add(rows[word])
    except FileNotFoundError as error:
        raise PrecisError(f"pretrained embeddings not found: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PrecisError(f"pretrained embeddings {path} cannot be read as UTF-8 text: {error}") from error
    return len(found)


def initialise_embeddings(
    model: SummarizationModel,
    path: str | os.PathLike[str],
    source_words: Sequence[str],
    target_words: Sequence[str],
) -> tuple[int, int]:
    """Start a model's embeddings from a file; words that it lacks keep their random vectors.

    Returns:
        how many words of the source and of the target vocabulary were found.
    """
    embeddings = next(module for module in model.modules() if isinstance(module, WordEmbeddings))
    num_target = load_vectors(path, target_words, embeddings.target.data)
    if embeddings.source is None:
        return num_target, num_target
    return load_vectors(path, source_words, embeddings.source.data), num_target


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
