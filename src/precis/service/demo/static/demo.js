// The demo page: what the service answers, word by word. Texts become text nodes, never HTML.

const PATIENCE = 60_000; // milliseconds that an answer may take
const LATE = "late";
const BEFORE = 16; // characters shown before a place of the document
const AFTER = 28; // and behind it

const $ = (id) => document.getElementById(id);
const page = {
  text: $("text"), reading: $("reading"), edit: $("edit"), words: $("words"), example: $("example"),
  reference: $("reference"), referenceText: $("reference-text"), form: $("form"), go: $("go"), reset: $("reset"),
  problem: $("problem"), choice: $("choice"), model: $("model"), other: $("other"), cards: $("cards"),
  status: $("status"), main: $("main"), differs: $("differs-legend"),
};
const numbers = { beam_size: $("beam"), min_length: $("min"), max_length: $("max") };
const penalty = $("penalty");

let models = []; // as the service lists them
let examples = [];
let cards = []; // one for each model that is shown
let asking = null; // the request that is on its way
let read = null; // the document of the answers that are shown, as text and as characters

start();

async function start() {
  try {
    const about = await unpack(await fetch("demo/start"));
    ({ models, examples } = about);
    if (!models.length) throw Object.assign(new Error("No model could be loaded yet."), { status: 503 });
    numbers.beam_size.max = about.limits.beam_size;
    numbers.min_length.max = numbers.max_length.max = about.limits.summary_words;
  } catch (problem) {
    cards = [makeCard({ name: "precis", about: "" })];
    page.cards.replaceChildren(cards[0].element);
    showFailure(cards[0], problem, () => location.reload());
    return;
  }
  fillExamples();
  for (const select of [page.model, page.other]) {
    models.forEach((model, number) => select.append(new Option(model.name, number)));
  }
  page.other.prepend(new Option("none", ""));
  page.other.value = "";
  page.choice.hidden = models.length < 2;
  takeDefaults();
  layOut();
  listen();
  countWords();
}

function listen() {
  page.form.addEventListener("submit", (event) => { event.preventDefault(); summarize(); });
  page.text.addEventListener("input", () => { page.example.value = ""; showReference(); countWords(); });
  page.edit.addEventListener("click", () => { edit(); page.text.focus(); });
  page.reset.addEventListener("click", () => { takeDefaults(); checkSettings(); again(); });
  page.example.addEventListener("change", takeExample);
  page.model.addEventListener("change", () => { takeDefaults(); layOut(); countWords(); again(); });
  page.other.addEventListener("change", () => { layOut(); again(); });
  for (const input of [...Object.values(numbers), penalty]) input.addEventListener("change", again);
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); summarize(); }
    if (event.key === "Escape") unpin();
  });
}

// ---- what is asked

function fillExamples() {
  const groups = new Map();
  examples.forEach((example, number) => {
    if (!groups.has(example.group)) {
      const group = document.createElement("optgroup");
      group.label = example.group;
      groups.set(example.group, group);
      page.example.append(group);
    }
    groups.get(example.group).append(new Option(example.title, number));
  });
}

function takeExample() {
  const example = examples[page.example.value];
  edit();
  page.text.value = example ? example.text : "";
  page.text.scrollTop = 0;
  showReference();
  countWords();
  if (example) summarize();
}

function showReference() {
  const reference = examples[page.example.value]?.reference;
  page.reference.hidden = !reference;
  page.referenceText.textContent = reference ?? "";
}

function countWords() {
  const text = page.text.value.trim();
  const number = text ? text.split(/\s+/u).length : 0;
  const told = number ? [number === 1 ? "1 word" : `${number.toLocaleString("en")} words`] : [];
  const reads = models[page.model.value || 0].reads;
  if (number > reads) told.push(`the model reads the first ${reads.toLocaleString("en")} words and marks`);
  if (read && page.text.value !== read.text) told.push("changed since the summary");
  page.words.textContent = told.join(" · ");
}

function takeDefaults() {
  const defaults = models[page.model.value || 0].decoding;
  for (const [name, input] of Object.entries(numbers)) input.value = defaults[name];
  penalty.value = defaults.length_penalty;
  for (const input of Object.values(numbers)) input.removeAttribute("aria-invalid");
  page.problem.textContent = "";
}

// The settings, or null after telling what is wrong with them.
function checkSettings() {
  const settings = { length_penalty: penalty.value };
  let problem = "";
  for (const [name, input] of Object.entries(numbers)) {
    const value = input.value === "" ? NaN : Number(input.value);
    let wrong = !Number.isInteger(value) || value < Number(input.min) || value > Number(input.max);
    if (wrong) {
      problem ||= `${input.labels[0].firstChild.textContent.trim()}: a whole number from ${input.min} to ${input.max}, please.`;
    } else if (name === "max_length" && settings.min_length > value) {
      wrong = true;
      problem ||= `Most words is below fewest words, which is ${settings.min_length}.`;
    }
    input.setAttribute("aria-invalid", wrong);
    settings[name] = value;
  }
  page.problem.textContent = problem;
  return problem ? null : settings;
}

// Changed settings or models show at once, where there is something to show.
function again() {
  if (read || asking) summarize();
}

async function summarize() {
  const settings = checkSettings();
  if (!settings) return;
  // half of a surrogate pair is no character, and no JSON
  const text = (page.text.value = page.text.value.toWellFormed());
  if (!text.trim()) {
    page.problem.textContent = "There is no document yet: paste one, or pick an example.";
    edit();
    page.text.focus();
    return;
  }
  asking?.abort();
  const mine = (asking = new AbortController());
  const timer = setTimeout(() => mine.abort(LATE), PATIENCE);
  setBusy(true);
  await Promise.all(cards.map(async (card) => {
    try {
      card.answer = await ask(card.model, text, settings, mine.signal);
      card.failed = null;
    } catch (problem) {
      card.answer = null;
      card.failed = problem;
    }
  }));
  clearTimeout(timer);
  if (mine !== asking) return; // something newer was asked
  asking = null;
  setBusy(false);
  showAnswers(text);
}

async function ask(model, text, settings, signal) {
  const began = performance.now();
  const answer = await unpack(await fetch("summarize", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: model.name, document: text, provenance: true, ...settings }),
    signal,
  }));
  return { ...answer.summaries[0], milliseconds: performance.now() - began };
}

async function unpack(response) {
  let body = null;
  try {
    body = await response.json();
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
  }
  if (response.ok && body !== null) return body;
  const message = typeof body?.error === "string" ? body.error : "";
  throw Object.assign(new Error(message), { status: response.status, request: body?.request_id });
}

// ---- what is shown

function layOut() {
  const first = Number(page.model.value || 0);
  const second = page.other.value === "" ? null : Number(page.other.value);
  const shown = second === null || second === first ? [first] : [first, second];
  for (const option of page.other.options) option.disabled = option.value === String(first);
  if (second === first) page.other.value = "";
  page.main.classList.toggle("comparing", shown.length > 1);
  page.differs.hidden = shown.length < 2;
  cards = shown.map((number) => makeCard(models[number]));
  page.cards.replaceChildren(...cards.map((card) => card.element));
}

function makeCard(model) {
  const element = $("card").content.firstElementChild.cloneNode(true);
  const part = (selector) => element.querySelector(selector);
  part("h3").textContent = model.name;
  part(".tag").textContent = model.about;
  part(".tag").hidden = !model.about;
  const card = {
    model, element, answer: null, failed: null, pieces: [],
    placeholder: part(".placeholder"), body: part(".answer"), summary: part(".summary"), counts: part(".counts"),
    detail: part(".detail"), id: part(".id"), code: part("code"), failure: part(".failure"),
  };
  part(".copy").addEventListener("click", () => copy(card.answer.summary, card.summary, "Summary copied"));
  part(".copy-id").addEventListener("click", () => copy(card.answer.summary_id, card.code, "Id copied"));
  card.summary.addEventListener("keydown", (event) => walk(card, event));
  return card;
}

function setBusy(busy) {
  page.go.setAttribute("aria-busy", busy);
  page.go.textContent = busy ? "Summarizing …" : "Summarize";
  if (busy) page.status.textContent = "Summarizing";
  for (const card of cards) {
    card.element.classList.toggle("busy", busy);
    card.element.setAttribute("aria-busy", busy);
    if (busy) card.failure.hidden = true;
  }
}

function showAnswers(text) {
  pinned = shown = null;
  const worked = cards.filter((card) => card.answer);
  read = worked.length ? { text, characters: Array.from(text) } : null;
  for (const card of cards) {
    card.placeholder.hidden = true;
    card.body.hidden = !card.answer;
    card.failure.hidden = true;
    if (card.failed) showFailure(card, card.failed, summarize);
    else showSummary(card);
  }
  if (cards.length === 2 && worked.length === 2) markDifferences(...cards);
  for (const card of worked) card.detail.replaceChildren(...hint(card));
  if (worked.length) view(); else edit();
  countWords();
  if (worked.length && matchMedia("(max-width: 820px)").matches) $("summaries").scrollIntoView();
  const told = worked.map((card) => `${cards.length > 1 ? `${card.model.name}: ` : ""}${card.answer.summary || "no words"}`);
  page.status.textContent = told.length ? `Summary. ${told.join(". ")}` : "";
}

function showSummary(card) {
  const { summary, tokens, summary_id: id, milliseconds } = card.answer;
  const characters = Array.from(summary); // offsets count code points, as Python does
  const nodes = [];
  let end = 0;
  card.pieces = tokens.map((token, number) => {
    nodes.push(characters.slice(end, token.start).join(""));
    const word = make("span", `word ${token.origin}`, characters.slice(token.start, token.end).join(""));
    word.setAttribute("role", "button");
    word.setAttribute("aria-pressed", "false");
    word.tabIndex = number === 0 ? 0 : -1;
    word.setAttribute("aria-label", `${token.text}, ${token.origin}, probability ${percent(token.probability)}`);
    word.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") show(card, number); });
    word.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") unshow(); });
    word.addEventListener("focus", () => { rove(card, number); show(card, number); });
    word.addEventListener("blur", unshow);
    word.addEventListener("click", () => pin(card, number));
    nodes.push(word);
    end = token.end;
    return word;
  });
  nodes.push(characters.slice(end).join(""));
  if (!tokens.length) nodes.push(make("span", "empty", "The model wrote no words."));
  card.summary.replaceChildren(...nodes);
  const counted = ["copied", "generated", "unsupported"]
    .map((origin) => [tokens.filter((token) => token.origin === origin).length, origin])
    .filter(([number]) => number)
    .map(([number, origin]) => `${number} ${origin}`);
  const about = [...counted, `${Math.round(milliseconds)} ms`];
  card.counts.textContent = about.join(" · ");
  card.id.hidden = !id;
  card.code.textContent = id ?? "";
}

function markDifferences(one, two) {
  const words = [one, two].map((card) => card.answer.tokens.map((token) => token.word));
  const same = commonWords(...words);
  [one, two].forEach((card, side) => {
    const kept = new Set(same.map((pair) => pair[side]));
    card.pieces.forEach((word, number) => {
      if (kept.has(number)) return;
      word.classList.add("differs");
      word.setAttribute("aria-label", `${word.getAttribute("aria-label")}, differs`);
    });
    const differing = card.pieces.length - kept.size;
    card.counts.textContent += differing ? ` · ${differing} ${differing === 1 ? "word differs" : "words differ"}` : " · the same words";
  });
}

// Pairs of places with the same word, in order: a longest common subsequence.
function commonWords(a, b) {
  const best = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      best[i][j] = a[i] === b[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  const pairs = [];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) pairs.push([i++, j++]);
    else if (best[i + 1][j] >= best[i][j + 1]) i++;
    else j++;
  }
  return pairs;
}

function showFailure(card, problem, retry) {
  const busy = [429, 503].includes(problem.status);
  const [title, help] =
    problem === LATE ? ["That took too long.", "The service did not answer in a minute. A shorter document or a smaller beam may help."]
    : busy ? ["The service is busy.", problem.message || "Please try again in a moment."]
    : problem.status >= 500 ? ["Something went wrong in the service.", problem.message || "Its log says more."]
    : problem.status ? ["This cannot be summarized.", problem.message || `The service answered ${problem.status}.`]
    : ["The service cannot be reached.", "Is precis demo still running?"];
  const button = make("button", "plain", "Try again");
  button.type = "button";
  button.addEventListener("click", retry);
  const parts = [make("p", "", make("strong", "", title)), make("p", "", help)];
  if (problem.request) parts.push(make("p", "soft", `request ${problem.request}`));
  card.failure.replaceChildren(...parts, button);
  card.placeholder.hidden = true;
  card.body.hidden = true;
  card.failure.hidden = false;
}

// ---- one word

let pinned = null; // the word that was clicked, as {card, number}
let shown = null; // the word that is shown

function show(card, number) {
  if (shown) clear(shown);
  shown = { card, number };
  card.pieces[number].classList.add("shown");
  card.detail.replaceChildren(...explain(card.answer.tokens[number]));
  for (const other of cards) if (other !== card && other.answer) other.detail.replaceChildren(...hint(other));
  view(card.answer.tokens[number]);
}

function unshow() {
  const focused = document.activeElement;
  for (const card of cards) {
    const number = card.pieces.indexOf(focused);
    if (number >= 0 && card.answer) return show(card, number);
  }
  if (pinned) return show(pinned.card, pinned.number);
  if (!shown) return;
  clear(shown);
  shown.card.detail.replaceChildren(...hint(shown.card));
  shown = null;
  view();
}

function clear({ card, number }) {
  card.pieces[number]?.classList.remove("shown");
}

function pin(card, number) {
  const same = pinned && pinned.card === card && pinned.number === number;
  unpin();
  if (same) return;
  pinned = { card, number };
  card.pieces[number].setAttribute("aria-pressed", "true");
  show(card, number);
}

function unpin() {
  if (!pinned) return;
  pinned.card.pieces[pinned.number]?.setAttribute("aria-pressed", "false");
  pinned = null;
  unshow();
}

function walk(card, event) {
  const now = card.pieces.indexOf(document.activeElement);
  if (now < 0) return;
  const last = card.pieces.length - 1;
  const next = {
    ArrowRight: Math.min(now + 1, last), ArrowDown: Math.min(now + 1, last),
    ArrowLeft: Math.max(now - 1, 0), ArrowUp: Math.max(now - 1, 0), Home: 0, End: last,
  }[event.key];
  if (next !== undefined) {
    event.preventDefault();
    card.pieces[next].focus();
  } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey || event.key === " ") {
    event.preventDefault();
    pin(card, now);
  }
}

// One word of a summary is in the order of the Tab key: the arrow keys go on from there.
function rove(card, number) {
  card.pieces.forEach((word, at) => { word.tabIndex = at === number ? 0 : -1; });
}

function hint(card) {
  if (!card.answer.tokens.length) return [];
  return [make("p", "soft", "Point at a word to see where it came from; click or tap it to keep it. With the keyboard: Tab, then the arrow keys.")];
}

function explain(token) {
  const title = make("h4", "", token.text, make("span", `badge word ${token.origin}`, token.origin));
  const meaning = {
    copied: "More of its probability was copied from the document than generated.",
    generated: "Written from the model's vocabulary; the document has it too, or it is frequent in training.",
    unsupported: "Neither in the document nor frequent in training. Check it before you use it.",
  }[token.origin];
  const parts = [title, make("p", "soft", meaning)];
  const bar = make("div", "masses", share("of-copied", token.copied), share("of-generated", token.generated));
  bar.setAttribute("aria-hidden", "true");
  const list = make("dl", "numbers",
    number("probability", token.probability),
    number("copied", token.copied, "of-copied"),
    number("generated", token.generated, "of-generated"),
  );
  if (token.p_gen !== undefined) list.append(number("p_gen", token.p_gen));
  parts.push(bar, list);
  const places = token.attended ?? [];
  if (places.length) {
    const looked = make("ul", "looked", ...places.map(([start, end, weight]) =>
      make("li", "", make("span", "weight", percent(weight)), inContext(start, end, weight))));
    looked.setAttribute("aria-label", "where the model looked");
    parts.push(make("p", "label", "Where the model looked"), looked);
  } else {
    parts.push(make("p", "soft", token.p_gen === undefined && token.copied === 0
      ? "No place of the document got much attention, or the model has none." : "No place of the document got much of the attention."));
  }
  return parts;
}

function share(kind, value) {
  const part = make("span", kind);
  part.style.setProperty("--share", value);
  return part;
}

function number(name, value, swatch = "") {
  const term = make("dt", "", ...(swatch ? [make("span", "swatch")] : []), name);
  return make("div", swatch, term, make("dd", "", percent(value)));
}

function inContext(start, end, weight) {
  const { characters } = read;
  const before = characters.slice(Math.max(0, start - BEFORE), start).join("");
  const after = characters.slice(end, end + AFTER).join("");
  const mark = marked(start, end, weight);
  return make("span", "context", `${start > BEFORE ? "…" : ""}${before}`, mark, `${after}${end + AFTER < characters.length ? "…" : ""}`);
}

function marked(start, end, weight) {
  const mark = make("mark", "", read.characters.slice(start, end).join(""));
  mark.style.setProperty("--weight", weight);
  return mark;
}

// ---- the document

function edit() {
  page.reading.hidden = true;
  page.edit.hidden = true;
  page.text.hidden = false;
}

// The document as it was read, with the places that a word came from.
function view(token = null) {
  if (!page.text.hidden && page.text.value !== read.text) return; // somebody is writing another one
  const places = new Map();
  for (const [start, end, weight] of token?.attended ?? []) places.set(start, { start, end, weight });
  if (token?.source) {
    const [start, end] = token.source;
    places.set(start, { start, end, weight: places.get(start)?.weight ?? 0.05, isOrigin: true });
  }
  const nodes = [];
  let done = 0;
  let heaviest = null;
  for (const place of [...places.values()].sort((a, b) => a.start - b.start)) {
    if (place.start < done) continue;
    nodes.push(read.characters.slice(done, place.start).join(""));
    const mark = marked(place.start, place.end, place.weight);
    if (place.isOrigin) mark.className = "origin";
    mark.title = `attention ${percent(place.weight)}`;
    nodes.push(mark);
    done = place.end;
    if (!heaviest || place.isOrigin || (!heaviest.isOrigin && place.weight > heaviest.weight)) heaviest = { ...place, mark };
  }
  nodes.push(read.characters.slice(done).join(""));
  page.reading.replaceChildren(...nodes);
  page.reading.hidden = false;
  page.edit.hidden = false;
  page.text.hidden = true;
  if (heaviest) {
    const top = heaviest.mark.offsetTop;
    const { scrollTop, clientHeight } = page.reading;
    if (top < scrollTop || top > scrollTop + clientHeight - 40) page.reading.scrollTop = top - clientHeight / 2;
  }
}

// ---- small things

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function percent(value) {
  return value > 0 && value < 0.005 ? "< 1 %" : `${Math.round(100 * value)} %`;
}

async function copy(text, shownAt, told) {
  try {
    await navigator.clipboard.writeText(text);
    page.status.textContent = told;
    flash(told);
  } catch {
    // without the permission the text is at least selected
    getSelection().selectAllChildren(shownAt);
    flash("Selected: press Ctrl+C");
  }
}

let fading = 0;
function flash(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { $("toast").hidden = true; }, 2500);
}
