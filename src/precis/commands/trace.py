"""Show where a model, or one of its summaries, came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from precis.errors import PrecisError
from precis.files import atomic_path
from precis.params import load_params

if TYPE_CHECKING:
    from precis.registry.versions import Version
    from precis.serving.answer_id import AnswerId

TRACES = Path(".work/traces")


def trace(
    uri: Annotated[
        str,
        typer.Argument(
            help="models:/NAME@ALIAS, models:/NAME/NUMBER, runs:/ID, a summary's id, or a file with a summary"
        ),
    ],
    document: Annotated[
        str | None, typer.Option(help="the id of a test document: adds its summary and its row")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="with a summary's id: the file with the document, to have the summary made again"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the chain as JSON")] = False,
) -> None:
    """Print the chain from a summary or a version to its run, commit, data and flow run, and save it as JSON."""
    from precis.registry.lineage import read_lineage
    from precis.registry.resolve import answer_in, resolve
    from precis.registry.rows import rows_of
    from precis.training.tracking import configure

    root = Path.cwd()
    version = resolve(configure(), uri, load_params().registry.name)
    answer, summary = answer_in(uri)
    if text is not None and answer is None:
        raise PrecisError("--text needs a summary's id to compare the document with")
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
        "rows": rows_of(lineage, root),
    }
    if answer is not None:
        chain["answer"] = _answer(answer, summary, text, version, lineage, root)
    if document is not None:
        chain["document"] = _document(document, lineage, root)
    path = TRACES / f"{answer or f'{version.name}-{version.number}'}.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(chain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(chain, indent=2, ensure_ascii=False))
        return
    for line in _lines(chain):
        print(line)
    print(f"saved as {path}")


def _answer(
    answer: AnswerId,
    summary: str | None,
    text: Path | None,
    version: Version,
    lineage: dict[str, Any],
    root: Path,
) -> dict[str, Any]:
    """What an id tells, what its document adds, and whether the version still gives that summary."""
    from precis.registry.rows import find_row

    if summary is not None and not answer.is_summary(summary):
        raise PrecisError(f"the summary in the file is not the one that {answer} names: it was changed since")
    row = find_row(lineage, root, lambda row: answer.is_of_document(row["document"] or ""))
    given = None
    if text is not None:
        try:
            given = text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PrecisError(f"{text} cannot be read: {error}") from error
        if not answer.is_of_document(given):
            raise PrecisError(f"{text} is not the document that {answer} is about, to the last byte")
    document = given if given is not None else (row["document"] if row is not None else None)
    said: dict[str, Any] = {"id": str(answer), "row": row, "document_sha256_starts_with": answer.document}
    if document is None:
        again = "its document is not in the corpus: --text FILE, with the document, has it made again"
    else:
        made, again = _made_again(answer, document, version)
        summary = summary if summary is not None else made
    return {**said, "summary": summary, "again": again}


def _made_again(answer: AnswerId, document: str, version: Version) -> tuple[str | None, str]:
    """The summary that the version gives of the document, if it is the one of the answer, and what came out."""
    from precis.registry.packaging import unpacked
    from precis.serving.answer_id import settings_digest
    from precis.serving.summarizer import Summarizer

    with unpacked(version.uri, digest=version.digest) as directory:
        summarizer = Summarizer.load(directory)
    if settings_digest(summarizer.decoding) != answer.settings:
        return None, "it was asked for with other settings than the version's own: not made again"
    (made,) = summarizer.summarize([document])
    if answer.is_summary(made.text):
        return made.text, "the version gives the same summary again"
    return None, "the version gives ANOTHER summary now: other code, or other last digits on this machine"


def _document(document_id: str, lineage: dict[str, Any], root: Path) -> dict[str, Any]:
    from precis.registry.rows import find_row, summary_of

    row = find_row(lineage, root, lambda row: row["id"] == document_id)
    if row is None:
        raise PrecisError(
            f"no row of the version's data/raw has the id {document_id!r}, or that data is not on this machine "
            "(`dvc pull` may have it)"
        )
    summary = summary_of(lineage, document_id, root)
    if summary is None:
        raise PrecisError(
            f"reports/{lineage['model']}/summaries.jsonl has no summary of {document_id!r}: it is in {row['split']}, "
            "not in the test split, or was set aside; or the version's summaries are not on this machine"
        )
    return {"summary": summary, "row": row}


def _lines(chain: dict[str, Any]) -> list[str]:
    from precis.registry.lineage import has_changes

    version = chain["version"]
    lines = []
    if "answer" in chain:
        answer = chain["answer"]
        shown = repr(answer["summary"]) if answer["summary"] is not None else "not kept"
        lines += [f"summary     {shown} ({answer['id']})", f"            {answer['again']}"]
        if answer["row"] is None:
            lines.append(
                f"document    not in the corpus; its SHA-256 starts with {answer['document_sha256_starts_with']}"
            )
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
    rows = ", ".join(f"{number:,} {split}" for split, number in chain["rows"].items())
    lines.append(f"rows        {rows or 'not on this machine'}")
    for part in ("answer", "document"):
        if row := chain.get(part, {}).get("row"):
            lines.append(f"row         {row['id']} of {row['split']}, group {row.get('group')}")
    lines.append(f"flow run    {chain['flow_run'] or 'none: started by hand'}")
    if chain["dvc_experiment"]:
        lines.append(f"experiment  {chain['dvc_experiment']}")
    return lines
