/**
 * The video of an MP4 or QuickTime file, also of a fragmented one.
 *
 * Source: ISO/IEC 14496-12 (boxes), 14496-15 (`avcC`, `hvcC`); VP and AV1 bindings for `vpcC` and `av1C`.
 */

import { bytesOf, sizeOf } from "../bytes.js";
import { VideoError } from "../errors.js";
import { av1, avc, hevc, MATRIX_NAMES, vp9 } from "./codecs.js";
import { AS_STORED, fromMatrix } from "./orientation.js";
import { requireFrames } from "./track.js";

/** @typedef {import("../bytes.js").Source} Source */
/** @typedef {import("./codecs.js").Codec} Codec */
/** @typedef {import("./track.js").Sample} Sample */
/** @typedef {import("./track.js").Stream} Stream */

/** A box in memory, and its position in the file. */
/** @typedef {{type: string, view: DataView, start: number}} Box */
/** @typedef {{duration: number, size: number, flags: number}} Defaults of the samples of a fragment */
/** @typedef {{id: number, timescale: number, stream: Stream, edits: Edit[], defaults: Defaults, time: number}} MovieTrack */
/** @typedef {{duration: number, start: number}} Edit in units of the movie, and of the track */

const MAX_INDEX_BYTES = 2 ** 28;
const ENTRY_BYTES = 78;
const NOT_KEY = 0x10000;
/** @type {Record<string, (record: Uint8Array, entry: string) => Codec>} */
const CODECS = {
  avcC: avc,
  hvcC: hevc,
  av1C: av1,
  vpcC: (record, entry) => (entry === "vp08" ? { codec: "vp8" } : vp9(record.subarray(4))),
};

/**
 * @param {Source} source
 * @returns {Promise<Stream>}
 * @throws {VideoError} it is not an MP4 file with a video, or a part is missing or invalid
 */
export async function readMp4(source) {
  try {
    return await read(source);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a DataView refuses what is not in the box
    throw new VideoError("the MP4 file is damaged: a box is shorter than its content", { hint: "repair or convert the file" });
  }
}

/** @param {Source} source */
async function read(source) {
  /** @type {{timescale: number, tracks: MovieTrack[]} | undefined} */
  let movie;
  for await (const { type, position, end, header } of topBoxes(source)) {
    if (type !== "moov" && type !== "moof") continue;
    if (end - position > MAX_INDEX_BYTES) throw new VideoError(`expected an index of at most ${MAX_INDEX_BYTES} bytes in the MP4 file`);
    const view = viewOf(await bytesOf(source, position + header, end));
    if (type === "moov") movie ??= readMovie({ type, view, start: position });
    else if (movie) readFragment({ type, view, start: position }, movie.tracks);
  }
  if (!movie) throw new VideoError("the MP4 file has no index (moov): it is cut off, or still being written");
  const track = movie.tracks.find(({ stream }) => stream.samples.length > 1) ?? movie.tracks[0];
  if (!track) throw new VideoError("the MP4 file has no video of a known kind", { hint: "H.264, H.265, VP8, VP9 and AV1 are known" });
  applyEdits(track, movie.timescale);
  return track.stream;
}

/** @param {Source} source */
async function* topBoxes(source) {
  const size = sizeOf(source);
  for (let position = 0; position + 8 <= size; ) {
    const view = viewOf(await bytesOf(source, position, Math.min(size, position + 16)));
    const { length, header, type } = readHeader(view, 0, size - position);
    yield { type, position, end: Math.min(size, position + length), header };
    position += length;
  }
}

/**
 * @param {DataView} view
 * @param {number} at
 * @param {number} left bytes to the end of the parent
 */
function readHeader(view, at, left) {
  const short = view.getUint32(at);
  const header = short === 1 ? 16 : 8;
  const length = short === 1 ? Number(view.getBigUint64(at + 8)) : short || left;
  if (length < header) throw new VideoError("the MP4 file is damaged: a box is smaller than its header");
  return { length, header, type: text(view, at + 4) };
}

/**
 * Boxes in a box.
 *
 * @param {Box} parent
 * @param {number} [from]
 * @returns {Box[]}
 */
function children({ view, start }, from = 0) {
  const found = [];
  for (let at = from; at + 8 <= view.byteLength; ) {
    const { length, header, type } = readHeader(view, at, view.byteLength - at);
    const end = Math.min(at + length, view.byteLength);
    found.push({ type, view: new DataView(view.buffer, view.byteOffset + at + header, end - at - header), start });
    at += length;
  }
  return found;
}

/**
 * The box at a path of types.
 *
 * @param {Box} box
 * @param {string[]} types
 * @returns {Box | undefined}
 */
function inside(box, ...types) {
  /** @type {Box | undefined} */
  let found = box;
  for (const type of types) found = found && children(found).find((child) => child.type === type);
  return found;
}

/**
 * @param {Box} box
 * @param {string[]} types
 * @returns {Box}
 */
function required(box, ...types) {
  const found = inside(box, ...types);
  if (!found) throw new VideoError(`the MP4 file is damaged: it has no ${types[types.length - 1]}`);
  return found;
}

/** @param {Box} moov */
function readMovie(moov) {
  const mvhd = inside(moov, "mvhd")?.view;
  const timescale = mvhd ? mvhd.getUint32(mvhd.getUint8(0) === 1 ? 20 : 12) : 1;
  const tracks = children(moov).flatMap((trak) => (trak.type === "trak" ? (readTrack(trak) ?? []) : []));
  for (const { view } of children(inside(moov, "mvex") ?? { type: "", view: viewOf(new Uint8Array()), start: 0 })) {
    const track = view.byteLength >= 24 && tracks.find(({ id }) => id === view.getUint32(4));
    if (track) track.defaults = { duration: view.getUint32(12), size: view.getUint32(16), flags: view.getUint32(20) };
  }
  return { timescale: timescale || 1, tracks };
}

/**
 * @param {Box} trak
 * @returns {MovieTrack | undefined} undefined if it is not a video of a known kind
 */
function readTrack(trak) {
  const hdlr = inside(trak, "mdia", "hdlr")?.view;
  const entry = firstEntry(inside(trak, "mdia", "minf", "stbl", "stsd"));
  if (!hdlr || text(hdlr, 8) !== "vide" || !entry) return undefined;
  const read = readCodec(entry);
  if (!read) return undefined;
  const [tkhd, mdhd] = [required(trak, "tkhd").view, required(trak, "mdia", "mdhd").view];
  const wide = tkhd.getUint8(0) === 1 ? 12 : 0;
  const matrix = Array.from({ length: 9 }, (_, index) => tkhd.getInt32(40 + wide + 4 * index));
  const stream = {
    ...read,
    width: entry.view.getUint16(24),
    height: entry.view.getUint16(26),
    orientation: matrix.some(Boolean) ? fromMatrix(matrix) : AS_STORED,
    colours: readColours(entry),
    samples: readSamples(required(trak, "mdia", "minf", "stbl")),
  };
  return {
    id: tkhd.getUint32(tkhd.getUint8(0) === 1 ? 20 : 12),
    timescale: mdhd.getUint32(mdhd.getUint8(0) === 1 ? 20 : 12),
    stream,
    edits: readEdits(inside(trak, "edts", "elst")),
    defaults: { duration: 0, size: 0, flags: 0 },
    time: 0,
  };
}

/** @param {Box | undefined} stsd */
function firstEntry(stsd) {
  return stsd && children(stsd, 8)[0];
}

/**
 * @param {Box} entry
 * @returns {{codec: Codec, record: Uint8Array} | undefined}
 */
function readCodec(entry) {
  for (const { type, view } of children(entry, ENTRY_BYTES)) {
    if (type in CODECS) return { codec: CODECS[type](bytes(view), entry.type), record: bytes(view) };
  }
  return undefined;
}

/** @param {Box} entry */
function readColours(entry) {
  const colr = children(entry, ENTRY_BYTES).find((box) => box.type === "colr" && ["nclx", "nclc"].includes(text(box.view, 0)))?.view;
  if (!colr) return { matrix: null, fullRange: null };
  const matrix = MATRIX_NAMES[colr.getUint16(8)] ?? null;
  return { matrix, fullRange: text(colr, 0) === "nclx" ? colr.getUint8(10) >= 128 : null };
}

/**
 * @param {Box | undefined} elst
 * @returns {Edit[]}
 */
function readEdits(elst) {
  if (!elst) return [];
  const { view } = elst;
  const wide = view.getUint8(0) === 1;
  const count = view.getUint32(4);
  requireFrames(count);
  const edits = Array.from({ length: count }, (_, index) => {
    const at = 8 + index * (wide ? 20 : 12);
    const duration = wide ? Number(view.getBigUint64(at)) : view.getUint32(at);
    return { duration, start: wide ? Number(view.getBigInt64(at + 8)) : view.getInt32(at + 4) };
  });
  return edits.filter(({ start }) => start >= 0);
}

/**
 * The samples of a file that is not fragmented.
 *
 * @param {Box} stbl
 * @returns {Sample[]}
 */
function readSamples(stbl) {
  const tables = Object.fromEntries(children(stbl).map((box) => [box.type, box.view]));
  const sizes = readSizes(tables.stsz);
  const offsets = readOffsets(tables, sizes);
  const delays = tables.ctts && runs(tables.ctts, sizes.length, (view, at) => view.getInt32(at));
  const durations = tables.stts ? runs(tables.stts, sizes.length, (view, at) => view.getUint32(at)) : [];
  const keys = tables.stss && new Set(Array.from({ length: tables.stss.getUint32(4) }, (_, index) => tables.stss.getUint32(8 + 4 * index)));
  let time = 0;
  return sizes.map((size, index) => {
    const sample = { offset: offsets[index], size, time: time + (delays ? delays[index] : 0), isShown: true };
    time += durations[index] ?? 0;
    return { ...sample, isKey: !keys || keys.has(index + 1) };
  });
}

/** @param {DataView | undefined} stsz */
function readSizes(stsz) {
  if (!stsz) throw new VideoError("the MP4 file does not state the sizes of its frames (stsz)");
  const count = stsz.getUint32(8);
  requireFrames(count);
  const size = stsz.getUint32(4);
  return Array.from({ length: count }, (_, index) => size || stsz.getUint32(12 + 4 * index));
}

/**
 * Values of a table of (count, value).
 *
 * @param {DataView} view
 * @param {number} total
 * @param {(view: DataView, at: number) => number} value
 */
function runs(view, total, value) {
  const values = new Float64Array(total);
  for (let run = 0, done = 0; run < view.getUint32(4) && done < total; run++) {
    const end = Math.min(total, done + view.getUint32(8 + 8 * run));
    values.fill(value(view, 12 + 8 * run), done, end);
    done = end;
  }
  return values;
}

/**
 * @param {Record<string, DataView>} tables
 * @param {number[]} sizes
 */
function readOffsets({ stsc, stco, co64 }, sizes) {
  const chunks = stco ?? co64;
  if (!sizes.length) return [];
  if (!stsc || !chunks) throw new VideoError("the MP4 file does not state where its frames are (stsc, stco)");
  const offsets = new Float64Array(sizes.length);
  let sample = 0;
  for (let chunk = 0, row = 0; chunk < chunks.getUint32(4) && sample < sizes.length; chunk++) {
    if (row + 1 < stsc.getUint32(4) && stsc.getUint32(8 + 12 * (row + 1)) === chunk + 1) row++;
    let offset = stco ? stco.getUint32(8 + 4 * chunk) : Number(co64.getBigUint64(8 + 8 * chunk));
    for (let left = stsc.getUint32(12 + 12 * row); left > 0 && sample < sizes.length; left--) {
      offsets[sample] = offset;
      offset += sizes[sample++];
    }
  }
  if (sample < sizes.length) throw new VideoError("the MP4 file does not state where all of its frames are");
  return offsets;
}

/**
 * Add the samples of a fragment to their tracks.
 *
 * @param {Box} moof
 * @param {MovieTrack[]} tracks
 */
function readFragment(moof, tracks) {
  for (const traf of children(moof).filter(({ type }) => type === "traf")) {
    const tfhd = inside(traf, "tfhd")?.view;
    const track = tfhd && tracks.find(({ id }) => id === tfhd.getUint32(4));
    if (!tfhd || !track) continue;
    const { base, defaults } = readFragmentHeader(tfhd, moof.start, track.defaults);
    const tfdt = inside(traf, "tfdt")?.view;
    if (tfdt) track.time = tfdt.getUint8(0) === 1 ? Number(tfdt.getBigUint64(4)) : tfdt.getUint32(4);
    let next = base;
    for (const { view } of children(traf).filter(({ type }) => type === "trun")) next = readRun(view, track, defaults, base, next);
  }
}

/**
 * @param {DataView} tfhd
 * @param {number} start of the fragment in the file
 * @param {Defaults} given
 */
function readFragmentHeader(tfhd, start, given) {
  const flags = tfhd.getUint32(0) & 0xffffff;
  const defaults = { ...given };
  let at = 8;
  const base = flags & 1 ? Number(tfhd.getBigUint64(at)) : start;
  at += (flags & 1 ? 8 : 0) + (flags & 2 ? 4 : 0);
  for (const [bit, name] of /** @type {const} */ ([[8, "duration"], [16, "size"], [32, "flags"]])) {
    if (!(flags & bit)) continue;
    defaults[name] = tfhd.getUint32(at);
    at += 4;
  }
  return { base, defaults };
}

/**
 * @param {DataView} trun
 * @param {MovieTrack} track
 * @param {Defaults} defaults
 * @param {number} base
 * @param {number} next where the data begins if the run does not say so
 */
function readRun(trun, track, defaults, base, next) {
  const flags = trun.getUint32(0) & 0xffffff;
  const count = trun.getUint32(4);
  const { samples } = track.stream;
  requireFrames(samples.length + count);
  let at = 8;
  const take = (/** @type {number} */ bit, /** @type {number} */ otherwise) => {
    if (!(flags & bit)) return otherwise;
    at += 4;
    return trun.getUint32(at - 4);
  };
  let offset = flags & 1 ? base + (take(1, 0) | 0) : next;
  const first = take(4, defaults.flags);
  for (let index = 0; index < count; index++) {
    const duration = take(0x100, defaults.duration);
    const size = take(0x200, defaults.size);
    const own = take(0x400, index === 0 ? first : defaults.flags);
    const delay = take(0x800, 0) | 0;
    samples.push({ offset, size, time: track.time + delay, isKey: !(own & NOT_KEY), isShown: true });
    offset += size;
    track.time += duration;
  }
  return offset;
}

/**
 * Leave out the frames that the edit list does not show.
 *
 * @param {MovieTrack} track
 * @param {number} timescale of the movie
 */
function applyEdits(track, timescale) {
  if (track.edits.length > 1) {
    throw new VideoError("the MP4 file shows several parts of its video in turn (an edit list), which is not supported", {
      hint: "convert it, for example: ffmpeg -i in.mp4 out.mp4",
    });
  }
  for (const { start, duration } of track.edits) {
    const end = duration ? start + (duration * track.timescale) / timescale : Infinity;
    for (const sample of track.stream.samples) sample.isShown = sample.time >= start && sample.time < end;
  }
}

/** @param {Uint8Array} data */
function viewOf(data) {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

/** @param {DataView} view */
function bytes(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/**
 * @param {DataView} view
 * @param {number} at
 */
function text(view, at) {
  return String.fromCharCode(view.getUint8(at), view.getUint8(at + 1), view.getUint8(at + 2), view.getUint8(at + 3));
}
