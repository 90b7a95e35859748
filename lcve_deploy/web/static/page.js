/** The page: what the user does goes to the worker, and what the worker reports is shown. It never reads the key. */

import { Cameras } from "./camera.js";
import { Link } from "./link.js";
import { clearFigures, element, showAnswer, showError, showFigures, showStatus, showThief } from "./show.js";

const CANVASES = ["plain", "encrypted", "decrypted", "known", "stolen", "opened"];
const CONTROLS = ["video-file", "camera"];
const ANIMATION_MS = 125;

/** @typedef {{place: string, wire: string, client: boolean}} Place */

const cameras = new Cameras();
let link = startWorker();
/** @type {File | null} */
let keyFile = null;
/** @type {ReturnType<typeof setInterval> | undefined} */
let animation;

/** Waited for only where it is used: the controls work as soon as they can be seen. @type {Promise<Place>} */
const placed = fetch("place.json").then((answer) => answer.json());

input("key-file").addEventListener("change", () => {
  keyFile = input("key-file").files?.[0] ?? null;
  void openKey();
});
input("client-file").addEventListener("change", () => void openKey());
input("video-file").addEventListener("change", () => setRunning(false));
input("quality").addEventListener("change", () => link.send("quality", { quality: input("quality").value }));
input("frame").addEventListener("input", () => {
  stopAnimation();
  showFrame(Number(input("frame").value));
});
on("forget", forget);
on("classify", () => run("classify", { file: chosenVideo(), whole: false }));
on("watch", () => run("classify", { file: chosenVideo(), whole: true }));
on("camera", startCamera);
on("stop", stop);
on("save", save);
on("attack", async () => showThief(await link.call("attack", {})));
void placed.then(({ place, wire, client }) => {
  element("place").textContent = wire ? `Model: on a server, ${place}` : "Model: an artifact on this machine";
  element("client-row").hidden = client;
});

/** Start the worker, and give it new canvases: those of the last worker are gone with it. */
function startWorker() {
  const canvases = CANVASES.map((name) => {
    const old = element(name);
    const fresh = /** @type {HTMLCanvasElement} */ (old.cloneNode());
    old.replaceWith(fresh);
    return fresh.transferControlToOffscreen();
  });
  const started = new Link({
    answer: (report) => {
      showAnswer(report);
      setFrames(report.frames, report.isLive);
    },
    figures: showFigures,
    known: ({ text }) => (element("key-known").textContent = text),
    frame: ({ number }) => (element("frame-number").textContent = String(number)),
    failed: (error) => {
      stop();
      showError(error);
    },
  });
  started.send("canvases", Object.fromEntries(CANVASES.map((name, index) => [name, canvases[index]])), canvases);
  return started;
}

async function openKey() {
  const place = await placed;
  const chosen = input("client-file").files?.[0];
  if (!keyFile || !(place.client || chosen)) return;
  const file = keyFile;
  forget({ keepsInputs: true });
  await attempt("Opening the key …", async () => {
    const settings = chosen ?? (await (await fetch("client.json")).blob());
    const facts = await link.call("open", { key: file, settings, origin: location.origin, wire: place.wire, quality: input("quality").value });
    element("key-id").textContent = `${facts.keyId}, as in client.json`;
    element("key-known").textContent = facts.known;
    element("geometry").textContent = facts.geometry;
    element("bytes").textContent = facts.bytes;
    element("quality-row").hidden = !facts.packed;
    button("forget").disabled = false;
    setRunning(false);
    showStatus("Key opened. Choose a video, or start the camera.");
  });
}

/** @param {{keepsInputs?: boolean}} [options] */
function forget({ keepsInputs = false } = {}) {
  stop();
  link.end();
  link = startWorker();
  clearFigures();
  element("quality-row").hidden = true;
  if (!keepsInputs) {
    keyFile = null;
    for (const name of ["key-file", "client-file", "video-file"]) input(name).value = "";
    showStatus("The key is forgotten. Choose a key file.");
  }
  for (const name of ["forget", "classify", "watch", "camera", "stop", "save", "attack"]) button(name).disabled = true;
  for (const name of ["video-file", "frame"]) input(name).disabled = true;
}

async function startCamera() {
  await attempt("Starting the camera …", async () => {
    const { stride } = await link.call("settings", {});
    const own = link;
    const { stream, rate } = await cameras.open((frame) => own.send("pushed", { frame }, frame ? [frame] : []));
    showStatus("The camera is running.");
    await run("camera", { stream, rate, stride }, stream ? [stream] : []);
  });
}

function stop() {
  link.send("stop", {});
  cameras.close();
  stopAnimation();
  setRunning(false);
}

/**
 * @param {string} call
 * @param {object} given
 * @param {Transferable[]} [transfer]
 */
async function run(call, given, transfer = []) {
  stopAnimation();
  setRunning(true);
  await attempt("Working …", async () => {
    const { clips } = await link.call(call, given, transfer);
    showStatus(clips === 1 ? "Done: 1 clip." : `Done: ${clips} clips.`);
  });
  cameras.close();
  setRunning(false);
}

async function save() {
  const bytes = await link.call("save", {});
  const address = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  const anchor = Object.assign(document.createElement("a"), { href: address, download: "clip.lcve" });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/**
 * Do something that may fail; show one error if it does.
 *
 * @param {string} status
 * @param {() => Promise<void>} work
 */
async function attempt(status, work) {
  showError(null);
  showStatus(status);
  try {
    await work();
  } catch (error) {
    if (/** @type {any} */ (error).name === "EndedError") return;
    showStatus("");
    showError(/** @type {any} */ (error));
  }
}

/** @param {boolean} running */
function setRunning(running) {
  const isOpen = !button("forget").disabled;
  for (const name of CONTROLS) /** @type {HTMLInputElement} */ (element(name)).disabled = running || !isOpen;
  const hasVideo = Boolean(input("video-file").files?.length);
  for (const name of ["classify", "watch"]) button(name).disabled = running || !isOpen || !hasVideo;
  button("stop").disabled = !running;
}

/**
 * Let the user choose a frame of the last clip, and play it unless they prefer no motion.
 *
 * @param {number} frames
 * @param {boolean} isLive whether newer frames replace it anyway
 */
function setFrames(frames, isLive) {
  button("save").disabled = false;
  button("attack").disabled = false;
  input("frame").max = String(frames);
  input("frame").disabled = isLive;
  stopAnimation();
  if (isLive) return;
  showFrame(1);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  animation = setInterval(() => showFrame((Number(input("frame").value) % frames) + 1), ANIMATION_MS);
}

/** @param {number} number from 1 */
function showFrame(number) {
  input("frame").value = String(number);
  link.send("frame", { number });
}

function stopAnimation() {
  clearInterval(animation);
}

function chosenVideo() {
  return input("video-file").files?.[0];
}

/**
 * @param {string} name
 * @param {() => unknown} action
 */
function on(name, action) {
  button(name).addEventListener("click", () => void action());
}

/** @param {string} name */
function button(name) {
  return /** @type {HTMLButtonElement} */ (element(name));
}

/** @param {string} name */
function input(name) {
  return /** @type {HTMLInputElement} */ (element(name));
}
