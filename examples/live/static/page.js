// What both pages need.

export const byId = (id) => document.getElementById(id);

/** An element; text is only ever text, whatever it contains. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** `state` is "good", "wait" or "bad". */
export function tell(state, text) {
  const status = byId("status");
  status.className = `status ${state}`;
  if (status.textContent !== text) status.textContent = text;
}

export function makeTime(seconds) {
  const date = new Date(seconds * 1000);
  const text = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return make("time", { dateTime: date.toISOString(), title: date.toLocaleString(), textContent: text });
}

/** A round sign with the first letter of a name, in a colour that is always the same for the same author. */
export function makeSign(author, name) {
  const sign = make("span", { className: "sign", ariaHidden: "true", textContent: [...name][0].toUpperCase() });
  const sum = [...author].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  sign.style.setProperty("--hue", sum);
  return sign;
}
