"""Tokens come apart and together again."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precis.text.tokenizer import JOINER, Token, Tokenizer, surface

J = JOINER
MIXED = st.text(st.one_of(st.sampled_from(f"aB'’{J}.<>_ \n\x1c\u00a0éΣİ-"), st.characters()), max_size=60)


def test_words_carry_no_marks_and_symbols_show_what_they_touch():
    words = Tokenizer(lowercase=True).words('Don\'t "copy" self.x, or...')
    expected = ["don't", f'"{J}', "copy", f'{J}"', "self", f"{J}.{J}", "x", f"{J},", "or", f"{J}..."]
    assert words == expected


def test_two_symbols_that_touch_are_joined_by_the_second():
    assert Tokenizer(lowercase=False).words("f(x)).") == ["f", f"{J}({J}", "x", f"{J}))", f"{J}."]


def test_tokens_keep_the_characters_as_written():
    raw = " Über\tall(NaN)"
    tokens = Tokenizer(lowercase=True).tokens(raw)
    assert tokens[0] == Token("über", 1, 5)
    assert [raw[token.start : token.end] for token in tokens] == ["Über", "all", "(", "NaN", ")"]


def test_a_joiner_that_was_written_survives():
    tokenizer = Tokenizer(lowercase=False)
    for raw in (J, J * 3, f"a{J}", f"{J}a", f"a {J} b", f"{J}.", f".{J}", f"<{J}>"):
        assert tokenizer.detokenize(tokenizer.words(raw)) == raw


@given(MIXED)
def test_detokenizing_gives_the_text_back_up_to_white_space(raw):
    tokenizer = Tokenizer(lowercase=False)
    assert tokenizer.detokenize(tokenizer.words(raw)) == " ".join(raw.split())


@given(MIXED, st.booleans())
def test_tokens_and_words_agree_and_offsets_cover_all_but_white_space(raw, lowercase):
    tokenizer = Tokenizer(lowercase=lowercase)
    tokens = tokenizer.tokens(raw)
    assert [token.text for token in tokens] == tokenizer.words(raw)
    assert "".join(raw[token.start : token.end] for token in tokens) == "".join(raw.split())
    for token in tokens:
        written = raw[token.start : token.end]
        assert surface(token.text) == (written.lower() if lowercase else written)


@given(MIXED)
def test_lower_casing_changes_words_one_by_one(raw):
    lowered = [word.lower() for word in Tokenizer(lowercase=False).words(raw)]
    assert Tokenizer(lowercase=True).words(raw) == lowered


def test_every_character_survives():
    tokenizer = Tokenizer(lowercase=False)
    raw = "".join(map(chr, range(sys.maxunicode + 1)))
    assert tokenizer.detokenize(tokenizer.words(raw)) == " ".join(raw.split())


@pytest.mark.parametrize("raw", ["", " \n\t", "\x1c"])
def test_text_without_words_has_no_tokens(raw):
    assert Tokenizer(lowercase=True).tokens(raw) == []
