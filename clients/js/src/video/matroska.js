/**
 * The video of a Matroska or WebM file, also of one that was recorded live.
 *
 * Source: RFC 8794 (EBML), RFC 9559 (Matroska).
 */

import { bytesOf, sizeOf } from "../bytes.js";
import { VideoError } from "../errors.js";
import { av1, avc, hevc, MATRIX_NAMES, vp9 } from "./codecs.js";
import { AS_STORED } from "./orientation.js";
import { requireFrames } from "./track.js";

/** @typedef {import("../bytes.js").Source} Source */
/** @typedef {import("./codecs.js").Codec} Codec */
/** @typedef {import("./track.js").Stream} Stream */
/** @typedef {{id: number, view: DataView}} Element */

const SEGMENT = 0x18538067;
const TRACKS = 0x1654ae6b;
const CLUSTER = 0x1f43b675;
const TRACK = 0xae;
const [TIME, SIMPLE_BLOCK, BLOCK_GROUP, BLOCK, REFERENCE] = [0xe7, 0xa3, 0xa0, 0xa1, 0xfb];
const [NUMBER, TYPE, CODEC, PRIVATE, VIDEO, WIDTH, HEIGHT, COLOUR, MATRIX, RANGE] = [
  ...[0xd7, 0x83, 0x86, 0x63a2, 0xe0, 0xb0, 0xba, 0x55b0, 0x55b1, 0x55b9],
];
const MAX_ELEMENT_BYTES = 2 ** 28;
const VIDEO_TRACK = 1;
const [IS_KEY, IS_INVISIBLE, LACING] = [0x80, 0x08, 0x06];
const FULL_RANGE = 2;
/** @type {Record<string, (record: Uint8Array) => Codec>} */
const CODECS = {
  V_VP8: () => ({ codec: "vp8" }),
  V_VP9: (record) => (record.length ? vp9(vpRecord(record)) : { codec: "vp09.00.51.08" }),
  V_AV1: av1,
  "V_MPEG4/ISO/AVC": avc,
  "V_MPEGH/ISO/HEVC": hevc,
};

/**
 * @param {Source} source
 * @returns {Promise<Stream>}
 * @throws {VideoError} it is not a Matroska file with a video, or a part is missing or invalid
 */
export async function readMatroska(source) {
  try {
    return await read(source);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a DataView refuses what is not in the element
    throw new VideoError("the Matroska file is damaged: an element is shorter than its content", { hint: "repair or convert the file" });
  }
}

/** @param {Source} source */
async function read(source) {
  /** @type {{number: number, stream: Stream} | undefined} */
  let track;
  let time = 0;
  for await (const { id, data, position } of elements(source)) {
    if (id === TRACKS) track = readTracks(data);
    else if (id === TIME) time = integer(data);
    else if (id === SIMPLE_BLOCK) addBlock(track, data, position, time);
    else if (id === BLOCK_GROUP) addGroup(track, data, position, time);
  }
  if (!track) throw new VideoError("the Matroska file has no video of a known kind", { hint: "H.264, H.265, VP8, VP9 and AV1 are known" });
  return track.stream;
}

/**
 * Elements of the segment and of its clusters, in the order of the file. Only those that are needed are read.
 *
 * @param {Source} source
 */
async function* elements(source) {
  const size = sizeOf(source);
  for (let position = 0; position < size; ) {
    const head = viewOf(await bytesOf(source, position, Math.min(size, position + 12)));
    const { id, length, header } = readHeader(head, 0);
    const start = position + header;
    if (id === SEGMENT || id === CLUSTER) {
      position = start;
      continue;
    }
    if (length === undefined) throw new VideoError("the Matroska file has an element of unknown size");
    if ([TRACKS, TIME, SIMPLE_BLOCK, BLOCK_GROUP].includes(id)) {
      if (length > MAX_ELEMENT_BYTES) throw new VideoError(`expected parts of at most ${MAX_ELEMENT_BYTES} bytes in the Matroska file`);
      yield { id, data: viewOf(await bytesOf(source, start, Math.min(size, start + length))), position: start };
    }
    position = start + length;
  }
}

/**
 * @param {DataView} view
 * @param {number} at
 * @returns {{id: number, length: number | undefined, header: number}} the length is undefined if it is not stated
 */
function readHeader(view, at) {
  const idBytes = Math.clz32(view.getUint8(at)) - 23;
  let id = 0;
  for (let byte = 0; byte < idBytes; byte++) id = id * 256 + view.getUint8(at + byte);
  const { value, bytes, isUnknown } = variable(view, at + idBytes);
  return { id, length: isUnknown ? undefined : value, header: idBytes + bytes };
}

/**
 * @param {DataView} view
 * @param {number} at
 */
function variable(view, at) {
  const first = view.getUint8(at);
  const bytes = Math.clz32(first) - 23;
  let value = first & (0xff >> bytes);
  let isUnknown = value === 0xff >> bytes;
  for (let byte = 1; byte < bytes; byte++) {
    isUnknown &&= view.getUint8(at + byte) === 0xff;
    value = value * 256 + view.getUint8(at + byte);
  }
  return { value, bytes, isUnknown };
}

/**
 * @param {DataView} view
 * @returns {Element[]}
 */
function children(view) {
  const found = [];
  for (let at = 0; at + 2 <= view.byteLength; ) {
    const { id, length = 0, header } = readHeader(view, at);
    const end = Math.min(view.byteLength, at + header + length);
    found.push({ id, view: new DataView(view.buffer, view.byteOffset + at + header, Math.max(0, end - at - header)) });
    at += header + length;
  }
  return found;
}

/** @param {DataView} view */
function fields(view) {
  return new Map(children(view).map((element) => [element.id, element.view]));
}

/** @param {DataView | undefined} view */
function integer(view) {
  let value = 0;
  for (let byte = 0; view && byte < view.byteLength; byte++) value = value * 256 + view.getUint8(byte);
  return value;
}

/**
 * The first video track.
 *
 * @param {DataView} view
 * @returns {{number: number, stream: Stream} | undefined}
 */
function readTracks(view) {
  for (const { id, view: entry } of children(view)) {
    if (id !== TRACK) continue;
    const track = fields(entry);
    const video = track.get(VIDEO);
    if (integer(track.get(TYPE)) !== VIDEO_TRACK || !video) continue;
    const codec = CODECS[new TextDecoder().decode(bytes(track.get(CODEC))).replace(/\0+$/, "")];
    if (!codec) continue;
    const picture = fields(video);
    const colour = fields(picture.get(COLOUR) ?? viewOf(new Uint8Array()));
    const [matrix, range] = [integer(colour.get(MATRIX)), integer(colour.get(RANGE))];
    return {
      number: integer(track.get(NUMBER)),
      stream: {
        codec: codec(bytes(track.get(PRIVATE))),
        record: bytes(track.get(PRIVATE)),
        width: integer(picture.get(WIDTH)),
        height: integer(picture.get(HEIGHT)),
        orientation: AS_STORED,
        colours: { matrix: MATRIX_NAMES[matrix] ?? null, fullRange: range ? range === FULL_RANGE : null },
        samples: [],
      },
    };
  }
  return undefined;
}

/**
 * @param {{number: number, stream: Stream} | undefined} track
 * @param {DataView} group
 * @param {number} position
 * @param {number} clusterTime
 */
function addGroup(track, group, position, clusterTime) {
  const parts = fields(group);
  const block = parts.get(BLOCK);
  if (block) addBlock(track, block, position + block.byteOffset - group.byteOffset, clusterTime, !parts.has(REFERENCE));
}

/**
 * @param {{number: number, stream: Stream} | undefined} track
 * @param {DataView} block
 * @param {number} position of the block in the file
 * @param {number} clusterTime
 * @param {boolean} [isKey] of a block in a group; by default as its flags say
 */
function addBlock(track, block, position, clusterTime, isKey) {
  const { value: number, bytes: header } = variable(block, 0);
  if (!track || number !== track.number) return;
  const flags = block.getUint8(header + 2);
  if (flags & LACING) throw new VideoError("the Matroska file has several frames in one block, which is not supported");
  const start = header + 3;
  const { samples, codec } = track.stream;
  requireFrames(samples.length + 1);
  const isHidden = Boolean(flags & IS_INVISIBLE) || (codec.codec === "vp8" && !(block.getUint8(start) & 0x10));
  samples.push({
    offset: position + start,
    size: block.byteLength - start,
    time: clusterTime + block.getInt16(header),
    isKey: isKey ?? Boolean(flags & IS_KEY),
    isShown: !isHidden,
  });
}

/**
 * Profile, level and bits, as in `vpcC`, from the list of features in Matroska.
 *
 * @param {Uint8Array} record
 */
function vpRecord(record) {
  const features = new Map();
  for (let at = 0; at + 2 < record.length; at += 2 + record[at + 1]) features.set(record[at], record[at + 2]);
  return Uint8Array.of(features.get(1) ?? 0, features.get(2) ?? 51, (features.get(3) ?? 8) << 4);
}

/** @param {Uint8Array} data */
function viewOf(data) {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

/** @param {DataView | undefined} view */
function bytes(view) {
  return view ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array();
}
