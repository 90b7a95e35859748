/** Frames of a camera that the page sends one by one, as a stream. */

const MAX_WAITING = 4;

/** A stream of frames. Those that come while too many wait are dropped, and so count as missed. */
export class PushedFrames {
  /** @type {VideoFrame[]} */
  #waiting = [];
  #ended = false;
  #wake = () => {};
  stream = new ReadableStream({ pull: (controller) => this.#pull(controller), cancel: () => this.end() }, { highWaterMark: 0 });

  /** @param {VideoFrame | null} frame null if the camera has ended */
  push(frame) {
    if (!frame) this.end();
    else if (this.#ended || this.#waiting.length === MAX_WAITING) frame.close();
    else this.#waiting.push(frame);
    this.#wake();
  }

  /** End the stream. */
  end() {
    this.#ended = true;
    for (const frame of this.#waiting.splice(0)) frame.close();
    this.#wake();
  }

  /** @param {ReadableStreamDefaultController<VideoFrame>} controller */
  async #pull(controller) {
    while (!this.#waiting.length && !this.#ended) await new Promise((go) => (this.#wake = () => go(undefined)));
    const frame = this.#waiting.shift();
    if (frame) controller.enqueue(frame);
    else if (this.#ended) controller.close();
  }
}
