import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import html5lib
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from precis.errors import PrecisError
from precis.reporting.comparison import compare_systems, markdown
from precis.reporting.data_page import write_data_page
from precis.reporting.differences import (
    compare_documents,
    comparison_page,
    differing_words,
    worst_first,
)
from precis.reporting.index_page import find_documents, index_page
from precis.reporting.reading import pieces, worth_reading
from precis.reporting.systems import read_systems, scored_rows

HOW = {"resamples": 200, "confidence": 0.95, "seed": 1}


class Checker(HTMLParser):
    """Collects what a page loads and runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action", "data"):
                self.loaded.append(value)
            if name.startswith("on"):
                self.handlers.append(name)


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    return checker


def index(reports: Path) -> str:
    systems = read_systems(reports)
    scores = [scored_rows(system) for system in systems]
    comparisons = compare_systems(systems, scores, **HOW)
    return index_page(systems, scores, comparisons, reports.parent / "test.parquet", confidence=0.95)


def compare_page(reports: Path) -> str:
    a, b = read_systems(reports)[-2:]
    compared = compare_documents(a, b, **HOW)
    chosen = worst_first(compared, 6)
    documents = find_documents(reports.parent / "test.parquet", set(chosen))
    return comparison_page(a, b, compared, documents, chosen=chosen, confidence=0.95)


def data_page(reports: Path) -> str:
    """The page about the data, of counts made up here and of documents that must stay inert."""
    prepared = reports.parent / "prepared"
    prepared.mkdir(exist_ok=True)
    rows = pq.read_table(reports.parent / "test.parquet").to_pydict()
    columns = {"id": rows["id"], "document": rows["document"], "summary": rows["document"]}
    columns |= {"reason": ["markup"] * 12, "split": ["train"] * 12}
    pq.write_table(pa.table({**columns, "detail": columns["document"]}), prepared / "quarantine.parquet")
    pq.write_table(pa.table(columns), prepared / "test.parquet")
    splits = ("train", "validation", "test")
    lengths = {"median": 9, "histogram": {"bin_words": 5, "texts": [1, 2, 3]}}
    counts = dict.fromkeys(splits, 1)
    reason = {
        "set_aside": counts,
        "reported": counts,
        "examples": [{"id": "<b>", "detail": rows["document"][0]}],
    }
    checks = {
        "rows": {split: {"read": 12, "set_aside": 1, "kept": 11} for split in splits},
        "lengths": {split: {"document": lengths, "summary": lengths} for split in splits},
        "checks": {"markup": {"reasons": {"markup": reason}, "max_share": 0.1}},
        "duplicate_documents": counts,
        "copies_across_splits": {"test_in_train": 1},
        "near_copies_across_splits": {},
        "clean_test_rows": 11,
    }
    sizes = [
        {"vocabulary_size": size, "generated": 0.5, "copied_only": 0.3, "neither": 0.2} for size in (100, 200)
    ]
    shares = ("generated", "copied_only", "neither", "source_oov_rate", "source_truncated_share")
    of_split = dict.fromkeys([*shares, "target_truncated_share"], 0.1) | {"by_size": sizes}
    vocabulary = {
        "in_words": "With 100 words …",
        "target_vocabulary_size": 100,
        "splits": dict.fromkeys(splits, of_split),
    }
    (reports / "data_checks.json").write_text(json.dumps(checks))
    (reports / "vocabulary.json").write_text(json.dumps(vocabulary))
    write_data_page(reports, prepared, reports / "data.html", num_samples=4)
    return (reports / "data.html").read_text(encoding="utf-8")


PAGES = [index, compare_page, data_page]


@pytest.mark.parametrize("make", PAGES)
def test_a_page_is_valid_and_loads_nothing(reports, make):
    page = make(reports)
    html5lib.HTMLParser(strict=True).parse(page)  # raises at the first parse error of the standard
    checker = checked(page)
    loaded = [url for url in checker.loaded if not url.startswith("#")]
    assert loaded and all(url.startswith("data:image/svg+xml;base64,") for url in loaded)
    targets = [url[1:] for url in checker.loaded if url.startswith("#")]
    assert all(f'id="{target}"' in page for target in targets)
    assert checker.tags.count("script") == 1
    assert not {"iframe", "object", "embed", "link", "base", "form", "svg", "b1"} & set(checker.tags)
    assert checker.handlers == []
    assert not re.search(r"""(?:url\(|@import|https?://)""", re.sub(r'"data:[^"]*"', "", page))
    assert 'name="viewport"' in page and "default-src 'none'" in page


@pytest.mark.parametrize("make", PAGES)
def test_what_a_document_says_is_text_and_nothing_else(reports, make):
    """The same as in a browser below, and on machines that have none."""
    page = make(reports)
    text = "".join(html5lib.parse(page, namespaceHTMLElements=False).itertext())
    assert "<script>document.title='taken over'</script><img src=x onerror=" in text
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    (script,) = tree.iter("script")
    assert "taken over" not in script.text and "alert" not in script.text
    for element in tree.iter("style"):
        assert "taken" not in element.text
    assert all(image.get("alt") is not None for image in tree.iter("img"))


def test_characters_that_html_forbids_are_replaced_one_by_one():
    from precis.reporting.page import _permitted

    assert _permitted("a\x08\x00\x9f\uffff\U0001ffffb\r\n\t😀\x0c") == "a" + 5 * "\ufffd" + "b \n\t😀\x0c"


def test_the_page_has_every_system_and_its_numbers(reports):
    page = index(reports)
    for system in read_systems(reports):
        assert system.title in page
        assert f"{system.metrics['rouge1']:.2f}" in page
    assert "rouge-score:x|y" in page


def test_charts_are_inert_svg(reports):
    for data in re.findall(r'"data:image/svg\+xml;base64,([^"]+)"', index(reports)):
        svg = base64.b64decode(data).decode()
        assert svg.lstrip().startswith("<?xml")
        assert "<script" not in svg and "<svg onload" not in svg
        assert "<dc:date>" not in svg


def test_pages_are_the_same_bytes_every_time(reports):
    assert index(reports) == index(reports)
    assert compare_page(reports) == compare_page(reports)


def test_the_markdown_table_has_baselines_first_and_the_best_model_last(reports):
    systems = read_systems(reports)
    assert next(system.title for system in systems) == "lead-1"
    text = markdown(systems, compare_systems(systems, [scored_rows(s) for s in systems], **HOW), 0.95)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert table[0].startswith("| system | ROUGE-1 | ROUGE-2 | ROUGE-L | ROUGE-Lsum | OOV recall |")
    assert all(line.count("|") == table[0].count("|") for line in table[: 2 + len(systems)])
    assert "Signature: `rouge-score:x|y`" in text
    assert "attention: 50% of the words are rare words" in text  # the hint


def test_lines_that_are_no_json_are_named(reports):
    path = reports / "pointer" / "summaries.jsonl"
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(PrecisError, match=r"summaries.jsonl, line 13, is no JSON"):
        index(reports)
    path.unlink()
    with pytest.raises(PrecisError, match="not found: run `dvc repro evaluate`"):
        index(reports)
    shutil.rmtree(reports)
    with pytest.raises(PrecisError, match=r"has no model's metrics.json"):
        read_systems(reports)


def test_pieces_give_the_summary_back():
    row = {
        "summary": "ab  c",
        "tokens": [
            {"text": "ab", "start": 0, "end": 2, "origin": "copied", "probability": 1.0},
            {"text": "c", "start": 4, "end": 5, "origin": "generated", "probability": 0.5},
        ],
    }
    assert "".join(piece.text for piece in pieces(row)) == row["summary"]
    assert [piece.origin for piece in pieces(row)] == ["copied", None, "generated"]


def test_differing_words_keep_both_texts_and_mark_what_changed():
    old, new = differing_words("the cat sat on it", "the dog sat on it too")
    assert "".join(piece.text for piece in old) == "the cat sat on it"
    assert "".join(piece.text for piece in new) == "the dog sat on it too"
    assert [piece.text.strip() for piece in old if piece.origin == "gone"] == ["cat", "it"]
    assert [piece.text.strip() for piece in new if piece.origin == "new"] == ["dog", "it too"]
    assert differing_words("", "") == ([], [])


def test_the_worst_regressions_come_first(reports):
    a, b = read_systems(reports)[-2:]
    compared = compare_documents(a, b, **HOW)
    chosen = worst_first(compared, 6)
    changes = dict(zip(compared.ids, compared.changes["rouge1"], strict=True))
    assert changes[chosen[0]] == min(changes.values())
    losses = [changes[row_id] for row_id in chosen if changes[row_id] < 0]
    assert losses == sorted(losses)
    mean = sum(changes.values()) / len(changes)
    assert compared.metrics["difference_rouge1"] == pytest.approx(mean)


def test_the_best_typical_and_worst_documents_are_read():
    import numpy as np

    chosen = worth_reading(np.arange(30.0), 2)
    assert [place for place, _ in chosen] == [29, 28, 14, 15, 0, 1]
    assert len(worth_reading(np.zeros(1), 4)) == 1


def test_every_statistic_is_on_the_page_with_its_meaning(reports):
    page = index(reports)
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    rows: dict[str, list[str]] = {}
    for row in tree.iter("tr"):
        rows.setdefault(row[0].text, ["".join(cell.itertext()) for cell in row[1:]])
    systems = read_systems(reports)
    metrics = [system.metrics for system in systems]
    for title, name in (
        ("copy rate", "copy_rate"),
        ("OOV recall", "oov_recall"),
        ("empty", "empty_summaries"),
    ):
        shown = [f"{100 * one[name]:.1f} %" if name in one else "–" for one in metrics]
        assert rows[title] == shown
    assert rows[systems[-1].title][0].startswith(f"{metrics[-1]['rouge1']:.2f}")
    assert rows["10+"][:2] == ["7", "30.50"]  # of the best model, by length
    told = {term.text for term in tree.iter("dt")}
    assert {"copy rate", "novel 1-grams", "novel 4-grams", "length ratio"} - told == (
        {"novel 1-grams", "novel 4-grams"}  # that these systems do not have
    )


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


PROBE = """
const inner = document.querySelector("iframe").contentDocument;
const word = inner.querySelector(".word[data-sources]");
if (word) word.dispatchEvent(new Event("mouseenter"));
document.body.dataset.report = JSON.stringify({
  title: inner.title,
  outer: document.title,
  scroll: inner.documentElement.scrollWidth,
  width: inner.documentElement.clientWidth,
  marks: inner.querySelectorAll("mark").length,
  requests: inner.defaultView.performance.getEntriesByType("resource")
    .filter((entry) => !entry.name.startsWith("data:")).length,
});
"""


def in_browser(page: str, directory: Path, width: int) -> dict:
    """What Chromium finds in the page, as it is, in a frame of that width, after its scripts ran."""
    (directory / "page.html").write_text(page, encoding="utf-8")
    frame = f'<iframe src="page.html" style="border:0;width:{width}px;height:900px"></iframe>'
    script = f"<script>addEventListener('load', () => {{ {PROBE} }});</script>"
    file = directory / "frame.html"
    file.write_text(f"<!DOCTYPE html><title>outer</title><body>{frame}{script}</body>", encoding="utf-8")
    command = [
        chromium(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--allow-file-access-from-files",
        f"--user-data-dir={directory / 'profile'}",
        "--window-size=1500,1000",
        "--dump-dom",
        file.as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(re.search(r'data-report="([^"]*)"', dom)[1].replace("&quot;", '"'))


@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
@pytest.mark.parametrize("make", PAGES)
@pytest.mark.parametrize("width", [400, 1400])
def test_in_chromium_text_stays_text_and_nothing_is_wider_than_the_window(reports, tmp_path, make, width):
    report = in_browser(make(reports), tmp_path, width)
    # the scripts in the documents would have changed it
    assert report["title"].startswith("precis") and report["outer"] == "outer"
    assert report["requests"] == 0
    assert report["scroll"] <= report["width"] <= width
    if make is index:
        assert report["marks"] == 1  # pointing at a word marks its source


@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
def test_the_pages_own_script_passes_its_policy(reports, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(index(reports), encoding="utf-8")
    result = subprocess.run(
        [
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Content Security Policy" not in result.stderr


@pytest.mark.parametrize("make", PAGES)
def test_axe_finds_nothing_serious_in_light_and_dark(
    reports, tmp_path, new_page, accessibility_problems, make
):
    file = tmp_path / "page.html"
    file.write_text(make(reports), encoding="utf-8")
    for scheme in ("light", "dark"):
        page = new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        assert accessibility_problems(page) == {}
