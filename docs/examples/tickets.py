"""Write made-up support tickets as a CSV file, for the tutorial: `python docs/examples/tickets.py tickets.csv`."""

from __future__ import annotations

import argparse
import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

# What is wrong: what the subject line calls it, and what the customer writes.
PROBLEMS = [
    (
        "does not start",
        ["will not start any more", "stays dark when I press the button", "shows no sign of life"],
    ),
    (
        "makes a loud noise",
        ["has become very loud", "rattles as if something was loose", "hums all night long"],
    ),
    ("arrived damaged", ["arrived with a crack", "came out of the box with a dent", "was broken on arrival"]),
    (
        "lost its settings",
        ["forgets what I have set", "is back to what it was when new", "asks for the set-up again"],
    ),
    (
        "cannot connect",
        ["finds no network", "loses the connection every few minutes", "is not seen by my phone"],
    ),
    (
        "shows error {code}",
        ["stops and shows {code}", "says {code} and nothing else", "blinks and then shows {code}"],
    ),
    (
        "is not delivered",
        ["has not come yet", "was to be here last week", "is still on its way, if I trust the page"],
    ),
    (
        "was billed twice",
        ["is on my bill two times", "was taken from my account twice", "appears twice on the invoice"],
    ),
    (
        "lacks a part",
        ["came without the cable", "has one screw too few in the bag", "was packed without its cover"],
    ),
    (
        "gets too hot",
        ["gets so hot that I cannot touch it", "smells of burnt plastic", "switches off when it is warm"],
    ),
]
KINDS = [
    "printer",
    "kettle",
    "heater",
    "router",
    "scanner",
    "lamp",
    "freezer",
    "speaker",
    "drill",
    "fan",
    "radio",
    "oven",
]
GREETINGS = ["Hello,", "Good morning,", "Dear team,", "Hi,", "To whom it may concern,", "Good evening,"]
HISTORY = [
    "I bought it in {city} in {month}.", "It is {number} weeks old.", "We have had it since {month}.",
    "It was a present from my {relative}.", "It is the second one in {number} months.",
    "Your shop in {city} sold it to me.", "My {relative} uses it every day.",
]  # fmt: skip
TRIED = [
    "I have read the manual from page {number} on.", "Switching it off for {number} minutes did not help.",
    "My {relative} looked at it and found nothing.", "I tried another socket in the {room}.",
    "The video on your page is about another one.", "I cleaned it with care and put it back in the {room}.",
    "A friend in {city} has the same one and no trouble.", "I waited for {number} days before I wrote.",
]  # fmt: skip
WISHES = [
    "Please send me a new one to {city}.", "Can someone call me after {number} o'clock?",
    "I would like my money back.", "What shall I do now?", "Please tell me where I can bring it in {city}.",
    "I need it by the end of {month}.", "Do I have to send it back?", "Is there a spare part for it?",
]  # fmt: skip
WORDS = {
    "city": ["Lyon", "Graz", "Leeds", "Turin", "Ghent", "Porto", "Bergen", "Krakow", "Malmo", "Basel"],
    "month": ["January", "March", "May", "July", "September", "November"],
    "relative": ["daughter", "neighbour", "brother", "mother", "uncle", "colleague"],
    "room": ["kitchen", "cellar", "office", "hall", "garage"],
}


def ticket(number: int, generator: random.Random) -> dict[str, str]:
    """A ticket: who wrote when, the message, and the subject line that somebody gave it."""

    def fill(sentence: str, **more: str) -> str:
        words = {name: generator.choice(choices) for name, choices in WORDS.items()}
        return sentence.format(**words, number=generator.randrange(2, 30), **more)

    # names and codes are new in nearly every ticket: no vocabulary has them, they must be copied
    product = "".join(generator.choices("BDFGKLMNPRSTVZ", k=1) + generator.choices("aeiou", k=1))
    product += "".join(generator.choices("bdlmnrstvx", k=2)) + generator.choice(["o", "a", "ix", "on"])
    product += f" {generator.randrange(10, 990)}"
    code = f"{generator.choice('EFHX')}{generator.randrange(100, 999)}"
    kind = generator.choice(KINDS)
    problem, complaints = generator.choice(PROBLEMS)
    asides = generator.sample(HISTORY, generator.randrange(1, 4)) + generator.sample(
        TRIED, generator.randrange(1, 4)
    )
    generator.shuffle(asides)
    sentences = [fill(sentence) for sentence in [*asides, generator.choice(WISHES)]]
    # some come to the point at once, some do not
    complaint = f"My {kind} {product} {generator.choice(complaints).format(code=code)}."
    sentences.insert(generator.randrange(3), complaint)
    opened = datetime(2025, 1, 1, 8) + timedelta(minutes=37 * number + generator.randrange(30))
    return {
        "ticket_no": f"T{100_000 + number}",
        "opened_at": opened.isoformat(sep=" "),
        "customer": f"C{generator.randrange(1000):04d}",
        "message": " ".join([generator.choice(GREETINGS), *sentences]),
        "subject_line": f"{product} {kind} {problem.format(code=code)}",
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write made-up support tickets as a CSV file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    rows = [ticket(number, generator) for number in range(arguments.rows)]
    with arguments.file.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
