import hashlib
import json
from pathlib import Path

from huggingface_hub import ModelCard
from mlflow.artifacts import download_artifacts

from precis.registry.model_card import CARD_TAG, LONGEST_DESCRIPTION, description
from precis.registry.versions import find_alias
from precis.stages.register import register

SCORES = {
    "rouge1": 30.0, "rouge1_low": 28.0, "rouge1_high": 32.0, "rouge2": 12.0, "rouge2_low": 11.0, "rouge2_high": 13.0,
    "rougeL": 27.0, "rougeL_low": 25.5, "rougeL_high": 28.5, "num_documents": 1234, "oov_recall": 0.5,
    "unsupported_rate": 0.031,
}  # fmt: skip


def register_scored(make_model):
    directory = make_model()
    Path("reports/pointer/metrics.json").write_text(json.dumps(SCORES))
    lead = Path("reports/baselines/lead_1/metrics.json")
    lead.parent.mkdir(parents=True, exist_ok=True)
    lead.write_text(json.dumps({**SCORES, "rouge1": 21.5, "rouge1_low": 20.0, "rouge1_high": 23.0}))
    return register(
        Path("models"),
        Path("reports"),
        Path("reports/registered.json"),
        name="precis",
        metric="rouge1",
        experiment="precis",
        decoding=json.loads((directory / "text.json").read_text())["decoding"],
    )


def test_a_version_says_what_it_scored_beside_baselines_and_what_it_is_not_for(client, make_model):
    version = register_scored(make_model)
    shown = client.get_model_version("precis", str(version.number)).description
    assert "| **pointer** | 30.00 [28.00, 32.00] | 12.00 [11.00, 13.00] | 27.00 [25.50, 28.50] |" in shown
    assert "| lead-1 | 21.50 [20.00, 23.00] |" in shown
    assert "1,234 held-out documents" in shown
    assert "Of the words of its test summaries 3.1% are neither in the document nor frequent" in shown
    assert f"precis reproduce models:/precis/{version.number}" in shown
    assert not shown.startswith("---"), "MLflow would show the front matter as text"


def test_the_card_beside_the_model_has_the_form_of_the_hub(client, make_model, tmp_path):
    version = register_scored(make_model)
    path = Path(download_artifacts(artifact_uri=f"{version.uri}/README.md", dst_path=str(tmp_path / "card")))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == version.tags[CARD_TAG]
    card = ModelCard.load(path)
    assert [(result.metric_name, result.metric_value) for result in card.data.eval_results] == [
        ("ROUGE-1", 30.0),
        ("ROUGE-2", 12.0),
        ("ROUGE-L", 27.0),
    ]


def test_a_version_whose_card_was_cut_off_gets_it_the_next_time(client, make_model):
    version = register_scored(make_model)
    client.update_model_version("precis", str(version.number), "")
    client.delete_model_version_tag("precis", str(version.number), CARD_TAG)
    again = register_scored(make_model)
    assert again.number == version.number
    assert find_alias(client, "precis", "challenger").tags[CARD_TAG]
    assert "# precis 1: pointer" in client.get_model_version("precis", "1").description


def test_a_long_card_fits_into_mlflows_table_and_keeps_its_limits():
    sections = [
        "# precis 1: pointer",
        "## Scores\n\nmany",
        "## Limits\n\n- none",
        "## Training\n\n" + "x" * 6000,
    ]
    shown = description(
        ModelCard("---\nlicense: other\n---\n\n" + "\n\n".join([*sections, "## Licence\n\nyours"]))
    )
    assert len(shown) <= LONGEST_DESCRIPTION
    assert "## Limits" in shown
    assert "## Licence" in shown
    assert "## Training" not in shown
    assert "README.md" in shown
