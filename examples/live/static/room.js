// A room: what is said, who is here, and a line of one's own.

import { Line } from "./line.js";
import { byId, make, makeSign, makeTime, tell } from "./page.js";

const TYPING_SHOWN = 3000, TYPING_TOLD = 2000; // milliseconds
const SHOWN = 500; // lines
const page = byId("main").dataset;
const log = byId("log"), form = byId("say"), field = byId("text");
const title = document.title;

const items = new Map(); // the log's, by the id of their message
const people = new Map(); // by the id of their connection
const typing = new Map(); // timers, by author
const names = new Map(); // by author
let me, unread = 0, typingTold = 0, isAtEnd = true, size = "";

const line = new Line(page.socket, [Number(page.nameless)], {
  event: (event) => handlers[event.type]?.(event),
  closed: (delay) => {
    people.clear();
    showPeople();
    tell("bad", delay < 1000 ? "Reconnecting…" : `Reconnecting in ${Math.round(delay / 1000)} s…`);
  },
  ended: () => location.reload(), // it asks for a name
});

const handlers = {
  welcome({ you, worker, messages, people: present }) {
    me = you;
    tell("good", "Connected");
    byId("worker").textContent = `Worker ${worker}`;
    people.clear();
    for (const person of present) people.set(person.id, person);
    showPeople();
    messages.forEach(showMessage);
    byId("empty").hidden = items.size > 0;
  },
  message(message) {
    forgetTyping(message.author);
    showMessage(message);
    if (document.hidden) document.title = `(${++unread}) ${title}`;
  },
  joined(person) {
    const isNew = !isHere(person.author);
    people.set(person.id, person);
    showPeople();
    if (isNew) note(`${person.name} came in.`);
  },
  left(person) {
    if (!people.delete(person.id) || isHere(person.author)) return;
    forgetTyping(person.author);
    showPeople();
    note(`${person.name} left.`);
  },
  typing({ author, name }) {
    if (author === me) return;
    names.set(author, name);
    clearTimeout(typing.get(author));
    typing.set(author, setTimeout(forgetTyping, TYPING_SHOWN, author));
    showTyping();
  },
  lost({ count }) {
    note(`Your connection is slow: ${count} events were left out.`);
  },
  offline() {
    tell("bad", "Cut off from the others, who may be on other workers. What you write is sent later.");
  },
  error({ text, id, again }) {
    const item = items.get(id);
    if (again) return;
    item?.classList.replace("pending", "failed");
    item ? item.append(make("p", { className: "error", textContent: text })) : note(text);
  },
};

// People

const isHere = (author) => [...people.values()].some((person) => person.author === author);

function showPeople() {
  const authors = new Map([...people.values()].map((person) => [person.author, person]));
  const sorted = [...authors.values()].sort((a, b) => a.name.localeCompare(b.name));
  byId("people").replaceChildren(...sorted.map(({ author, name }) =>
    make("li", {}, makeSign(author, name), make("span", {}, name), author === me ? make("small", {}, "you") : "")));
}

function forgetTyping(author) {
  clearTimeout(typing.get(author));
  typing.delete(author);
  showTyping();
}

function showTyping() {
  const typists = [...typing.keys()].map((author) => names.get(author));
  byId("typing").textContent = typists.length > 2 ? "Several people are typing…"
    : typists.length ? `${typists.join(" and ")} ${typists.length > 1 ? "are" : "is"} typing…` : "";
}

// Messages

function showMessage(message) {
  const known = items.get(message.id);
  if (known && !known.matches(".pending")) return;
  const item = makeItem(message);
  items.set(message.id, item);
  item.dataset.id = message.id;
  place(item, known);
}

function makeItem({ author, name, text, time, pending }) {
  const item = make("div", { className: pending ? "message pending" : "message" });
  item.classList.toggle("mine", pending || author === me);
  item.dataset.author = author;
  const stamp = time ? makeTime(time) : make("small", {}, "sending…");
  const body = make("div", {}, make("p", { className: "by" }, make("b", {}, name), " ", stamp),
    make("p", { className: "text", textContent: text }));
  item.append(makeSign(author, name), body);
  return item;
}

function note(text) {
  place(make("p", { className: "note", textContent: text }));
}

/** In place of `old`; else after all that was said, and before what is not sent yet. */
function place(item, old) {
  const pending = item.matches(".pending") ? null : log.querySelector(".pending");
  old ? old.replaceWith(item) : log.insertBefore(item, pending);
  for (const each of [item, item.nextElementSibling]) each && markSequel(each);
  byId("empty").hidden = true;
  while (log.children.length > SHOWN) forgetFirst();
  isAtEnd || item.matches(".mine") ? scrollToEnd() : (byId("newer").hidden = false);
}

const measureLog = () => `${log.clientWidth} ${log.clientHeight}`;

function scrollToEnd() {
  log.scrollTo(0, log.scrollHeight);
}

function forgetFirst() {
  items.delete(log.firstElementChild.dataset.id);
  log.firstElementChild.remove();
}

/** Who goes on speaking is not named again. */
function markSequel(item) {
  const author = item.previousElementSibling?.dataset.author;
  item.classList.toggle("sequel", author !== undefined && author === item.dataset.author);
}

function say(text) {
  const message = { type: "say", id: crypto.getRandomValues(new Uint32Array(4)).join("-"), text };
  showMessage({ ...message, author: me ?? "", name: "You", pending: true });
  line.deliver(message);
}

// What the person does

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (text) say(text);
  field.value = "";
  typingTold = 0;
  field.focus();
});

field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

field.addEventListener("input", () => {
  if (Date.now() - typingTold < TYPING_TOLD) return;
  typingTold = Date.now();
  line.mention({ type: "typing" });
});

log.addEventListener("scroll", () => {
  if (measureLog() !== size) return; // not the person has scrolled: a phone is turned, or shows its keyboard
  isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  if (isAtEnd) byId("newer").hidden = true;
});

new ResizeObserver(() => {
  size = measureLog();
  if (isAtEnd) scrollToEnd();
}).observe(log);

byId("newer").addEventListener("click", scrollToEnd);

byId("copy").hidden = !navigator.clipboard; // which only pages of HTTPS and of this computer have
byId("copy").addEventListener("click", async ({ target }) => {
  const done = await navigator.clipboard.writeText(location.href).then(() => "Copied", () => "Copy it from above");
  target.textContent = done;
  setTimeout(() => (target.textContent = "Copy link"), 2000);
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unread = 0;
  document.title = title;
});

field.focus();
