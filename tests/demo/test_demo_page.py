"""The demo page in a real browser, in front of the real service."""

import json
import re
import urllib.request

import pytest

expect = pytest.importorskip("playwright.sync_api").expect

expect.set_options(timeout=20_000)

DOCUMENT = "The Quick brown fox of O'Neil's jumps over the lazy dog, twice! 😀 Then frobnicate stops it."
NASTY = (
    "<script>document.title='taken over'</script><img src=x onerror=\"alert(1)\"> {{7*7}} & <b>bold</b> dog"
)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def ask(address: str, model: str, document: str, **settings) -> dict:
    """What the service answers, asked without the page."""
    body = json.dumps({"model": model, "document": document, "provenance": True, **settings}).encode()
    request = urllib.request.Request(f"{address}summarize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)["summaries"][0]


def document_box(page):
    return page.get_by_role("textbox", name="Document")


def summarize(page, address: str, document: str = DOCUMENT) -> None:
    """Open the page, type a document, press the button, wait."""
    page.goto(address)
    document_box(page).fill(document)
    page.get_by_role("button", name="Summarize").click()
    expect(page.locator(".summary .word").first).to_be_visible()


def words(page, number: int = 0) -> list:
    return page.locator(".summary").nth(number).locator(".word").all()


def origins(page, number: int = 0) -> list[str]:
    known = {"copied", "generated", "unsupported"}
    return [(known & set(word.get_attribute("class").split())).pop() for word in words(page, number)]


def text_of(document: str, span: list) -> str:
    return document[span[0] : span[1]]


def test_a_typed_document_gives_the_services_answer_word_by_word(new_page, address):
    page = new_page()
    summarize(page, address)
    answer = ask(address, "champion", DOCUMENT)
    assert page.locator(".summary").inner_text() == answer["summary"]
    assert [word.inner_text() for word in words(page)] == [token["text"] for token in answer["tokens"]]
    assert origins(page) == [token["origin"] for token in answer["tokens"]]
    assert page.locator(".id code").inner_text() == answer["summary_id"]
    assert page.locator(".tag").inner_text().startswith("pointer, files ")
    for origin in ("copied", "generated", "unsupported"):
        expect(page.locator(".legend").get_by_text(origin, exact=True)).to_be_visible()
    host = re.match("http://[^/]+/", address)[0]
    assert page.addresses and all(url.startswith(host) for url in page.addresses)


def test_origins_differ_in_more_than_colour(new_page, address):
    page = new_page()
    page.goto(address)
    lines = {
        origin: page.locator(f".legend .{origin}").evaluate("e => getComputedStyle(e).textDecorationStyle")
        for origin in ("copied", "generated", "unsupported")
    }
    assert len(set(lines.values())) == 3


def test_pointing_at_a_word_shows_where_it_came_from(new_page, address):
    page = new_page()
    summarize(page, address)
    tokens = ask(address, "champion", DOCUMENT)["tokens"]
    # an emoji stands before it: offsets count characters, not halves of them
    number = next(n for n, token in enumerate(tokens) if len(token.get("attended", ())) > 1)
    words(page)[number].hover()
    marks = page.locator("#reading mark")
    spans = {tuple(span[:2]): span[2] for span in tokens[number]["attended"]}
    if source := tokens[number].get("source"):
        spans.setdefault(tuple(source), 0.05)
    in_order = sorted(spans)
    assert [mark.inner_text() for mark in marks.all()] == [text_of(DOCUMENT, span) for span in in_order]
    shown = [float(mark.evaluate("e => e.style.getPropertyValue('--weight')")) for mark in marks.all()]
    assert shown == pytest.approx([spans[span] for span in in_order])
    strengths = [mark.evaluate("e => getComputedStyle(e).backgroundColor") for mark in marks.all()]
    assert len(set(strengths)) == len(set(shown))  # the more weight, the stronger the colour
    detail = page.locator(".detail")
    for name, key in (
        ("probability", "probability"),
        ("copied", "copied"),
        ("generated", "generated"),
        ("p_gen", "p_gen"),
    ):
        value = tokens[number][key]
        percent = "< 1 %" if 0 < value < 0.005 else f"{int(100 * value + 0.5)} %"
        expect(detail.locator(".numbers > div", has_text=name).locator("dd")).to_have_text(percent)
    page.mouse.move(0, 0)
    expect(marks).to_have_count(0)
    assert page.locator("#reading").inner_text() == DOCUMENT


def test_after_a_click_a_word_stays_until_escape(new_page, address):
    page = new_page()
    summarize(page, address)
    word = words(page)[0]
    word.click()
    page.mouse.move(0, 0)
    expect(word).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".detail h4")).to_contain_text(word.inner_text())
    page.keyboard.press("Escape")
    expect(word).to_have_attribute("aria-pressed", "false")


def test_two_models_stand_side_by_side_and_what_differs_is_framed(new_page, address):
    page = new_page()
    summarize(page, address)
    page.get_by_label("Beside it").select_option("challenger")
    expect(page.locator(".summary")).to_have_count(2)
    expect(page.locator(".summary").nth(1).locator(".word").first).to_be_visible()
    for number, model in enumerate(("champion", "challenger")):
        assert page.locator(".summary").nth(number).inner_text() == ask(address, model, DOCUMENT)["summary"]
    left, right = (page.locator(".summary-card").nth(number).bounding_box() for number in (0, 1))
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    common = [
        [
            word.inner_text().lower()
            for word in words(page, number)
            if "differs" not in word.get_attribute("class")
        ]
        for number in (0, 1)
    ]
    assert common[0] == common[1]
    assert page.locator(".summary .differs").count() > 0
    assert "differ" in page.locator(".counts").first.inner_text()
    # the other way round
    page.get_by_label("Beside it").select_option("none")
    page.get_by_label("Model").select_option("challenger")
    expect(page.locator(".summary")).to_have_count(1)
    expect(page.locator(".summary")).to_have_text(ask(address, "challenger", DOCUMENT)["summary"])
    assert page.locator(".summary .differs").count() == 0


def test_settings_change_the_summary(new_page, address):
    page = new_page()
    summarize(page, address)
    page.get_by_label("Most words").fill("3")
    page.get_by_label("Most words").press("Tab")
    asked = {"beam_size": 3, "min_length": 2, "max_length": 3}
    expect(page.locator(".summary")).to_have_text(ask(address, "champion", DOCUMENT, **asked)["summary"])
    page.get_by_label("Fewest words").fill("3")
    page.get_by_label("Beam").fill("1")
    page.get_by_label("Length penalty").select_option("none")
    asked = {"beam_size": 1, "min_length": 3, "max_length": 3, "length_penalty": "none"}
    answer = ask(address, "champion", DOCUMENT, **asked)
    expect(page.locator(".summary")).to_have_text(answer["summary"])
    expect(page.locator(".id code")).to_have_text(answer["summary_id"])
    page.get_by_role("button", name="Reset settings").click()
    expect(page.locator(".summary")).to_have_text(ask(address, "champion", DOCUMENT)["summary"])


def test_settings_that_cannot_be_are_told_before_anything_is_asked(new_page, address):
    page = new_page()
    page.goto(address)
    document_box(page).fill(DOCUMENT)
    page.get_by_label("Fewest words").fill("9")
    page.get_by_label("Most words").fill("4")
    page.get_by_role("button", name="Summarize").click()
    expect(page.locator("#problem")).to_have_text("Most words is below fewest words, which is 9.")
    expect(page.get_by_label("Most words")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Beam").fill("99")
    page.get_by_role("button", name="Summarize").click()
    expect(page.locator("#problem")).to_have_text("Beam: a whole number from 1 to 16, please.")
    page.get_by_role("button", name="Reset settings").click()
    document_box(page).fill("  ")
    page.get_by_role("button", name="Summarize").click()
    expect(page.locator("#problem")).to_contain_text("There is no document yet")
    assert not [url for url in page.addresses if url.endswith("/summarize")]


def test_an_example_is_summarized_when_it_is_picked(new_page, address):
    page = new_page()
    page.goto(address)
    page.get_by_label("Example").select_option("An e-mail")
    expect(page.locator(".summary .word").first).to_be_visible()
    text = page.locator("#reading").inner_text()
    assert (
        text.startswith("Hi Marta")
        and page.locator(".summary").inner_text() == ask(address, "champion", text)["summary"]
    )
    page.get_by_role("button", name="Edit").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(" PS: bring the projector.")
    expect(page.get_by_label("Example")).to_have_value("")
    expect(page.locator("#words")).to_contain_text("changed since the summary")
    words(page)[0].hover()  # does not take away what is being written
    expect(document_box(page)).to_be_visible()


def test_everything_can_be_done_with_the_keyboard(new_page, address):
    page = new_page()
    page.goto(address)
    expect(page.locator("#beam")).not_to_have_value("")

    def tab_to(selector: str, most: int = 25) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to("#text")
    page.keyboard.type(DOCUMENT)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".summary .word").first).to_be_visible()
    tokens = ask(address, "champion", DOCUMENT)["tokens"]
    tab_to("#beam")
    tab_to("#go")
    tab_to("#model")
    tab_to(".summary .word")
    for token in tokens[:3]:
        expect(page.locator(".detail h4")).to_contain_text(token["text"])
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == tokens[-1]["text"]
    page.keyboard.press("Enter")
    expect(words(page)[-1]).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.textContent") == tokens[0]["text"]
    tab_to(".copy", most=1)  # the words are one stop


def test_at_the_width_of_a_phone_everything_fits_and_a_tap_shows_a_word(new_page, address):
    page = new_page(**PHONE)
    long_word = "a_very_long_identifier_that_goes_on_and_on_" * 6
    summarize(page, address, f"{DOCUMENT} {long_word}")
    page.get_by_label("Beside it").select_option("challenger")
    expect(page.locator(".summary").nth(1).locator(".word").first).to_be_visible()
    word = words(page)[1]
    word.tap()
    expect(page.locator(".detail h4").first).to_contain_text(word.inner_text())
    expect(page.locator(".looked mark").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    outside = page.evaluate(
        """[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > 391
        && !e.closest(".hidden") && getComputedStyle(e).display !== "contents").map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert [html for html in outside if "context" not in html and "<mark" not in html] == []
    small = page.evaluate(
        """[...document.querySelectorAll("main button, main select, main input")]
        .filter((e) => e.offsetParent && e.getBoundingClientRect().height < 36).map((e) => e.outerHTML)"""
    )
    assert small == []  # for fingers


def test_a_script_in_a_document_stays_text(new_page, address):
    page = new_page()
    summarize(page, address, NASTY)
    page.get_by_label("Beside it").select_option("challenger")
    expect(page.locator(".summary").nth(1).locator(".word").first).to_be_visible()
    for word in words(page) + words(page, 1):
        word.hover()
        assert page.locator("#reading").inner_text() == NASTY
    assert page.title() == "precis: summaries with every word accounted for"
    assert page.locator("main script, main img, main b").count() == 0


def test_texts_that_no_encoding_has_and_characters_of_several_parts_are_read(new_page, address):
    page = new_page()
    page.goto(address)
    expect(page.locator("#beam")).not_to_have_value("")
    text = "The cafe\u0301 of a \U0001f469\u200d\U0001f467 dog, \r\n\u05e9\u05dc\u05d5\u05dd twice "
    page.evaluate("text => { document.getElementById('text').value = `${text}\\ud800`; }", text)
    page.get_by_role("button", name="Summarize").click()
    expect(page.locator(".summary .word").first).to_be_visible()
    read = text.replace("\r\n", "\n") + "\ufffd"
    assert page.locator("#text").input_value() == read
    answer = ask(address, "champion", read)
    expect(page.locator(".summary")).to_have_text(answer["summary"])
    for word, token in zip(words(page), answer["tokens"], strict=True):
        word.focus()
        marks = [mark.text_content() for mark in page.locator("#reading mark").all()]
        spans = {tuple(span[:2]) for span in token.get("attended", ())}
        spans |= {tuple(token["source"])} if "source" in token else set()
        assert marks == [text_of(read, span) for span in sorted(spans)]


def test_the_policy_lets_nothing_in(address):
    with urllib.request.urlopen(address) as response:
        policy = response.headers["Content-Security-Policy"]
        html = response.read().decode()
    allowed = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert allowed["default-src"] == "'none'" and "unsafe" not in policy
    assert {allowed[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert not re.search(r"(?i)<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|https?://|data:", html)


def test_while_it_works_the_page_says_so(new_page, address):
    page = new_page()
    page.goto(address)
    held = []

    def hold(route) -> None:
        held.append(route)

    page.route("**/summarize", hold)
    document_box(page).fill(DOCUMENT)
    page.get_by_role("button", name="Summarize").click()
    expect(page.get_by_role("button", name="Summarizing")).to_have_attribute("aria-busy", "true")
    expect(page.locator(".summary-card")).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("status")).to_have_text("Summarizing")
    held[0].continue_()
    expect(page.locator(".summary .word").first).to_be_visible()
    expect(page.locator("#go")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("status")).to_contain_text(page.locator(".summary").inner_text())


def test_what_the_service_refuses_is_said_politely(new_page, address, accessibility_problems):
    page = new_page(allowed_errors="413|ERR_INTERNET_DISCONNECTED")
    page.goto(address)
    document_box(page).fill("word " * 4100)
    page.get_by_role("button", name="Summarize").click()
    alert = page.locator(".failure")
    expect(alert).to_contain_text("This cannot be summarized.")
    expect(alert).to_contain_text("document 0 has 20,500 characters, at most 20,000 are taken")
    assert accessibility_problems(page) == {}
    document_box(page).fill(DOCUMENT)
    page.context.set_offline(True)
    page.get_by_role("button", name="Summarize").click()
    expect(alert).to_contain_text("The service cannot be reached.")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".summary")).to_have_text(ask(address, "champion", DOCUMENT)["summary"])
    expect(alert).to_be_hidden()


def test_summary_and_id_can_be_copied(new_page, address):
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    summarize(page, address)
    answer = ask(address, "champion", DOCUMENT)
    page.get_by_role("button", name="Copy summary").click()
    expect(page.get_by_role("status")).to_have_text("Summary copied")
    assert page.evaluate("navigator.clipboard.readText()") == answer["summary"]
    page.get_by_role("button", name="Copy id").click()
    expect(page.get_by_role("status")).to_have_text("Id copied")
    assert page.evaluate("navigator.clipboard.readText()") == answer["summary_id"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(new_page, address, accessibility_problems, scheme):
    page = new_page(color_scheme=scheme)
    page.goto(address)
    expect(page.locator("#beam")).not_to_have_value("")
    assert accessibility_problems(page) == {}
    summarize(page, address, f"{DOCUMENT} {NASTY}")
    page.get_by_label("Beside it").select_option("challenger")
    expect(page.locator(".summary").nth(1).locator(".word").first).to_be_visible()
    words(page)[0].click()
    expect(page.locator("#reading mark").first).to_be_visible()
    assert accessibility_problems(page) == {}
    page.set_viewport_size({"width": 390, "height": 844})
    assert accessibility_problems(page) == {}
    red, green, blue = map(
        int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert (red + green + blue < 150) == (scheme == "dark")
