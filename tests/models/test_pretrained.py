"""Word vectors from text files."""

import pytest
import torch

from precis.errors import PrecisError
from precis.models.pretrained import initialise_embeddings, load_vectors

WORDS = ["<pad>", "<unk>", "the", "cat", "new york"]


def test_words_that_the_file_has_get_its_vectors(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("cat 1 2 3\nnew york -1 0.5 1e-2\ndog 7 7 7\ncat 9 9 9\n")
    table = torch.zeros(5, 3)
    assert load_vectors(path, WORDS, table) == 2
    assert table[3].tolist() == [1, 2, 3]  # the first line of a word counts
    assert table[4].tolist() == pytest.approx([-1, 0.5, 0.01])
    assert (table[:3] == 0).all()


def test_the_header_of_word2vec_is_skipped(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("2 3\nthe 1 2 3 \ncat 4 5 6 \n")
    table = torch.zeros(5, 3)
    assert load_vectors(path, WORDS, table) == 2
    assert table[2].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat 1 2\n", "line 1: expected a word and 3 numbers .embedding_size., found 2"),
        ("cat 1 2 3 4\n", "line 1: vectors are 4 wide, embedding_size is 3"),
        ("the 1 2 3\ncat 1 x 3\n", "line 2: could not convert string to float: 'x'"),
        ("the 1 2 3\ncat 1 nan 3\n", "line 2: a number is not finite"),
    ],
)
def test_a_file_of_another_form_is_refused(content, message, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(PrecisError, match=message):
        load_vectors(path, WORDS, torch.zeros(5, 3))


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(PrecisError, match="pretrained embeddings not found"):
        load_vectors(tmp_path / "none.txt", WORDS, torch.zeros(5, 3))
    path = tmp_path / "vectors.bin"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(PrecisError, match="cannot be read as UTF-8"):
        load_vectors(path, WORDS, torch.zeros(5, 3))


@pytest.mark.parametrize("name", ["encoder_decoder", "attention", "pointer"])
def test_a_model_starts_from_them(name, make_model, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("cat 1 2 3 4 5 6\n")
    model = make_model(name)
    target_words = ["x"] * 18 + ["cat"]
    source_words = ["cat"] + ["x"] * 22
    assert initialise_embeddings(model, path, source_words, target_words) == (1, 1)
    embeddings = (model.seq2seq if name == "pointer" else model).embeddings
    assert embeddings.source[0].tolist() == embeddings.target[18].tolist() == [1, 2, 3, 4, 5, 6]
