/** Show reports of the worker on the page. All text is set as text, never as markup. */

const MAX_HISTORY = 200;
const MAX_LOGITS = 400;

/** @typedef {{name: string, probability?: number, value?: number}} Prediction */
/** @typedef {{predictions: Prediction[], logits: number[], label: string, isHidden: boolean, frames: number, isLive: boolean}} Answer */
/** @typedef {import("./times.js").Row} Row */
/** @typedef {{times: Row[], wires: Row[], clips: number, bytes: string, frames: string}} Figures */

/**
 * @param {string} name id of an element of the page
 * @returns {HTMLElement}
 */
export function element(name) {
  return /** @type {HTMLElement} */ (document.getElementById(name));
}

/** @param {string} text */
export function showStatus(text) {
  element("status").textContent = text;
}

/** @param {{message: string, hint?: string} | null} error */
export function showError(error) {
  element("error").hidden = !error;
  element("error").textContent = error ? `${error.message}${error.hint ? `. ${sentence(error.hint)}` : ""}` : "";
}

/** @param {Answer} answer */
export function showAnswer({ predictions, logits, label, isHidden }) {
  const [best] = predictions;
  fill("predictions", predictions.map((prediction) => [prediction.name, share(prediction)]));
  const row = rowOf([label, best.name, share(best)]);
  const history = bodyOf("history");
  history.prepend(row);
  while (history.rows.length > MAX_HISTORY) history.deleteRow(-1);
  const top = Math.max(...logits);
  element("logits").replaceChildren(
    ...logits.slice(0, MAX_LOGITS).map((logit) => {
      const item = document.createElement("li");
      item.append(logit === top ? strong(logit.toFixed(2)) : logit.toFixed(2));
      return item;
    }),
  );
  const place = logits.indexOf(top) + 1;
  element("server-sees").textContent =
    `The server sees the encrypted picture above, and answers ${logits.length} numbers. The highest is number ${place}. ` +
    (isHidden ? "Which class that is, only the key tells." : "This artifact shows its labels, so the server knows which class that is.");
}

/** @param {Figures} figures */
export function showFigures({ times, wires, clips, bytes, frames }) {
  fillFigures("times", times, (time) => time.toFixed(1));
  fillFigures("wires", wires, (count) => count.toLocaleString("en"));
  element("clips").textContent = String(clips);
  element("bytes").textContent = bytes;
  element("frames").textContent = frames;
}

/** Forget everything that clips or a key have left on the page. */
export function clearFigures() {
  for (const name of ["predictions", "history", "times", "wires"]) bodyOf(name).replaceChildren();
  element("logits").replaceChildren();
  element("thief-pictures").hidden = true;
  /** @type {Record<string, string>} */
  const texts = {
    ...{ "key-id": "no key", "key-known": "not asked yet", geometry: "–", clips: "0", bytes: "–", frames: "–" },
    ...{ "frame-number": "–", "thief-result": "" },
    "server-sees": "The server sees the encrypted picture above. It answers one number for each class, in an order of its own.",
  };
  for (const [name, text] of Object.entries(texts)) element(name).textContent = text;
  showError(null);
}

/** @param {{share: number, seconds: number, text?: string}} result */
export function showThief({ share: right, seconds, text }) {
  element("thief-pictures").hidden = Boolean(text);
  element("thief-result").textContent =
    text ?? `${(100 * right).toFixed(1)}% of the pixel values are right, after ${seconds.toFixed(1)} s of computing, without the key.`;
}

/**
 * @param {string} table
 * @param {Row[]} rows
 * @param {(figure: number) => string} format
 */
function fillFigures(table, rows, format) {
  fill(table, rows.map(({ name, last, p50, p95 }) => [name, ...[last, p50, p95].map(format)]));
}

/**
 * @param {string} table
 * @param {string[][]} rows
 */
function fill(table, rows) {
  bodyOf(table).replaceChildren(...rows.map(rowOf));
}

/** @param {string} table */
function bodyOf(table) {
  return /** @type {HTMLTableElement} */ (element(table)).tBodies[0];
}

/** @param {string[]} texts the first is the heading of the row */
function rowOf(texts) {
  const row = document.createElement("tr");
  texts.forEach((text, index) => {
    const cell = document.createElement(index ? "td" : "th");
    if (!index) cell.scope = "row";
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}

/** @param {string} text */
function strong(text) {
  const marked = document.createElement("strong");
  marked.textContent = text;
  return marked;
}

/** @param {Prediction} prediction */
function share({ probability, value }) {
  return probability === undefined ? (value ?? 0).toFixed(3) : `${(100 * probability).toFixed(2)}%`;
}

/** @param {string} text */
function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}
