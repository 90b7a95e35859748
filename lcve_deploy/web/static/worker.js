/** The worker: it alone has the key. It encrypts, asks the model, reads the answers and draws the pictures. */

import { writeClipFile } from "./client/index.js";
import { CameraRun } from "./live.js";
import { Pictures } from "./pictures.js";
import { PushedFrames } from "./pushed.js";
import { Service } from "./service.js";
import { openThief } from "./thief.js";
import { openVideo, readClips, windowPlan } from "./videos.js";

/** @type {any} */
const scope = self;
const pictures = new Pictures();
/** @type {Service | undefined} */
let service;
/** @type {{stopped: boolean}} */
let run = { stopped: true };
let pushed = new PushedFrames();

/** @type {Record<string, (given: any) => unknown>} */
const CALLS = {
  canvases: (given) => pictures.use(given),
  open: async (given) => {
    service = await Service.open(given, report);
    return service.facts;
  },
  settings: () => ({ stride: opened().stride }),
  quality: ({ quality }) => {
    opened().quality = quality;
  },
  classify,
  camera: async ({ stream, rate }) => {
    run = { stopped: false };
    pushed = new PushedFrames();
    return await new CameraRun(opened(), pictures, { rate, run, report }).read(stream ?? pushed.stream);
  },
  pushed: ({ frame }) => pushed.push(frame),
  stop: () => {
    run.stopped = true;
    pushed.end();
  },
  frame: ({ number }) => {
    pictures.show(number - 1);
    report("frame", { number });
  },
  save: () => writeClipFile(opened().lastClip()),
  attack: () => openThief(opened(), pictures),
};

scope.addEventListener("message", async (/** @type {MessageEvent} */ { data: { id, call, given } }) => {
  try {
    const result = await CALLS[call](given);
    if (id !== undefined) scope.postMessage({ id, result });
  } catch (error) {
    const { name, message, hint = "" } = /** @type {any} */ (error);
    if (id === undefined) report("failed", { message, hint });
    else scope.postMessage({ id, error: { name, message, hint } });
  }
});

/**
 * One clip of a file, as `lcve run` takes it, or all windows one after the other, as `lcve watch` does.
 *
 * @param {{file: File, whole: boolean}} given
 */
async function classify({ file, whole }) {
  const own = { stopped: false };
  run = own;
  const model = opened();
  const track = await openVideo(file);
  const plan = windowPlan(track.total, model.preprocess, whole);
  let clips = 0;
  for (const frames of plan) {
    const pixels = await readClips(track, model.reader, [frames]);
    if (own.stopped) break;
    const pair = model.encrypt(pixels);
    pictures.take(pair);
    await model.ask(pair, { label: `${file.name}, frame ${frames[0]}`, isLive: false });
    clips++;
  }
  return { clips };
}

function opened() {
  if (!service) throw new Error("choose a key file first");
  return service;
}

/**
 * @param {string} name
 * @param {object} content
 */
function report(name, content) {
  scope.postMessage({ report: name, ...content });
}
