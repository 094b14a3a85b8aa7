"""What a person should know of a registered version before using it, in the form of the Hugging Face hub's model cards.

It is written once, beside the packaged model and as the version's description in MLflow. It says nothing that was not
measured or recorded; what is not on record is left out.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precis.registry.lineage import has_changes
from precis.registry.versions import Version

if TYPE_CHECKING:
    from huggingface_hub import ModelCard
    from mlflow import MlflowClient
    from mlflow.entities import Run

CARD_FILE = "README.md"
CARD_TAG = "precis.model_card_sha256"
TEMPLATE = Path(__file__).with_name("templates") / "model_card.md.j2"
LONGEST_DESCRIPTION = 5_000  # characters that MLflow's table has room for
_ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
_SHARES = {
    "oov_recall": "words outside the vocabulary that it wrote, of those in the references",
    "copy_rate": "words that were copied",
    "unsupported_rate": "words neither in the document nor frequent",
    "repetition": "three-word phrases that came before",
    "most_common_summary": "documents with the most common summary",
    "empty_summaries": "empty summaries",
}
_SECTIONS = ("model", "train", "text", "vocabulary", "encode")


def model_card(
    directory: Path,
    *,
    name: str,
    number: int,
    chain: Mapping[str, Any],
    run: Run | None,
    metrics: Mapping[str, float],
    baselines: Mapping[str, Mapping[str, float]],
    decoding: Mapping[str, Any],
) -> ModelCard:
    """The card of a version.

    Args:
        directory: the model directory.
        name: of the registered model.
        number: of the version.
        chain: what `precis.registry.lineage.describe` gives.
        run: the training run; None if the record does not have it.
        metrics: of the test split, as `evaluate` writes them.
        baselines: the same of each baseline, by its name.
        decoding: the settings that the version is served with.
    """
    import jinja2
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    model = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    text = json.loads((directory / "text.json").read_text(encoding="utf-8"))
    corpus = _params(chain, "download").get("corpus", {})
    evaluation = _params(chain, f"evaluate@{model['name']}").get("evaluation", {})
    signature = run.data.tags.get("precis.rouge") if run is not None else None
    results = [
        EvalResult(
            task_type="summarization",
            dataset_type=str(corpus.get("source", "unknown")),
            dataset_name=_corpus_name(corpus),
            dataset_split="test",
            metric_type="rouge",
            metric_name=label,
            metric_value=round(metrics[metric], 2),
            metric_config=signature,
        )
        for metric, label in _ROUGE.items()
        if metric in metrics
    ]
    data = ModelCardData(
        model_name=f"{name}-{number}",
        library_name="precis",
        pipeline_tag="summarization",
        license="other",
        tags=["summarization", str(model["name"])],
        eval_results=results or None,
    )
    num_parameters, megabytes = _size(directory / "model.safetensors")
    # a line that is only a block tag leaves nothing behind; Markdown needs no escaping
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    content = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=data.to_yaml(),
        name=name,
        number=number,
        about={
            "model": model["name"],
            "num_parameters": num_parameters,
            "megabytes": megabytes,
            "precis": installed("precis"),
        },
        decoding=decoding,
        text=text,
        scores=_scores(str(model["name"]), metrics, baselines),
        num_documents=int(metrics.get("num_documents", 0)),
        confidence=f"{evaluation.get('confidence', 0.95):.0%}",
        signature=signature,
        statistics=[(label, f"{metrics[key]:.1%}") for key, label in _SHARES.items() if key in metrics],
        unsupported=f"{metrics['unsupported_rate']:.1%}" if "unsupported_rate" in metrics else None,
        corpus=_corpus(corpus),
        rows=_rows(run, metrics),
        outs=[
            (path, md5)
            for stage in chain["stages"]
            if stage["name"] in ("download", "prepare", "vocabulary")
            for path, md5 in sorted({**_sources(stage, corpus), **stage["outs"]}.items())
        ],
        training=_training(run),
        parameters=_parameters(run, decoding),
        origin=_origin(chain, run),
    )
    return ModelCard(content)


def attach(client: MlflowClient, version: Version, card: ModelCard) -> Version:
    """Put the card beside the version's package and make it the version's description.

    The tag comes last: a version that has it has all of its card.

    Returns:
        the version with its tag.
    """
    content = str(card.content)
    with tempfile.TemporaryDirectory(prefix="precis-card-") as folder:
        path = Path(folder) / CARD_FILE
        path.write_text(content, encoding="utf-8")
        client.log_model_artifact(version.source.removeprefix("models:/"), str(path))
    client.update_model_version(version.name, str(version.number), description(card))
    digest = hashlib.sha256(content.encode()).hexdigest()
    client.set_model_version_tag(version.name, str(version.number), CARD_TAG, digest)
    return replace(version, tags={**version.tags, CARD_TAG: digest})


def description(card: ModelCard) -> str:
    """The card as MLflow shows it, which knows no front matter; the sections that there is room for."""
    text = str(card.text).strip()
    if len(text) <= LONGEST_DESCRIPTION:
        return text
    more = f"\n\nThe rest is in the artifact {CARD_FILE} of the model."
    head, *sections = text.split("\n## ")
    for section in sections:
        longer = f"{head}\n## {section}"
        if len(longer) + len(more) > LONGEST_DESCRIPTION:
            continue
        head = longer
    return head[: LONGEST_DESCRIPTION - len(more)].rstrip() + more


def _params(chain: Mapping[str, Any], stage_name: str) -> dict[str, Any]:
    """The parameters of a stage, by section, as dvc.lock has them."""
    for stage in chain["stages"]:
        if stage["name"] == stage_name:
            return dict(stage["params"].get("params.yaml", {}))
    return {}


def _corpus_name(corpus: Mapping[str, Any]) -> str:
    source = corpus.get("source")
    if source == "hub":
        return str(corpus["hub"]["name"])
    if source == "files":
        return Path(str(corpus["files"]["path"])).name
    return str(source or "unknown")


def _corpus(corpus: Mapping[str, Any]) -> str:
    """A sentence on where the rows came from."""
    match corpus.get("source"):
        case "files":
            where = f"Files: `{corpus['files']['path']}`"
        case "hub":
            hub = corpus["hub"]
            where = f"Hugging Face dataset `{hub['name']}`, configuration {hub['config']}, revision {hub['revision']}"
        case "docstrings":
            return "Docstrings of the installed packages and of the standard library, each without its summary line."
        case _:
            return "Where the rows came from is not on record."
    columns = corpus["columns"]
    return f"{where}; documents are the column `{columns['document']}`, summaries `{columns['summary']}`."


def _sources(stage: Mapping[str, Any], corpus: Mapping[str, Any]) -> dict[str, str]:
    path = corpus.get("files", {}).get("path")
    deps: Mapping[str, str] = stage["deps"]
    return {path: deps[path]} if corpus.get("source") == "files" and path in deps else {}


def _rows(run: Run | None, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = []
    for entry in run.inputs.dataset_inputs if run is not None and run.inputs is not None else []:
        context = next((tag.value for tag in entry.tags if tag.key == "mlflow.data.context"), None)
        if context in ("training", "validation"):
            profile = json.loads(entry.dataset.profile or "{}")
            rows.append(
                {"split": context, "rows": profile.get("num_rows", 0), "digest": f"`{entry.dataset.digest}`"}
            )
    if "num_documents" in metrics:
        rows.append({"split": "test", "rows": int(metrics["num_documents"]), "digest": ""})
    return rows


def _scores(
    model: str, metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """The rows of the table: what each cell says, behind the name of its column."""
    systems = {
        **{name.replace("_", "-"): values for name, values in baselines.items()},
        f"**{model}**": metrics,
    }
    kinds = [kind for kind in _ROUGE if f"{kind}_low" in metrics]
    if not kinds:
        return []
    return [
        {
            "name": name,
            "cells": [
                (
                    _ROUGE[kind],
                    f"{values[kind]:.2f} [{values[f'{kind}_low']:.2f}, {values[f'{kind}_high']:.2f}]",
                )
                for kind in kinds
            ],
        }
        for name, values in systems.items()
        if all(f"{kind}_low" in values for kind in kinds)
    ]


def _training(run: Run | None) -> str:
    if run is None:
        return "The record does not have the training run."
    said = []
    metrics = run.data.metrics
    if "minutes" in metrics:
        said.append(f"{metrics['minutes']:.1f} minutes")
    if "updates" in metrics:
        said.append(f"{metrics['updates']:,.0f} updates, the best after {metrics['best_update']:,.0f}")
    if "best_validation_loss" in metrics:
        said.append(f"validation loss {metrics['best_validation_loss']:.4f}")
    return "; ".join(said) + "." if said else "The run has no figures about its training."


def _parameters(run: Run | None, decoding: Mapping[str, Any]) -> list[tuple[str, str]]:
    sections: list[tuple[str, str]] = []
    for section in _SECTIONS if run is not None else ():
        assert run is not None
        values = {
            key.removeprefix(f"{section}."): value
            for key, value in run.data.params.items()
            if key.startswith(f"{section}.")
        }
        if values:
            sections.append((section, _listed(values)))
    sections.append(("decoding", _listed(decoding)))
    return sections


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {json.dumps(value) if not isinstance(value, str) else value}" for key, value in values.items()
    )


def _origin(chain: Mapping[str, Any], run: Run | None) -> Sequence[tuple[str, str]]:
    dirty = " with uncommitted changes" if chain.get("git_commit") and has_changes(dict(chain)) else ""
    said = [
        ("commit", f"`{chain['git_commit']}`{dirty}" if chain.get("git_commit") else "not under git"),
        ("training run", f"`{run.info.run_id}`" if run is not None else "not on record"),
        ("what it was trained from and with", f"`{chain['fingerprint']}`"),
    ]
    if chain.get("environment_sha256"):
        said.append(("installed packages, SHA-256 of `constraints.txt`", f"`{chain['environment_sha256']}`"))
    if chain.get("flow_run"):
        said.append(("Prefect flow run", f"`{chain['flow_run']}`"))
    return said


def _size(weights: Path) -> tuple[int, float]:
    """Numbers in a safetensors file, and its megabytes."""
    from math import prod

    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as tensors:
        names = tensors.keys()
        num_parameters = sum(prod(tensors.get_slice(name).get_shape()) for name in names)
    return num_parameters, weights.stat().st_size / 1e6
