"""The page about the data shows the counts, and escapes what documents hold."""

import json
import re

import pytest

from precis.corpora.article import RAW_SCHEMA, SPLITS, Article, batches, parquet_writer
from precis.corpora.checks import CHECKS, TextLimits
from precis.corpora.firewall import Firewall
from precis.errors import PrecisError
from precis.execution.local import LocalEngine
from precis.reporting.data_page import write_data_page
from precis.stages.prepare import prepare
from precis.stages.vocabulary import Cut, build_vocabularies


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "raw").mkdir()
    for split in SPLITS:
        rows = [
            Article(f"{split}-{n}", f"{split} words of document {n} and more of it", f"about {n}")
            for n in range(1_200)
        ]
        rows[0] = Article(
            f"{split}-evil", "<script>alert(1)</script> and words", "an <img src=x onerror=alert(2)>"
        )
        rows[1] = Article(f"{split}-sign", "five < six & seven, as “quoted” words go here", "five < six")
        with parquet_writer(tmp_path / f"raw/{split}.parquet", RAW_SCHEMA) as writer:
            for batch in batches(rows, RAW_SCHEMA):
                writer.write_batch(batch)
    firewall = Firewall(
        dict.fromkeys(CHECKS, "quarantine"), TextLimits(9_999, 9_999, 999), 20, None, 3, LocalEngine()
    )
    shares = dict.fromkeys(CHECKS, 1.0)
    reports = tmp_path / "reports"
    prepare(
        tmp_path / "raw",
        tmp_path / "prepared",
        reports / "data_checks.json",
        firewall=firewall,
        max_shares=shares,
    )
    build_vocabularies(
        tmp_path / "prepared",
        tmp_path / "vocabulary",
        reports / "vocabulary.json",
        cut=Cut(shared=True, source_size=100, target_size=100, min_count=1),
        lowercase=True,
        source_max_length=50,
        target_max_length=20,
        max_truncated_share=0.1,
        engine=LocalEngine(),
    )
    return tmp_path


def test_the_page_has_the_counts_the_charts_and_no_markup_of_documents(prepared):
    reports = prepared / "reports"
    (reports / "baselines/lead").mkdir(parents=True)
    (reports / "baselines/lead/metrics.json").write_text(json.dumps({"rouge1": 31.25}))
    write_data_page(reports, prepared / "prepared", reports / "data.html", num_samples=3)
    page = (reports / "data.html").read_text()
    assert "1,200" in page and "1,199" in page and "31.25" in page
    assert "markup" in page and "With 100 words a model that only generates cannot write" in page
    assert page.count("<img ") == 4 and page.count("data:image/svg+xml") == 8  # light and dark
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "five &lt; six" in page
    assert not re.search(r'(?:src|href)="https?:', page)
    write_data_page(reports, prepared / "prepared", reports / "again.html", num_samples=3)
    assert (reports / "again.html").read_text() == page


def test_a_missing_report_says_what_to_run(tmp_path):
    with pytest.raises(PrecisError, match="dvc repro vocabulary"):
        write_data_page(tmp_path, tmp_path, tmp_path / "data.html", num_samples=3)
