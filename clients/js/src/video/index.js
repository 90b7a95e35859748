/** Videos to clips in a browser, with WebCodecs. */

import { requireCount } from "../arguments.js";
import { bytesOf, sizeOf } from "../bytes.js";
import { VideoError } from "../errors.js";
import { decodeFrames, FrameReader } from "./decode.js";
import { namedColours } from "./headers.js";
import { readMatroska } from "./matroska.js";
import { readMp4 } from "./mp4.js";
import { Track } from "./track.js";

export { decodeFrames, FrameReader } from "./decode.js";
export { cropOffsets, frameIndices, resizedSize, windowFrames } from "./sampling.js";

/** @typedef {import("../bytes.js").Source} Source */
/** @typedef {import("../settings.js").Preprocess} Preprocess */
/** @typedef {import("./track.js").Stream} Stream */

const EBML = 0x1a45dfa3;
const HEAD_BYTES = 64;
/** Of videos that name no matrix, at any size. */
const DEFAULT_MATRIX = "smpte170m";

/**
 * Read the index of a video file.
 *
 * @param {Source} source the chosen `File`, or bytes
 * @returns {Promise<Track>}
 * @throws {VideoError} it is not MP4, QuickTime, Matroska or WebM, or has no video of a known kind
 */
export async function openVideo(source) {
  if (!sizeOf(source)) throw new VideoError("the video file is empty");
  const head = await bytesOf(source, 0, Math.min(sizeOf(source), 12));
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.length >= 4 && view.getUint32(0) === EBML) return await trackOf(source, await readMatroska(source));
  const type = new TextDecoder("latin1").decode(head.subarray(4, 8));
  if (["ftyp", "moov", "mdat", "free", "skip", "wide", "styp"].includes(type)) return await trackOf(source, await readMp4(source));
  throw new VideoError("expected an MP4, QuickTime, Matroska or WebM video, received another kind of file", {
    hint: "convert it, for example: ffmpeg -i in.avi out.mp4; lcve run reads more kinds of video",
  });
}

/**
 * @param {Source} source
 * @param {Stream} stream
 */
async function trackOf(source, stream) {
  const track = new Track(source, stream);
  const { offset, size } = stream.samples[0];
  const named = namedColours(stream.codec, stream.record, await bytesOf(source, offset, offset + Math.min(size, HEAD_BYTES)));
  const { matrix, fullRange } = stream.colours;
  stream.colours = { matrix: named.matrix ?? matrix ?? DEFAULT_MATRIX, fullRange: named.fullRange ?? fullRange ?? false };
  return track;
}

/**
 * Read one clip of a video, or the clips of several views.
 *
 * @param {Track} track
 * @param {FrameReader} reader
 * @param {readonly (readonly number[])[]} plan frames of each temporal view
 * @param {number} [views] spatial views
 * @returns {Promise<Uint8Array<ArrayBuffer>>} `[views, T, H, W, 3]`
 */
export async function readClips(track, reader, plan, views = 1) {
  requireCount(views, "the spatial views", "pass a number, such as 1");
  const { orientation, colours } = track.stream;
  /** @type {Map<number, Uint8Array[]>} */
  const pictures = new Map();
  const wanted = [...new Set(plan.flat())];
  await decodeFrames(track, wanted, async (frame, index) => {
    pictures.set(index, await reader.read(frame, { views, orientation, colours }));
  });
  const size = /** @type {Uint8Array[]} */ (pictures.get(wanted[0]))[0].length;
  const clips = new Uint8Array(plan.length * views * plan[0].length * size);
  let at = 0;
  for (const frames of plan) {
    for (let view = 0; view < views; view++) {
      for (const index of frames) {
        clips.set(/** @type {Uint8Array[]} */ (pictures.get(index))[view], at);
        at += size;
      }
    }
  }
  return clips;
}
