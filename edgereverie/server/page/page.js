// Asks the server that this page came from, and shows what its answers are worth. Nothing is loaded from elsewhere.

const at = (id) => document.getElementById(id);
const VERDICTS = {
  supported: { sign: "✓", said: "supported by the picture" },
  unverified: { sign: "?", said: "left open by the picture" },
  contradicted: { sign: "✕", said: "contradicted by the picture" },
};
const WORST = ["supported", "unverified", "contradicted"];
const GUARDS = {
  none: "Nothing is checked.",
  flag: "Marks what the picture supports and what it does not; the words stay.",
  verify: "Asks the picture about every claim, and takes back what it contradicts.",
  reflect: "The model judges its own answer, and tries once more where it fails.",
  contrast: "Prefers words that the picture makes likelier.",
  rollback: "Takes back a sentence that the picture does not support, and tries once more.",
  agree: "Answers several times, and keeps what the answers agree on.",
  abstain: "Says only what a calibrated rule vouches for.",
  search: "Writes sentence by sentence, and keeps the one that fits the picture best.",
};
const state = { model: null, picture: null, turns: [], running: null };

// Small things

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...inside);
  return element;
}

function complain(text) {
  at("alert").textContent = text;
}

// The server counts characters as Unicode does; JavaScript's strings count some of them twice.
const characters = (text) => Array.from(text);
const percent = (share) => `${Math.round(share * 100)} %`;

function headers() {
  const key = at("key").value.trim();
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function refusal(response) {
  if (response.status === 401) askForKey();
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

function askForKey() {
  at("key-row").hidden = false;
  at("key").focus();
}

// The model and its guards

async function meet() {
  let response;
  try {
    response = await fetch("/v1/models", { headers: headers() });
  } catch {
    complain("The server cannot be reached. Is it still running?");
    return false;
  }
  if (!response.ok) {
    complain(await refusal(response));
    return false;
  }
  state.model = (await response.json()).data[0];
  const { guards, backend } = state.model.edgereverie;
  at("served").textContent = `${state.model.id}, running in ${backend}`;
  at("guard").replaceChildren(...guards.map((name) => make("option", { value: name }, name)));
  tellGuard();
  return true;
}

function tellGuard() {
  at("guard-told").textContent = GUARDS[at("guard").value] ?? "";
}

// The picture

async function take(file) {
  complain("");
  const most = state.model?.edgereverie.limits.image_bytes;
  if (!file.type.startsWith("image/")) return complain(`${file.name} is not a picture.`);
  if (most && file.size > most) return complain(`${file.name} is larger than ${Math.floor(most / 2 ** 20)} MiB; scale it down first.`);
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  }).catch(() => null);
  if (url === null) return complain(`${file.name} cannot be read.`);
  const shown = at("picture");
  const seen = await new Promise((resolve) => {
    shown.onload = () => resolve(true);
    shown.onerror = () => resolve(false);
    shown.src = url;
  });
  const size = seen ? `, ${shown.naturalWidth} × ${shown.naturalHeight}` : "";
  shown.alt = `The picture that you chose: ${file.name}`;
  shown.hidden = !seen; // a browser may not know a format that the server does
  at("invitation").hidden = seen;
  at("change").hidden = !seen;
  at("drop").classList.toggle("filled", seen);
  at("file-told").textContent = `${file.name}${size}`;
  state.picture = url;
  anew();
  tell(`Picture chosen: ${file.name}.`);
  at("question").focus();
}

function anew() {
  state.running?.abort();
  state.turns = [];
  at("talk").replaceChildren();
  at("legend").hidden = false;
  at("anew").hidden = true;
  closeCard();
}

function tell(text) {
  at("status").textContent = text;
}

// Asking

function conversation(question) {
  const turns = [...state.turns, { role: "user", content: question }];
  const [first, ...rest] = turns;
  const picture = { type: "image_url", image_url: { url: state.picture } };
  return [{ role: "user", content: [picture, { type: "text", text: first.content }] }, ...rest];
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith("data: ")) continue; // a comment keeps the connection alive
      if (block === "data: [DONE]") return;
      yield JSON.parse(block.slice(6));
    }
  }
}

async function ask(question) {
  const answering = new AbortController();
  state.running = answering;
  const shown = new Shown(question);
  working(true);
  tell("Answering.");
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: headers(),
      signal: answering.signal,
      body: JSON.stringify({
        model: state.model.id,
        messages: conversation(question),
        guard: at("guard").value,
        stream: true,
        stream_options: { edgereverie_events: true },
      }),
    });
    if (!response.ok) throw new Error(await refusal(response));
    let finished = null;
    for await (const chunk of events(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const [choice] = chunk.choices;
      if (chunk.edgereverie?.retraction) shown.takeBack(chunk.edgereverie.retraction);
      else if (choice?.finish_reason) finished = { ...chunk.edgereverie, ended: choice.finish_reason };
      if (choice?.delta.content) shown.add(choice.delta.content);
    }
    if (!finished) throw new Error("The connection broke before the answer was whole.");
    shown.finish(finished);
    if (shown.text.trim()) state.turns.push({ role: "user", content: question }, { role: "assistant", content: shown.text });
    at("anew").hidden = false;
  } catch (error) {
    if (answering.signal.aborted) shown.stopped();
    else {
      shown.drop();
      if (!at("question").value) at("question").value = question;
      complain(error instanceof TypeError ? "The server cannot be reached. Is it still running?" : error.message);
      tell("");
    }
  } finally {
    if (state.running === answering) {
      state.running = null;
      working(false);
    }
  }
}

function working(on) {
  at("stop").hidden = !on;
  at("ask").hidden = on;
  if (on) at("stop").focus();
  else if (document.activeElement === document.body || document.activeElement === at("stop")) at("question").focus();
}

// One answer

class Shown {
  constructor(question) {
    this.text = "";
    this.taken = [];
    this.answer = make("p", { class: "answer coming" });
    this.item = make("li", {}, make("p", { class: "question" }, question), this.answer);
    at("legend").hidden = true;
    at("talk").append(this.item);
    this.item.scrollIntoView({ block: "nearest" });
  }

  add(piece) {
    this.text += piece;
    this.answer.append(piece);
  }

  // What was shown stays to be seen, struck through, while the new words come.
  takeBack({ length, why }) {
    const all = characters(this.text);
    const [kept, lost] = [all.slice(0, length).join(""), all.slice(length).join("")];
    this.text = kept;
    const struck = this.taken.map(({ lost: text, why: reason }) => make("del", { title: reason }, text));
    this.taken.push({ lost, why });
    this.answer.replaceChildren(kept, ...struck, make("del", { title: why }, lost), " ");
    tell(`Taken back: ${lost.trim()}. ${why}`);
  }

  finish(said) {
    this.answer.classList.remove("coming");
    this.answer.replaceChildren(...marked(this.text, said.claims));
    const notes = make("div", { class: "notes" });
    for (const { lost, why } of this.taken) {
      notes.append(make("p", { class: "note" }, "Taken back: ", make("del", {}, lost.trim()), why ? ` ${why}` : ""));
    }
    if (said.abstained) notes.append(make("p", { class: "note" }, `The model does not commit itself. ${said.reason}`.trim()));
    else if (said.reason && !this.taken.some(({ why }) => why === said.reason)) notes.append(make("p", { class: "note" }, said.reason));
    if (said.guarantee) notes.append(make("p", { class: "note" }, said.guarantee));
    const facts = [];
    if (said.confidence !== null) facts.push(`confidence ${percent(said.confidence)}`);
    facts.push(said.guards.length ? `guard ${said.guards.join(", ")}` : "no guard", `${said.seconds.toFixed(1)} s`);
    if (said.ended === "length") facts.push("cut at the longest length allowed");
    notes.append(make("p", { class: "soft" }, facts.join(" · ")));
    this.item.append(notes);
    if (said.claims.length) this.item.append(listed(said.claims));
    tell(`Answer: ${this.text} ${counted(said.claims)}`);
    this.item.scrollIntoView({ block: "nearest" });
  }

  stopped() {
    this.answer.classList.remove("coming");
    this.item.append(make("p", { class: "soft" }, "Stopped."));
    tell("Stopped.");
  }

  drop() {
    this.item.remove();
    at("legend").hidden = at("talk").childElementCount > 0;
  }
}

function counted(claims) {
  if (!claims.length) return "No claim in it was checked.";
  const parts = WORST.map((verdict) => [claims.filter((claim) => claim.verdict === verdict).length, verdict]);
  const told = parts.filter(([number]) => number).map(([number, verdict]) => `${number} ${verdict}`);
  return `${claims.length} ${claims.length === 1 ? "claim" : "claims"}: ${told.join(", ")}.`;
}

// Claims in the text; where several overlap they share one mark, that of the worst.
function marked(text, claims) {
  const all = characters(text);
  const groups = [];
  for (const claim of [...claims].sort((a, b) => a.start - b.start || b.end - a.end)) {
    const last = groups.at(-1);
    if (last && claim.start < last.end) {
      last.end = Math.max(last.end, claim.end);
      last.claims.push(claim);
    } else groups.push({ start: claim.start, end: claim.end, claims: [claim] });
  }
  const out = [];
  let done = 0;
  for (const group of groups) {
    out.push(all.slice(done, group.start).join(""), mark(all.slice(group.start, group.end).join(""), group.claims));
    done = group.end;
  }
  return [...out, all.slice(done).join("")];
}

function mark(words, claims) {
  const verdict = WORST[Math.max(...claims.map((claim) => WORST.indexOf(claim.verdict)))];
  const { sign, said } = VERDICTS[verdict];
  const told = claims.length === 1 ? said : claims.map((claim) => `${claim.text} ${VERDICTS[claim.verdict].said}`).join(", ");
  const element = make(
    "span",
    { class: `claim ${verdict}`, role: "button", tabindex: "0", "aria-expanded": "false", "aria-label": `${words}: ${told}` },
    make("span", { class: "word" }, words),
    make("span", { class: "sign", "aria-hidden": "true" }, sign),
  );
  element.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && openCard(element, claims));
  element.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && document.activeElement !== element && closeCard());
  element.addEventListener("focus", () => openCard(element, claims));
  element.addEventListener("blur", closeCard);
  element.addEventListener("click", () => openCard(element, claims));
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (element.getAttribute("aria-expanded") === "true") closeCard();
    else openCard(element, claims);
  });
  return element;
}

function explained(claim) {
  const { sign, said } = VERDICTS[claim.verdict];
  const scale = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  scale.setAttribute("viewBox", "0 0 100 8");
  scale.setAttribute("preserveAspectRatio", "none");
  scale.setAttribute("aria-hidden", "true");
  for (const [name, width] of [["track", 100], ["fill", Math.max(2, 100 * claim.support)]]) {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ class: name, width, height: 8, rx: 4 })) bar.setAttribute(key, value);
    scale.append(bar);
  }
  const tone = `tone-${claim.verdict}`;
  return [
    make("p", {}, make("span", { class: `verdict ${tone}` }, `${sign} ${claim.verdict}`), `: ${claim.statement || claim.text}`),
    make("p", { class: `scale ${tone}` }, scale, `support ${percent(claim.support)}`),
    make("p", { class: "soft" }, sentence(claim.why || said)),
  ];
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

function listed(claims) {
  const items = claims.map((claim) => {
    const figures = Object.entries(claim.evidence);
    const names = figures.flatMap(([name, value]) => [make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, value.toFixed(2))]);
    const told = make("details", {}, make("summary", {}, "Figures"), make("dl", {}, ...names));
    return make("li", {}, ...explained(claim), ...(figures.length ? [told] : []));
  });
  return make("details", {}, make("summary", {}, counted(claims)), make("ul", { class: "claims" }, ...items));
}

// The card that explains a mark

let opened = null;

function openCard(element, claims) {
  if (opened === element) return;
  closeCard();
  const card = at("card");
  card.replaceChildren(...claims.map((claim) => make("div", {}, ...explained(claim))));
  card.hidden = false;
  const [place] = element.getClientRects();
  const width = card.offsetWidth;
  const left = Math.min(Math.max(16, place.left), document.documentElement.clientWidth - width - 16);
  const below = place.bottom + 8 + card.offsetHeight < innerHeight || place.top < card.offsetHeight + 8;
  card.style.left = `${left + scrollX}px`;
  card.style.top = `${(below ? element.getBoundingClientRect().bottom + 8 : place.top - card.offsetHeight - 8) + scrollY}px`;
  element.setAttribute("aria-expanded", "true");
  element.setAttribute("aria-describedby", "card");
  opened = element;
}

function closeCard() {
  if (!opened) return;
  opened.setAttribute("aria-expanded", "false");
  opened.removeAttribute("aria-describedby");
  opened = null;
  at("card").hidden = true;
}

// What people do

at("file").addEventListener("change", (event) => event.target.files[0] && take(event.target.files[0]));
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget === null && at("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) take(file);
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeCard();
});
addEventListener("resize", closeCard);
at("guard").addEventListener("change", tellGuard);
at("stop").addEventListener("click", () => state.running?.abort());
at("anew").addEventListener("click", () => {
  anew();
  tell("A new conversation begins.");
  at("question").focus();
});
at("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("form").requestSubmit();
});
at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (state.running) return;
  complain("");
  if (!state.model && !(await meet())) return;
  const question = at("question").value.trim();
  if (!state.picture) {
    complain("Choose a picture first.");
    at("file").focus();
  } else if (!question) {
    complain("Write a question first.");
    at("question").focus();
  } else {
    at("question").value = "";
    await ask(question);
  }
});

await meet();
