// A line to the server: a websocket that is opened again and again, with what was not delivered kept meanwhile.

const FIRST_DELAY = 300, LAST_DELAY = 10_000, PAUSE = 2000; // milliseconds

/** `on.event(event)`, `on.closed(milliseconds until the next try)`, `on.ended(code)`: no further try, for `lastCodes`. */
export class Line {
  #socket;
  #timer;
  #delay = FIRST_DELAY;
  #ready = false; // the server has greeted us
  #outbox = new Map(); // messages by id, in the order in which they were said

  constructor(url, lastCodes, on) {
    // What the server takes for its scheme and host may be a proxy's.
    this.url = Object.assign(new URL(url, location.href), {
      protocol: location.protocol === "https:" ? "wss:" : "ws:",
      host: location.host,
    });
    this.lastCodes = lastCodes;
    this.on = on;
    this.open();
    addEventListener("online", () => this.hurry());
    addEventListener("pageshow", () => this.hurry());
    addEventListener("pagehide", () => this.#socket.close()); // a browser may keep both for "back"
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  open() {
    this.#timer = undefined;
    this.#socket = new WebSocket(this.url);
    this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    this.#socket.onclose = ({ code }) => this.#lose(code);
  }

  /** Open it now, if it waits for its next try. */
  hurry() {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.open();
  }

  /** Send it now or later: it is sent again until the server has answered. */
  deliver(message) {
    this.#outbox.set(message.id, message);
    this.mention(message);
  }

  /** Send it now or never. */
  mention(message) {
    if (this.#ready) this.#socket.send(JSON.stringify(message));
  }

  #take(event) {
    if (event.again) setTimeout(() => this.#remind(event.id), PAUSE);
    else if (event.type === "message" || event.type === "error") this.#outbox.delete(event.id);
    this.on.event(event);
    if (event.type === "welcome") this.#resume(event.messages);
  }

  #remind(id) {
    if (this.#outbox.has(id)) this.mention(this.#outbox.get(id));
  }

  #resume(messages) {
    for (const { id } of messages) this.#outbox.delete(id);
    this.#ready = true;
    this.#delay = FIRST_DELAY;
    for (const message of this.#outbox.values()) this.mention(message);
  }

  #lose(code) {
    this.#ready = false;
    if (this.lastCodes.includes(code)) return this.on.ended(code);
    const delay = this.#delay * (0.5 + Math.random() / 2); // not all pages at the same moment
    this.#delay = Math.min(2 * this.#delay, LAST_DELAY);
    this.#timer = setTimeout(() => this.open(), delay);
    this.on.closed(delay);
  }
}
