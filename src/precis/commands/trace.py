"""Show where a model came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from precis.errors import PrecisError
from precis.files import atomic_path
from precis.params import load_params

TRACES = Path(".work/traces")


def trace(
    uri: Annotated[
        str, typer.Argument(help="models:/NAME@ALIAS, models:/NAME/NUMBER, runs:/ID, or a summary's file")
    ],
    document: Annotated[
        str | None, typer.Option(help="the id of a test document: adds its summary and its row")
    ] = None,
) -> None:
    """Print the chain from a version to its run, commit, data and flow run, and save it as JSON."""
    from precis.registry.lineage import read_lineage, resolve, row_of, rows_of
    from precis.registry.versions import Version
    from precis.training.tracking import configure

    client = configure()
    version: Version = resolve(client, uri, load_params().registry.name)
    lineage, _ = read_lineage(version)
    chain: dict[str, Any] = {
        "version": {
            "name": version.name,
            "number": version.number,
            "uri": version.uri,
            "digest": version.digest,
        },
        "run": version.run_id,
        **lineage,
        "rows": rows_of(lineage, Path.cwd()),
    }
    if document is not None:
        chain["document"] = _document(document, str(lineage["model"]), row_of(document, Path.cwd()))
    path = TRACES / f"{version.name}-{version.number}.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(chain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for line in _lines(chain):
        print(line)
    print(f"saved as {path}")


def _lines(chain: dict[str, Any]) -> list[str]:
    from precis.registry.lineage import has_changes

    version = chain["version"]
    lines = []
    if "document" in chain:
        document = chain["document"]
        lines.append(f"summary     {document['summary']!r} of document {document['row']['id']}")
    dirty = f", with uncommitted changes {chain['git_diff_sha256']}" if has_changes(chain) else ""
    lines += [
        f"version     {version['name']} {version['number']}, a {chain['model']} model, files {version['digest']}",
        f"run         {chain['run'] or 'not on record'}, training {chain['fingerprint']}",
        f"commit      {chain['git_commit'] or 'not under git'}{dirty}",
        f"environment constraints.txt {chain['environment_sha256'] or 'not on record'}",
    ]
    for stage in reversed(chain["stages"]):
        outs = ", ".join(f"{path} {md5}" for path, md5 in stage["outs"].items())
        lines.append(f"{stage['name']:<11} wrote {outs}")
    if chain["rows"]:
        lines.append(
            "rows        " + ", ".join(f"{number:,} {split}" for split, number in chain["rows"].items())
        )
    if "document" in chain:
        row = chain["document"]["row"]
        lines.append(f"row         {row['id']} of {row['split']}, group {row.get('group')}")
    lines.append(f"flow run    {chain['flow_run'] or 'none: started by hand'}")
    if chain["dvc_experiment"]:
        lines.append(f"experiment  {chain['dvc_experiment']}")
    return lines


def _document(document_id: str, model: str, row: dict[str, Any] | None) -> dict[str, Any]:
    summaries = Path("reports") / model / "summaries.jsonl"
    if row is None:
        raise PrecisError(f"no row of data/raw has the id {document_id!r}")
    if not summaries.is_file():
        raise PrecisError(f"{summaries} not found: run `dvc repro evaluate@{model}` or `dvc checkout`")
    with summaries.open(encoding="utf-8") as lines:
        for line in lines:
            found = json.loads(line)
            if found["id"] == document_id:
                return {"summary": found["summary"], "row": row}
    raise PrecisError(
        f"{summaries} has no summary of {document_id!r}: it is in {row['split']}, not in the test split"
    )
