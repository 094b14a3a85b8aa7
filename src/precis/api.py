"""What `from precis import …` gives: summarizers by registry URI or path."""

from __future__ import annotations

import os
from typing import Self

from typing_extensions import override

from precis.opening import digest_of, model_files, project_decoding
from precis.serving.summarizer import Summarizer as _Summarizer


class Summarizer(_Summarizer):
    """A trained model that turns texts into summaries; it may be called from several threads.

        >>> summarizer = Summarizer.load("models:/precis@champion")
        >>> summarizer.summarize("A long text …").text

    It decodes as the model was evaluated, unless a call says otherwise.
    """

    @classmethod
    @override
    def load(
        cls,
        directory: str | os.PathLike[str],
        *,
        run_id: str | None = None,
        model_version: str | None = None,
        digest: str | None = None,
    ) -> Self:
        """Load a model, after checking its files.

        Args:
            directory: models:/NAME@ALIAS, models:/NAME/NUMBER or runs:/ID (of a registered model), looked up in
                the store that MLFLOW_TRACKING_URI names, or mlflow.db in the working folder; or a path: of a
                trained model, of a registered one that was downloaded, or of the `model` folder in it.
            run_id: the training run; where it is not given, what registry or folder say.
            model_version: the version, where the registry is not asked.
            digest: of the files, if it is known already; None: computed.

        Raises:
            PrecisError: there is no such model, it is damaged, or a folder does not say how to decode.
        """
        with model_files(os.fspath(directory)) as (folder, version):
            if version is not None:
                run_id = run_id or version.run_id
                model_version = model_version or str(version.number)
            loaded = super().load(folder, run_id=run_id, model_version=model_version)
            loaded.digest = digest or digest_of(folder)
            if not loaded.decoding:
                loaded.decoding = project_decoding(folder)
        return loaded
