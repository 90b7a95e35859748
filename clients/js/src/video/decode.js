/** Decode frames of a file with WebCodecs, and turn frames into the pixels of a clip. */

import { bytesOf } from "../bytes.js";
import { VideoError } from "../errors.js";
import { Converter } from "./colours.js";
import { AS_STORED, cropUpright } from "./orientation.js";
import { cropOffsets, resizedSize } from "./sampling.js";
import { MAX_SAMPLE_BYTES } from "./track.js";

/** @typedef {import("../settings.js").Preprocess} Preprocess */
/** @typedef {import("./colours.js").ColourSpace} ColourSpace */
/** @typedef {import("./orientation.js").Orientation} Orientation */
/** @typedef {import("./track.js").Track} Track */

const MAX_QUEUE = 8;
const UNKNOWN = { matrix: null, fullRange: null };

/** Resizes and crops frames as one artifact wants it. */
export class FrameReader {
  #converter;
  #buffer = new Uint8Array();

  /** @param {Preprocess} preprocess */
  constructor(preprocess) {
    this.preprocess = preprocess;
    this.#converter = new Converter(preprocess.resample);
  }

  /**
   * Pixels of a frame. The frame is not closed.
   *
   * @param {VideoFrame} frame
   * @param {object} [options]
   * @param {number} [options.views] spatial views
   * @param {Orientation} [options.orientation]
   * @param {ColourSpace} [options.colours] what the file says; else the frame itself
   * @returns {Promise<Uint8Array<ArrayBuffer>[]>} `[height, width, 3]` for each spatial view
   * @throws {VideoError} its pixel format is not known, or it is smaller than the crop
   */
  async read(frame, { views = 1, orientation = AS_STORED, colours = UNKNOWN } = {}) {
    const picture = await this.#copy(frame, colours);
    const shown = orientation.transposed ? [picture.width, picture.height] : [picture.height, picture.width];
    const [height, width] = resizedSize(this.preprocess, shown[0], shown[1]);
    const [cropHeight, cropWidth] = this.preprocess.crop;
    if (height < cropHeight || width < cropWidth) {
      throw new VideoError(`expected frames of at least ${cropHeight} x ${cropWidth} (height x width), received ${height} x ${width}`);
    }
    /** @type {[number, number]} */
    const stored = orientation.transposed ? [width, height] : [height, width];
    const rgb = this.#converter.rgb(picture, stored);
    return cropOffsets(height, width, this.preprocess, views).map(([top, left]) =>
      cropUpright(rgb, stored, orientation, { top, left, height: cropHeight, width: cropWidth }),
    );
  }

  /**
   * @param {VideoFrame} frame
   * @param {ColourSpace} colours
   */
  async #copy(frame, colours) {
    const { width, height } = /** @type {DOMRectReadOnly} */ (frame.visibleRect);
    /** @type {any} a frame on a GPU has no format; the browser then converts its colours */
    const options = frame.format === null ? { format: "RGBA" } : {};
    const size = frame.allocationSize(options);
    if (this.#buffer.length < size) this.#buffer = new Uint8Array(size);
    const layout = await frame.copyTo(this.#buffer, options);
    const { matrix, fullRange } = frame.colorSpace;
    return {
      format: frame.format ?? "RGBA",
      ...{ width, height, layout, data: this.#buffer },
      colours: { matrix: colours.matrix ?? matrix, fullRange: colours.fullRange ?? fullRange },
    };
  }
}

/**
 * Decode frames of a track, in the order in which they are shown.
 *
 * @param {Track} track
 * @param {readonly number[]} wanted numbers of frames
 * @param {(frame: VideoFrame, index: number) => Promise<void>} receive the frame is closed after it
 * @returns {Promise<void>}
 * @throws {VideoError} this browser cannot decode the video, or a frame is damaged
 */
export async function decodeFrames(track, wanted, receive) {
  const open = new Set(wanted);
  const decoder = new FrameDecoder(track, open, receive);
  try {
    await decoder.configure();
    const { first, last } = range(track, wanted);
    for (let index = first; index <= last; index++) await decoder.send(index);
    await decoder.finish();
  } finally {
    decoder.close();
  }
  if (open.size) throw new VideoError(`frame ${Math.min(...open)} of the video is damaged, or missing`, { hint: "convert the video" });
}

/**
 * Samples to decode: from the last key frame that is shown no later than the first wanted frame.
 *
 * @param {Track} track
 * @param {readonly number[]} wanted
 */
function range({ frames, stream: { samples } }, wanted) {
  const earliest = Math.min(...wanted);
  const set = new Set(wanted);
  let [first, last] = [0, 0];
  samples.forEach(({ isKey }, index) => {
    if (isKey && frames[index] >= 0 && frames[index] <= earliest) first = index;
    if (set.has(frames[index])) last = index;
  });
  return { first, last };
}

/** A decoder whose frames are handled one after the other. */
class FrameDecoder {
  /** @type {Promise<void>} */
  #handled = Promise.resolve();
  #waiting = 0;
  /** @type {unknown} */
  #failure;

  /**
   * @param {Track} track
   * @param {Set<number>} open wanted frames that have not come yet
   * @param {(frame: VideoFrame, index: number) => Promise<void>} receive
   */
  constructor(track, open, receive) {
    this.track = track;
    this.open = open;
    this.receive = receive;
    this.decoder = new VideoDecoder({
      output: (frame) => this.#take(frame),
      error: (error) => {
        this.#failure ??= new VideoError(`the video cannot be decoded: ${error.message}`, { hint: "convert it to H.264 in MP4" });
      },
    });
  }

  async configure() {
    const { codec, width, height } = this.track.stream;
    const config = { ...codec, codedWidth: width, codedHeight: height };
    const { supported } = await VideoDecoder.isConfigSupported(config).catch(() => ({ supported: false }));
    if (!supported) {
      throw new VideoError(`this browser cannot decode ${codec.codec}`, { hint: "convert the video to H.264 in MP4, or use lcve run" });
    }
    this.decoder.configure(config);
  }

  /** @param {number} index of a sample */
  async send(index) {
    const { samples } = this.track.stream;
    const { offset, size, isKey } = samples[index];
    if (size > MAX_SAMPLE_BYTES) throw new VideoError(`expected frames of at most ${MAX_SAMPLE_BYTES} bytes, received ${size}`);
    const data = await bytesOf(this.track.source, offset, offset + size);
    if (data.length < size) throw new VideoError("the file ends within a frame: it is cut off");
    await this.#room();
    this.decoder.decode(new EncodedVideoChunk({ type: isKey ? "key" : "delta", timestamp: this.track.frames[index], data }));
  }

  async finish() {
    this.#check();
    try {
      await this.decoder.flush();
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.#failure ??= new VideoError(`the video cannot be decoded: ${error.message}`, { hint: "convert it to H.264 in MP4" });
    }
    await this.#handled;
    this.#check();
  }

  close() {
    if (this.decoder.state !== "closed") this.decoder.close();
  }

  /** Wait until the decoder and the handler are not far behind. */
  async #room() {
    while (!this.#failure && (this.decoder.decodeQueueSize > MAX_QUEUE || this.#waiting > MAX_QUEUE)) {
      await (this.#waiting > MAX_QUEUE ? this.#handled : new Promise((go) => this.decoder.addEventListener("dequeue", go, { once: true })));
    }
    this.#check();
  }

  /** @param {VideoFrame} frame its time stamp is its number */
  #take(frame) {
    const index = frame.timestamp;
    if (!this.open.delete(index) || this.#failure) {
      frame.close();
      return;
    }
    this.#waiting++;
    this.#handled = this.#handled.then(async () => {
      try {
        if (!this.#failure) await this.receive(frame, index);
      } catch (error) {
        this.#failure ??= error;
      } finally {
        frame.close();
        this.#waiting--;
      }
    });
  }

  #check() {
    if (this.#failure) throw this.#failure;
  }
}
