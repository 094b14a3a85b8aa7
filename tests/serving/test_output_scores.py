import pytest
import torch

from precis.serving.output_scores import CHUNK, OutputMatrix, OutputScorer

SIZES = [1, 7, 33, CHUNK, CHUNK + 1, 3 * CHUNK + 40]
READOUT = 6


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def layer(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    matrix, bias, read = (
        torch.randn(*shape, generator=generator) for shape in ((size, READOUT), (size,), (2, 3, READOUT))
    )
    return matrix, bias, read


@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.parametrize("size", SIZES)
def test_scores_of_parts_are_those_of_the_whole_softmax(size, scale):
    matrix, bias, read = layer(size)
    matrix = matrix * scale
    expected = torch.log_softmax((read.double() @ matrix.double().T) + bias, dim=2)
    scores = OutputScorer(OutputMatrix.of(matrix, bias, None, int8=False)).score(read, {})
    assert scores.vocabulary_size == size
    assert_close(scores.everything(), expected)
    ids = torch.tensor([[0, size - 1, size // 2], [size // 3, 0, 0]])
    assert_close(scores.of(ids), expected.gather(2, ids.unsqueeze(1).expand(-1, 3, -1)))
    for count in (1, 5, 40, size + 3):
        log_probs, best = scores.best(count)
        assert_close(log_probs, expected.sort(dim=2, descending=True).values[:, :, :count])
        assert_close(log_probs, expected.gather(2, best))


@pytest.mark.parametrize("size", [33, CHUNK + 1])
def test_a_shortlist_is_a_softmax_over_its_words_and_those_of_each_document(size):
    matrix, bias, read = layer(size)
    listed = torch.arange(0, size, 3)
    # words of the list, words besides it, one of them twice, source OOVs and padding
    extended_ids = torch.tensor([[3, 1, 4, 1, size, 0], [6, size - 1, size + 2, 9, 2, 5]])
    output = OutputMatrix.of(matrix, bias, listed, int8=False)
    memory = output.words_besides(extended_ids)
    scores = OutputScorer(output).score(read, memory)
    logits = (read.double() @ matrix.double().T) + bias
    for document in range(2):
        words = {int(i) for i in extended_ids[document] if i < size} | set(listed.tolist())
        writable = torch.zeros(size, dtype=torch.bool)
        writable[sorted(words)] = True
        expected = logits[document].masked_fill(~writable, -torch.inf).log_softmax(1)
        assert_close(scores.everything()[document], expected)
        ids = torch.arange(size).expand(2, -1)
        assert_close(scores.of(ids)[document], expected)
        log_probs, best = scores.best(4)
        assert set(best[document].flatten().tolist()) <= set(listed.tolist())
        assert_close(log_probs[document], expected[:, listed].sort(dim=1, descending=True).values[:, :4])


def test_a_document_that_has_no_word_besides_the_shortlist_changes_nothing():
    matrix, bias, read = layer(50)
    output = OutputMatrix.of(matrix, bias, torch.arange(50), int8=False)
    scores = OutputScorer(output).score(read, output.words_besides(torch.tensor([[4, 5], [60, 0]])))
    assert_close(scores.everything(), torch.log_softmax((read.double() @ matrix.double().T) + bias, dim=2))


@pytest.mark.parametrize("way", ["int8", "bfloat16"])
@pytest.mark.parametrize("size", [33, 3 * CHUNK + 40])
def test_screening_finds_the_best_words_and_scores_them_in_full(size, way):
    matrix, bias, read = layer(size)
    expected = torch.log_softmax((read.double() @ matrix.double().T) + bias, dim=2)
    scores = OutputScorer(OutputMatrix.of(matrix, bias, None, **{way: True})).score(read, {})
    log_probs, best = scores.best(3)
    torch.testing.assert_close(log_probs.double(), expected.gather(2, best), atol=0.03, rtol=0)
    differences = log_probs[:, :, :1] - log_probs
    exact = expected.gather(2, best)
    assert_close(differences, exact[:, :, :1] - exact)  # the sum is the only thing that screening changes
    assert (best[:, :, 0] == expected.argmax(2)).all()


def test_buffers_serve_batches_of_any_size():
    matrix, bias, _ = layer(200)
    scorer = OutputScorer(OutputMatrix.of(matrix, bias, None, int8=False))
    for num_documents in (1, 5, 2):
        read = torch.randn(num_documents, 3, READOUT)
        assert_close(scorer.score(read, {}).everything(), torch.log_softmax(read @ matrix.T + bias, dim=2))


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), atol=1e-4, rtol=1e-5)
