"""`precis export`: a model as ONNX, to be served without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="models:/NAME@ALIAS, runs:/ID, or a model's folder.")],
    out: Annotated[Path, typer.Option(help="The folder to make, or an older export to replace.")],
) -> None:
    """Write a model as ONNX: encoder, one decoder step, vocabularies, settings, and a manifest of digests.

    `precis.export.runtime.OnnxSummarizer.load(DIR)` and `precis summarize --model DIR` run it with numpy and
    onnxruntime alone; its summaries and their ids are those of the model.
    """
    from precis.export.write import export_model
    from precis.opening import located

    with located(model) as found:
        export_model(
            found.directory,
            out,
            decoding=found.decoding,
            digest=found.digest,
            run_id=found.run_id,
            model_version=found.model_version,
        )
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    print(f"exported {model} to {out}: {size:.1f} MB")
