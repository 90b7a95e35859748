/** The camera: frames that the worker reads, as a stream where the browser can pass one on, else one by one. */

const WANTED = { audio: false, video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } } };
const SECOND = 1e6; // of the time stamps of frames

/** @typedef {{stream: ReadableStream<VideoFrame> | undefined, rate: number}} Camera frames, and how many a second */

/** At most one open camera. */
export class Cameras {
  /** @type {MediaStream | undefined} */
  #media;

  /**
   * Ask for a camera.
   *
   * @param {(frame: VideoFrame | null) => void} push takes every frame of a camera that has no stream, and must close
   *   it; null at the end of the camera
   * @returns {Promise<Camera>}
   * @throws {Error} there is none, the user refuses, or this browser cannot pass frames to a worker
   */
  async open(push) {
    this.close();
    const Processor = /** @type {any} */ (globalThis).MediaStreamTrackProcessor;
    if (!Processor && !canPush()) {
      throw problem("this browser cannot pass camera frames to a worker", "use Chromium, Chrome, Edge or Firefox, or choose a file");
    }
    try {
      this.#media = await navigator.mediaDevices.getUserMedia(WANTED);
    } catch (error) {
      throw problem(`the camera cannot be used: ${/** @type {Error} */ (error).message}`, "connect a camera, and allow this page to use it");
    }
    const [track] = this.#media.getVideoTracks();
    const rate = track.getSettings().frameRate ?? 0;
    if (Processor) return { stream: new Processor({ track, maxBufferSize: 4 }).readable, rate };
    await pushFrames(this.#media, push);
    return { stream: undefined, rate };
  }

  /** Switch the camera off. */
  close() {
    for (const track of this.#media?.getTracks() ?? []) track.stop();
    this.#media = undefined;
  }
}

/** Whether frames can be taken from a video element. */
function canPush() {
  return typeof VideoFrame === "function" && "requestVideoFrameCallback" in HTMLVideoElement.prototype;
}

/**
 * Play a camera in an element that is not shown, and take every frame that it presents.
 *
 * @param {MediaStream} media
 * @param {(frame: VideoFrame | null) => void} push
 */
async function pushFrames(media, push) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: media });
  /** @type {VideoFrameRequestCallback} */
  const take = (_, { mediaTime }) => {
    if (!media.active) return;
    push(new VideoFrame(video, { timestamp: Math.round(mediaTime * SECOND) }));
    video.requestVideoFrameCallback(take);
  };
  video.requestVideoFrameCallback(take);
  media.getVideoTracks()[0].addEventListener("ended", () => push(null));
  await video.play();
}

/**
 * @param {string} message
 * @param {string} hint
 */
function problem(message, hint) {
  return Object.assign(new Error(message), { name: "CameraError", hint });
}
