/**
 * The video of a file as a list of samples: where each compressed frame is, and as which frame it is shown.
 *
 * Source: format of scheme `lcve-1`, section 5.1.
 */

import { VideoError } from "../errors.js";

/** @typedef {import("../bytes.js").Source} Source */
/** @typedef {import("./codecs.js").Codec} Codec */
/** @typedef {import("./colours.js").ColourSpace} ColourSpace */
/** @typedef {import("./orientation.js").Orientation} Orientation */

/**
 * A compressed frame. Its `time` is when it is shown, in any unit.
 *
 * @typedef {{offset: number, size: number, time: number, isKey: boolean, isShown: boolean}} Sample
 */
/**
 * @typedef {object} Stream what a file says of its video
 * @property {Codec} codec
 * @property {Uint8Array} record codec record of the file; may be empty
 * @property {number} width of the stored picture
 * @property {number} height
 * @property {Orientation} orientation
 * @property {ColourSpace} colours null for what the file does not say
 * @property {Sample[]} samples in the order in which they are decoded
 */

/** Maximum frames of a video. */
export const MAX_FRAMES = 2 ** 21;
/** Maximum pixels of a frame: twice 8K video. */
export const MAX_FRAME_PIXELS = 2 ** 26;
/** Maximum bytes of one compressed frame. */
export const MAX_SAMPLE_BYTES = 2 ** 26;

/** Samples with the number of the frame that each of them is; -1 if it is not shown. */
export class Track {
  /**
   * @param {Source} source
   * @param {Stream} stream
   * @throws {VideoError} there is no frame, or a size exceeds a limit
   */
  constructor(source, stream) {
    const { samples, width, height } = stream;
    if (!samples.some((sample) => sample.isShown)) throw new VideoError("the file has no video frame");
    if (width * height > MAX_FRAME_PIXELS) {
      throw new VideoError(`expected frames of at most ${MAX_FRAME_PIXELS} pixels, received ${width} x ${height}`);
    }
    this.source = source;
    this.stream = stream;
    /** Number of the frame of each sample, in the order in which frames are shown. */
    this.frames = new Int32Array(samples.length).fill(-1);
    const shown = samples.map((_, index) => index).filter((index) => samples[index].isShown);
    shown.sort((one, other) => samples[one].time - samples[other].time || one - other);
    shown.forEach((index, frame) => {
      this.frames[index] = frame;
    });
    /** Number of frames. */
    this.total = shown.length;
  }
}

/**
 * Check the number of samples while they are read.
 *
 * @param {number} count
 */
export function requireFrames(count) {
  if (!Number.isSafeInteger(count) || count > MAX_FRAMES) throw new VideoError(`expected at most ${MAX_FRAMES} frames, received ${count}`);
}
