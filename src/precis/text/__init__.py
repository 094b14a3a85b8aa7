"""Words and ids: the tokenizer, the vocabulary, source OOVs. No torch."""
