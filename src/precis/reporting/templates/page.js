"use strict";
// Pointing at a word of a summary marks the words of the document that it came from.
for (const article of document.querySelectorAll("article")) {
  const source = article.querySelector(".source");
  if (!source) continue;
  // offsets count code points, as Python does; strings here are UTF-16
  const characters = Array.from(source.textContent);
  const plain = source.textContent;
  const show = (word) => {
    const spans = word.dataset.sources.split(" ").map((span) => {
      const [place, weight] = span.split(":");
      const [start, end] = place.split("-").map(Number);
      return { start, end, weight: Number(weight) };
    }).filter((span) => span.end <= characters.length).sort((a, b) => a.start - b.start);
    const parts = [];
    let done = 0;
    for (const span of spans) {
      if (span.start < done) continue;
      parts.push(characters.slice(done, span.start).join(""));
      const mark = document.createElement("mark");
      mark.textContent = characters.slice(span.start, span.end).join("");
      mark.style.opacity = 0.45 + 0.55 * span.weight;
      parts.push(mark);
      done = span.end;
    }
    parts.push(characters.slice(done).join(""));
    source.replaceChildren(...parts);
    const first = source.querySelector("mark");
    if (first) source.scrollTop = first.offsetTop - source.offsetTop - source.clientHeight / 2;
  };
  const hide = () => source.replaceChildren(plain);
  for (const word of article.querySelectorAll(".word[data-sources]")) {
    word.addEventListener("mouseenter", () => show(word));
    word.addEventListener("focus", () => show(word));
    word.addEventListener("mouseleave", hide);
    word.addEventListener("blur", hide);
  }
}
