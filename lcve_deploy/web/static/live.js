/** Windows of a camera: every new frame ends one. The newest window is sent whenever the model is free. */

/** @typedef {import("./pictures.js").Pictures} Pictures */
/** @typedef {import("./service.js").Report} Report */
/** @typedef {import("./service.js").Service} Service */

const SHOW_MS = 80;
const WORK_SHARE = 3; // so that at least two thirds of the time are left to read frames
const FIGURES_MS = 500;
const SECOND = 1e6; // of the time stamps of frames
const MISSED = 1.5; // distances between frames above which one is missing

/** One use of the camera, from start to stop. */
export class CameraRun {
  #service;
  #pictures;
  #options;
  /** The last frames of the window. @type {Uint8Array[]} */
  #window = [];
  #received = 0;
  #missed = 0;
  #sent = 0;
  #lastTime = -Infinity;
  #shown = -Infinity;
  #pause = SHOW_MS;
  #reported = -Infinity;
  /** @type {Promise<void> | undefined} */
  #request;
  /** @type {unknown} */
  #failure;

  /**
   * @param {Service} service
   * @param {Pictures} pictures
   * @param {{rate: number, run: {stopped: boolean}, report: Report}} options
   */
  constructor(service, pictures, options) {
    this.#service = service;
    this.#pictures = pictures;
    this.#options = options;
  }

  /**
   * @param {ReadableStream<VideoFrame>} stream
   * @returns {Promise<{clips: number}>}
   */
  async read(stream) {
    const reader = stream.getReader();
    try {
      while (!this.#options.run.stopped && !this.#failure) {
        const { done, value: frame } = await reader.read();
        if (done) break;
        try {
          await this.#take(frame);
        } finally {
          frame.close();
        }
      }
    } finally {
      await reader.cancel();
    }
    await this.#request;
    if (this.#failure) throw this.#failure;
    return { clips: this.#sent };
  }

  /** @param {VideoFrame} frame */
  async #take(frame) {
    this.#count(frame.timestamp);
    if (this.#received++ % this.#service.stride) return;
    const [pixels] = await this.#service.reader.read(frame);
    this.#window.push(pixels);
    const { frames } = this.#service.preprocess;
    if (this.#window.length > frames) this.#window.shift();
    const now = performance.now();
    if (this.#window.length < frames || now - this.#shown < this.#pause) return;
    this.#shown = now;
    this.#show();
    this.#pause = Math.max(SHOW_MS, WORK_SHARE * (performance.now() - now));
    if (now - this.#reported > FIGURES_MS) {
      this.#reported = now;
      this.#service.reportFigures();
    }
  }

  #show() {
    const { frames } = this.#service.preprocess;
    const pair = this.#service.encrypt(joined(this.#window));
    this.#pictures.take(pair);
    this.#pictures.show(frames - 1);
    if (this.#request) return;
    const label = `camera, frame ${this.#received - 1}`;
    this.#request = this.#service
      .ask(pair, { label, isLive: true })
      .then(() => void this.#sent++)
      .catch((error) => void (this.#failure ??= error))
      .finally(() => (this.#request = undefined));
  }

  /** @param {number} time of a frame, microseconds */
  #count(time) {
    const { rate } = this.#options;
    const steps = (time - this.#lastTime) * (rate / SECOND);
    if (rate && Number.isFinite(steps) && steps > MISSED) this.#missed += Math.round(steps) - 1;
    this.#lastTime = time;
    this.#service.frames = `${this.#received + 1} read, ${this.#missed} missed${rate ? `, at ${Math.round(rate)} a second` : ""}`;
  }
}

/** @param {Uint8Array[]} frames */
function joined(frames) {
  const clip = new Uint8Array(frames.length * frames[0].length);
  frames.forEach((frame, index) => clip.set(frame, index * frame.length));
  return clip;
}
