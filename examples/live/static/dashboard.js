// The dashboard: numbers of each worker, and what is said. EventSource reconnects by itself, and resumes.

import { byId, make, makeSign, makeTime, tell } from "./page.js";

const SHOWN = 20; // messages
const POINTS = 60; // of a curve
const SILENT = 3000; // milliseconds; then a worker is gone
const page = byId("main").dataset;
const workers = new Map(); // by process id

const SUMS = { people: "people", "per-second": "per_second", watchers: "watchers" };
const FORMATS = {
  memory: (value) => (value === null ? "–" : `${value.toFixed(0)} MiB`),
  lag: (value) => `${value.toFixed(1)} ms`,
  per_second: (value) => value.toFixed(1),
  people: String,
};

follow(page.numbers, {
  open: () => tell("wait", "Waiting for numbers…"),
  error: () => tell("bad", "Reconnecting…"),
  offline: () => tell("bad", "Cut off from the other workers."),
  pulse({ data }) {
    tell("good", "Live");
    takePulse(JSON.parse(data));
  },
});

follow(page.feed, { message: ({ data }) => showMessage(JSON.parse(data)) });

/** A browser connects again after a broken connection, but not after an error of, say, a proxy. */
function follow(url, listeners) {
  const source = new EventSource(url);
  for (const [name, listener] of Object.entries(listeners)) source.addEventListener(name, listener);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, SILENT, url, listeners);
  });
}

// Workers

function takePulse(pulse) {
  const worker = workers.get(pulse.worker) ?? makeWorker(pulse.worker);
  worker.pulse = pulse;
  worker.heard = Date.now();
  worker.curve = [...worker.curve, pulse.per_second].slice(-POINTS);
  showWorker(worker);
  forgetSilent();
  showTotals();
}

function makeWorker(id) {
  const item = byId("worker").content.cloneNode(true).firstElementChild;
  item.querySelector("h3").textContent = `Worker ${id}`;
  const worker = { item, curve: [] };
  workers.set(id, worker);
  byId("workers").replaceChildren(...[...workers].sort(([a], [b]) => a - b).map(([, { item }]) => item));
  return worker;
}

function showWorker({ item, pulse, curve }) {
  for (const place of item.querySelectorAll("[data-of]")) {
    place.textContent = FORMATS[place.dataset.of](pulse[place.dataset.of]);
  }
  const top = Math.max(1, ...curve);
  const points = curve.map((value, at) => `${POINTS - curve.length + at},${19 - (18 * value) / top}`);
  item.querySelector("polyline").setAttribute("points", points.join(" "));
  item.querySelector("figcaption").textContent = `messages/s, at most ${top.toFixed(1)} · up ${formatAge(pulse.uptime)}`;
}

function forgetSilent() {
  for (const [id, { item, heard }] of workers) {
    if (Date.now() - heard < SILENT) continue;
    workers.delete(id);
    item.remove();
  }
}

function showTotals() {
  for (const [id, name] of Object.entries(SUMS)) {
    const sum = [...workers.values()].reduce((sum, { pulse }) => sum + pulse[name], 0);
    byId(id).textContent = name === "per_second" ? sum.toFixed(1) : sum;
  }
  byId("count").textContent = workers.size;
}

function formatAge(seconds) {
  const [size, unit] = seconds < 120 ? [1, "s"] : seconds < 7200 ? [60, "min"] : [3600, "h"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

// Messages

function showMessage({ id, author, name, text, time, room }) {
  if ([...byId("feed").children].some((item) => item.dataset.id === id)) return;
  byId("silence").hidden = true;
  const link = make("a", { href: page.rooms + room, textContent: `#${room}` });
  const by = make("p", { className: "by" }, make("b", {}, name), " in ", link, " ", makeTime(time));
  const body = make("div", {}, by, make("p", { className: "text", textContent: text }));
  const item = make("li", { className: "message" }, makeSign(author, name), body);
  item.dataset.id = id;
  byId("feed").prepend(item);
  byId("feed").children[SHOWN]?.remove();
}
