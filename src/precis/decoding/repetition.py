"""Words that would repeat an n-gram of the hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NgramBlock:
    """No n-gram twice in one summary.

    Attributes:
        size: n; 0 blocks nothing.
        exceptions: ids of words whose n-grams may come again (punctuation, for example).
    """

    size: int = 0
    exceptions: tuple[int, ...] = ()

    def completions(self, history: Tensor, nothing: int) -> Tensor | None:
        """The words that would complete an n-gram that the hypothesis has already.

        Args:
            history: extended ids of the words so far, (rows, K, T).
            nothing: an id that stands for no word.

        Returns:
            Extended ids, (rows, K, T - n + 1), `nothing` where an n-gram is not about to be repeated; None when
            nothing can be repeated yet.
        """
        num_words = history.shape[2]
        if not self.size or num_words < self.size:
            return None
        ngrams = history.unfold(2, self.size, 1)  # (rows, K, T - n + 1, n)
        last_words = history[:, :, num_words - self.size + 1 :]
        about_to_repeat = (ngrams[..., :-1] == last_words.unsqueeze(2)).all(3)
        if self.exceptions:
            exceptions = torch.tensor(self.exceptions, device=history.device)
            about_to_repeat &= ~torch.isin(ngrams, exceptions).any(3)
        return ngrams[..., -1].masked_fill(~about_to_repeat, nothing)
