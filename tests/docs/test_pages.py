"""The site is built strictly, asks nobody for anything, and its page of parameters is up to date."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))


def test_the_page_of_parameters_is_what_params_yaml_says() -> None:
    import parameters_page

    assert parameters_page.PAGE.read_text(encoding="utf-8") == parameters_page.page(), (
        "docs/parameters.md is out of date: run `python docs/parameters_page.py`"
    )


def test_every_parameter_is_explained() -> None:
    import parameters_page
    from ruamel.yaml import YAML

    from precis.params import Params

    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    comments = parameters_page.comments_of(text)
    unexplained = [
        ".".join(key)
        for key, field, _ in parameters_page.parameters(Params, YAML().load(text))
        if not parameters_page.unit_and_meaning(comments, key, field)[1]
    ]
    assert not unexplained, "these keys of params.yaml need a comment that says what they are"


def test_the_picture_of_the_stages_has_all_of_them() -> None:
    from ruamel.yaml import YAML

    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    names = {
        f"{name}@{item['model'] if isinstance(item, dict) else item}" if items else name
        for name, stage in stages.items()
        for items in [_matrix(stage)]
        for item in items or [None]
    }
    picture = (ROOT / "docs/images/stages.svg").read_text(encoding="utf-8")
    assert set(re.findall(r">([\w@]+)</text>", picture)) == names


def _matrix(stage: dict) -> list:
    matrix = stage.get("matrix") or {}
    return next(iter(matrix.values()), stage.get("foreach", []))


class Requests(HTMLParser):
    """What a browser fetches when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        wanted = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
        self.urls += [value or "" for name, value in attributes if name == wanted.get(tag)]


def test_the_site_is_built_without_a_warning_and_asks_nobody(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs the extra `docs`")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "parameters.html", "faq.html"} <= {page.name for page in pages}
    for page in pages:
        requests = Requests()
        requests.feed(page.read_text(encoding="utf-8"))
        assert [url for url in requests.urls if "//" in url] == [], page
        # the theme fetches this from a content network as soon as a page has a diagram of its kind
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8"), page
