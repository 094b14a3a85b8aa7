"""What mkdocs asks for when it builds the site: pages that live outside docs/, and links between them."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.precis")
ROOT = Path(__file__).resolve().parents[1]
# where they are in the repository, and what they are called on the site
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/RESULTS.md": "results.md",
    "data/source/README.md": "corpus-files.md",
}
_ORIGIN = {page: path for path, page in OUTSIDE.items()}
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_EXTERNAL = re.compile(r"https?://[^\s)>\"'`]+")
_external: set[str] = set()


def on_config(config: Any) -> Any:
    """Leave pages out of the navigation that are not written yet."""
    config.nav = _written(config.nav)
    return config


def _written(nav: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = []
    for entry in nav:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            kept.append({title: _written(target)})
        elif target in _ORIGIN or (ROOT / "docs" / target).is_file():
            kept.append(entry)
        else:
            log.info("docs/%s is not written yet", target)
    return kept


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at the site's pages; a file of the repository that has none is named without a link."""
    here = page.file.src_uri
    folder = posixpath.dirname(_ORIGIN.get(here, f"docs/{here}"))
    _external.update(_EXTERNAL.findall(markdown))

    def point(found: re.Match[str]) -> str:
        if "://" in found["target"] or found["target"].startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, found["target"]))
        if path in OUTSIDE:
            target = OUTSIDE[path]
        elif path.startswith("docs/"):
            target = path.removeprefix("docs/")
        elif (ROOT / path).exists():
            return found["text"]
        else:
            return found[0]  # mkdocs says what is wrong with it
        target = posixpath.relpath(target, posixpath.dirname(here) or ".")
        return f"{found['image']}[{found['text']}]({target}{found['anchor'] or ''})"

    return _LINK.sub(point, markdown)


def on_post_build(config: Any) -> None:
    """Name the links that need a network to be checked."""
    log.info("external links, not checked:\n%s", "\n".join(f"  {link}" for link in sorted(_external)))
