"""The manifest of a packaged model: see `precis.manifest`, which parts below the registry use, too."""

from precis.manifest import (
    MANIFEST,
    check_manifest,
    combined_digest,
    differences,
    digests_of,
    file_digest,
    write_manifest,
)

__all__ = [
    "MANIFEST",
    "check_manifest",
    "combined_digest",
    "differences",
    "digests_of",
    "file_digest",
    "write_manifest",
]
