"""A clean corpus raises no alarm."""

import json
import random

import hostile
from test_hostile import run, write

from precis.corpora.columns import Columns

UNUSUAL = (
    "AT&T and R&D say 3 < 5 > 2, x <= y, `Vec<T>`, <S> on the NYSE, a[0][1], {name}, C:\\temp, #42, 50 %, $5 ",
    "naïve café, Übergröße, São Paulo, Łódź, “quoted” – dashes — and … dots, it’s €9.99, 10 °C, ½, ™ ",
    "emoji 🙂👩‍👩‍👧 and flags 🇫🇷, maths ∑xᵢ² ≤ ∞, arrows → ⇒, music ♫ ",
    "see https://example.org/a/very/long/path?with=query&and=more#fragment or mail me@example.org ",
    "def f(x): return x ** 2  # code\n\tif a and b:\n\t\tpass\n\n>>> f(2)\n4\n",
    "* one\n* two\n\n| a | b |\n|---|---|\n==========\n__bold__ and *stars*\f\nnext page ",
)
LANGUAGES = (
    (
        "Сегодня утром в городе открыли новый мост через реку, и тысячи людей пришли посмотреть на него ",
        "Открыт новый мост {n}",
    ),
    (
        "今日は朝から新しい橋が開通し、多くの人々が集まりました。天気も良く、子供たちは喜んでいました。",
        "新しい橋 {n} が開通",
    ),
    (
        "Σήμερα το πρωί άνοιξε μια νέα γέφυρα στην πόλη και χιλιάδες άνθρωποι ήρθαν να τη δουν ",
        "Άνοιξε νέα γέφυρα {n}",
    ),
    (
        "افتتح صباح اليوم جسر جديد في المدينة وجاء آلاف الناس لمشاهدته وكان الطقس جميلا ",
        "افتتاح جسر جديد {n}",
    ),
    (
        "Ce matin, un nouveau pont a été inauguré en présence du maire ; des milliers d’habitants sont venus ",
        "Un pont inauguré {n}",
    ),
)


def clean_row(number: int) -> bytes:
    generator = random.Random(number)
    document = hostile.text(number, generator.randrange(30, 120))
    summary = f"{hostile.summary(number)}: what {generator.choice(hostile.WORDS)} {number} means"
    if number % 10 == 0:
        document = f"{generator.choice(UNUSUAL)}{document}"
    if number % 25 == 0:
        opening, summary = generator.choice(LANGUAGES)
        noise = " ".join(str(generator.randrange(10**6)) for _ in range(30))
        document, summary = f"{opening * 3} {noise}", summary.format(n=number)
    return json.dumps({"id": f"ticket/{number}", "document": document, "summary": summary}).encode()


def test_ten_thousand_clean_rows_raise_no_alarm(tmp_path):
    rows = [clean_row(number) for number in range(10_000)]
    write(tmp_path, train=rows[:8_000], validation=rows[8_000:9_000], test=rows[9_000:])
    findings, kept, aside = run(tmp_path, Columns("document", "summary", "id"))
    assert [(row["id"], row["reason"], row["detail"]) for row in aside] == []
    assert len(kept) == findings.read.total() == 10_000
