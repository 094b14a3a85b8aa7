import torch

from precis.decoding.step import fill_holes, keep_documents, select_documents


def test_the_last_rows_take_the_places_of_those_that_go():
    stays = torch.tensor([True, False, True, False, True, False, True])
    assert fill_holes(stays).tolist() == [0, 4, 2, 6]


def test_rows_that_are_moved_in_place_are_those_that_would_be_selected():
    generator = torch.Generator().manual_seed(3)
    for size in range(1, 12):
        stays = torch.rand(size, generator=generator) < 0.6
        keys = torch.randn(size, 3, 2, generator=generator)
        memory = {"states": keys, "keys": keys, "mask": torch.arange(size * 4).view(size, 4)}
        rows = fill_holes(stays)
        assert sorted(rows.tolist()) == stays.nonzero().flatten().tolist()
        selected = select_documents(memory, rows)
        kept = keep_documents(memory, rows)  # after the selection: it overwrites the memory
        assert kept["states"] is kept["keys"]
        for name in memory:
            assert torch.equal(kept[name], selected[name])
