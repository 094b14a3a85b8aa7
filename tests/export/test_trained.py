"""Token for token on 500 documents, with models that were trained."""

import json
from pathlib import Path

import pytest
import torch
from project import Project, write_tickets

from precis import Summarizer
from precis.opening import located

pytest.importorskip("onnxruntime")

from precis.export.runtime import OnnxSummarizer
from precis.export.write import export_model

NUM_DOCUMENTS = 500


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("trained") / "tickets", num_rows=1_200)
    project.set_params({"train": {"max_epochs": 8}})
    project.repro("train")
    return project


@pytest.mark.slow
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("name", ["encoder_decoder", "attention", "pointer"])
def test_500_documents_have_the_same_tokens(project, tmp_path, name):
    assert_equal_tokens(project.folder / "models" / name, tmp_path)


def assert_equal_tokens(directory: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    with located(str(directory)) as found:
        export_model(
            found.directory, folder / "out", decoding=found.decoding, digest=found.digest, run_id=None,
            model_version=None,
        )  # fmt: skip
    write_tickets(folder / "new.jsonl", NUM_DOCUMENTS, seed=77)
    documents = [json.loads(line)["document"] for line in (folder / "new.jsonl").open()]
    expected = Summarizer.load(directory).summarize(documents)
    found_summaries = OnnxSummarizer.load(folder / "out").summarize(documents)
    assert len({summary.text for summary in expected}) > 1 or directory.name != "pointer"
    assert [summary.words for summary in found_summaries] == [summary.words for summary in expected]
    assert [summary.summary_id for summary in found_summaries] == [summary.summary_id for summary in expected]
