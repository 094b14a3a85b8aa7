"""Ten copies of test documents, each disguised, among the training rows: all ten are found."""

import hostile
from test_hostile import run, write

# twelve words each, with what the disguise changes among them
PLAIN = [f'{hostile.text(700 + number, 12)} fish & chips, Zoë\'s café — 7.5 % "off"' for number in range(10)]
DISGUISES = {
    "case": str.upper,
    "title case": str.title,
    "double spaces": lambda text: text.replace(" ", "  "),
    "line feeds": lambda text: text.replace(" ", "\r\n"),
    "tabs around": lambda text: f"\t {text} \t\n",
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "narrow no-break spaces": lambda text: text.replace(" ", "\u202f"),
    "named entities": lambda text: text.replace("&", "&amp;").replace('"', "&quot;").replace(" ", "&nbsp;"),
    "numeric entities": lambda text: text.replace("&", "&#38;").replace("ë", "&#235;").replace("é", "&#xe9;"),
    "punctuation and decomposed letters": lambda text: (
        text.replace("ë", "e\u0308").replace("é", "e\u0301").replace(" — ", ", ").replace("'", "’")
    ),
}


def test_ten_of_ten_disguised_copies_are_found(tmp_path):
    assert len(DISGUISES) == len(PLAIN) == 10
    copies = [
        hostile.row(100 + number, document=disguise(text))
        for number, (text, disguise) in enumerate(zip(PLAIN, DISGUISES.values(), strict=True))
    ]
    good = [hostile.row(number, references=[hostile.summary(number)]) for number in range(40)]
    write(
        tmp_path,
        train=[*good, *copies],
        validation=[hostile.row(50), hostile.row(51)],
        test=[hostile.row(60 + number, document=text) for number, text in enumerate(PLAIN)],
    )
    findings, kept, aside = run(tmp_path)
    reasons = {row["id"]: row["reason"] for row in aside}
    assert findings.copies["test_in_train"] == 10, reasons
    assert not {row["id"] for row in kept} & {f"row-{100 + number}" for number in range(10)}
    assert len(kept) == 40 + 2 + 10
