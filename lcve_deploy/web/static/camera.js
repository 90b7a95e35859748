/** The camera: a stream of frames that the worker reads. */

const WANTED = { audio: false, video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } } };

/** At most one open camera. */
export class Cameras {
  /** @type {MediaStream | undefined} */
  #media;

  /**
   * Ask for a camera.
   *
   * @returns {Promise<{stream: ReadableStream<VideoFrame>, rate: number}>} frames, and how many a second
   * @throws {Error} there is none, the user refuses, or this browser cannot pass frames to a worker
   */
  async open() {
    this.close();
    const Processor = /** @type {any} */ (globalThis).MediaStreamTrackProcessor;
    if (!Processor) throw problem("this browser cannot pass camera frames to a worker", "use Chromium, Chrome or Edge, or choose a file");
    try {
      this.#media = await navigator.mediaDevices.getUserMedia(WANTED);
    } catch (error) {
      throw problem(`the camera cannot be used: ${/** @type {Error} */ (error).message}`, "connect a camera, and allow this page to use it");
    }
    const [track] = this.#media.getVideoTracks();
    return { stream: new Processor({ track, maxBufferSize: 4 }).readable, rate: track.getSettings().frameRate ?? 0 };
  }

  /** Switch the camera off. */
  close() {
    for (const track of this.#media?.getTracks() ?? []) track.stop();
    this.#media = undefined;
  }
}

/**
 * @param {string} message
 * @param {string} hint
 */
function problem(message, hint) {
  return Object.assign(new Error(message), { name: "CameraError", hint });
}
