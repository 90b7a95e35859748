/**
 * Pack the coefficients of clips into few bytes, and back: exactly, and without a key.
 *
 * Source: format of scheme `lcve-dct-1`, section 11.3.
 */

import { shown } from "../binding.js";
import { concatBytes } from "../bytes.js";
import { EncryptedClipError } from "../errors.js";
import { deflate } from "./deflate.js";
import { inflate } from "./inflate.js";
import { MAX_INTEGER, requireStep } from "./steps.js";

/** @typedef {import("../geometry.js").Geometry} Geometry */
/** @typedef {{values: Int16Array<ArrayBuffer>, steps: Float32Array<ArrayBuffer>}} Coefficients of clips, `[clips, N, L]` */

const MAGIC = 0x5443444c; // "LDCT"
const HEADER_BYTES = 32;
const CHECKED = 12; // bytes before those that the checksum covers
const PLANES = 3; // bytes of a count
const ESCAPE = -128;
const MAX_SHORT = 127;
const MAX_ESCAPES = 258; // large values in a cube: more would have more energy than any clip
const MAX_UNPACKED = 2 ** 32;
const MAX_PAD = 2 ** 24;
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/**
 * Refuse a padding that is out of range.
 *
 * @param {number} pad
 * @throws {RangeError} it is not an integer from 1 to 2^24
 */
export function checkPad(pad) {
  if (Number.isInteger(pad) && pad >= 1 && pad <= MAX_PAD) return;
  throw new RangeError(`expected to pad to a multiple of 1 to ${MAX_PAD} bytes, received ${shown(pad)}`);
}

/**
 * Pack one clip.
 *
 * @param {Int16Array} coefficients `[N, L]`
 * @param {number} step
 * @param {Geometry} geometry
 * @param {number} [pad] the bytes are padded with zeros to a multiple of this, which hides how much is in the clip
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {RangeError} step, coefficients or padding are out of range
 */
export function pack(coefficients, step, geometry, pad = 1) {
  checkPad(pad);
  const exact = requireStep(step, geometry);
  const { columns, rows } = countNonzero(coefficients, geometry);
  const { bits, values } = mapped(coefficients, columns, rows, geometry);
  const { content, escapes } = coded(values, geometry);
  const streams = [deflate(planes([...columns, ...rows]), { runs: true }), deflate(bits, { runs: true }), deflate(content, { runs: false })];
  const body = concatBytes(...streams);
  const packed = new Uint8Array(Math.ceil((HEADER_BYTES + body.length) / pad) * pad);
  packed.set(body, HEADER_BYTES);
  const view = new DataView(packed.buffer);
  view.setFloat32(12, exact, true);
  const numbers = { 0: MAGIC, 4: packed.length, 16: escapes, 20: streams[0].length, 24: streams[1].length, 28: streams[2].length };
  for (const [place, number] of Object.entries(numbers)) view.setUint32(Number(place), number, true);
  view.setUint32(8, checksum(packed), true);
  return packed;
}

/**
 * Unpack clips; the inverse of `pack`. Everything is bounded by the geometry before it is allocated.
 *
 * @param {Uint8Array} data packed clips, and nothing else
 * @param {Geometry} geometry
 * @param {number} clips number that is expected
 * @returns {Promise<Coefficients>}
 * @throws {EncryptedClipError} the data are not this number of packed clips, or need more than 4 GiB
 */
export async function unpack(data, geometry, clips) {
  const size = geometry.clipValues;
  if (2 * clips * size > MAX_UNPACKED) {
    throw new EncryptedClipError(`expected clips of at most ${MAX_UNPACKED} bytes, received ${clips} of ${geometry}`);
  }
  const parts = [...split(data, geometry, clips)];
  const values = new Int16Array(clips * size);
  for (const [clip, part] of parts.entries()) await fill(values.subarray(clip * size, (clip + 1) * size), part, geometry);
  return { values, steps: Float32Array.from(parts, ({ step }) => step) };
}

/**
 * @param {Uint8Array} data
 * @param {Geometry} geometry
 * @param {number} clips
 */
function* split(data, geometry, clips) {
  let first = 0;
  for (let clip = 0; clip < clips; clip++) {
    const view = new DataView(data.buffer, data.byteOffset + first, data.length - first);
    const size = view.byteLength >= HEADER_BYTES && view.getUint32(0, true) === MAGIC ? view.getUint32(4, true) : 0;
    if (size < HEADER_BYTES || size > view.byteLength) {
      throw new EncryptedClipError(`expected packed clips; at byte ${first} of ${data.length} there is none, or one that is cut off`);
    }
    yield readPart(data.subarray(first, first + size), view, geometry);
    first += size;
  }
  if (first !== data.length) throw new EncryptedClipError(`expected ${clips} packed clips in ${first} bytes, received ${data.length} bytes`);
}

/**
 * Check checksum, header and padding of one packed clip.
 *
 * @param {Uint8Array} data
 * @param {DataView} view
 * @param {Geometry} geometry
 */
function readPart(data, view, geometry) {
  if (view.getUint32(8, true) !== checksum(data)) throw new EncryptedClipError("the packed clip is damaged: its checksum differs");
  const step = checkedStep(view.getFloat32(12, true), geometry);
  const ends = [HEADER_BYTES];
  for (const place of [20, 24, 28]) ends.push(ends[ends.length - 1] + view.getUint32(place, true));
  if (ends[3] > data.length || data.subarray(ends[3]).some(Boolean)) {
    throw new EncryptedClipError(`expected streams of ${ends[3] - HEADER_BYTES} bytes and then zeros in a packed clip of ${data.length} bytes`);
  }
  const [counts, map, values] = [0, 1, 2].map((stream) => data.subarray(ends[stream], ends[stream + 1]));
  return { step, escapes: view.getUint32(16, true), counts, map, values };
}

/**
 * @param {number} step
 * @param {Geometry} geometry
 */
function checkedStep(step, geometry) {
  try {
    return requireStep(step, geometry);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new EncryptedClipError(`the packed clip is invalid: ${error.message}`);
  }
}

// Packing

/**
 * @param {Int16Array} coefficients
 * @param {Geometry} geometry
 */
function countNonzero(coefficients, { cubes, values: size }) {
  const [columns, rows] = [new Uint32Array(size), new Uint32Array(cubes)];
  for (let row = 0, place = 0; row < cubes; row++) {
    for (let column = 0; column < size; column++) {
      if (coefficients[place++] === 0) continue;
      columns[column]++;
      rows[row]++;
    }
  }
  return { columns, rows };
}

/**
 * The map of what is not zero, and these coefficients in its order.
 *
 * @param {Int16Array} coefficients
 * @param {Uint32Array} columns
 * @param {Uint32Array} rows
 * @param {Geometry} geometry
 */
function mapped(coefficients, columns, rows, { cubes, values: size }) {
  const [taken, placed, bytes] = [sortedColumns(columns), sorted(rows), Math.ceil(cubes / 8)];
  const bits = new Uint8Array(taken.length * bytes);
  const [next, starts] = [new Uint32Array(size), new Uint32Array(size)];
  let nonzero = 0;
  taken.forEach((column, rank) => {
    next[column] = nonzero;
    starts[column] = rank * bytes;
    nonzero += columns[column];
  });
  const values = new Int16Array(nonzero);
  for (let at = 0; at < cubes; at++) {
    const [first, bit] = [placed[at] * size, 128 >> (at & 7)];
    for (let column = 0; column < size; column++) {
      const value = coefficients[first + column];
      if (value === 0) continue;
      bits[starts[column] + (at >> 3)] |= bit;
      values[next[column]++] = value;
    }
  }
  return { bits, values };
}

/**
 * Values as bytes, with the large ones after them.
 *
 * @param {Int16Array} values
 * @param {Geometry} geometry
 */
function coded(values, geometry) {
  const large = values.filter((value) => Math.abs(value) > MAX_SHORT);
  if (large.some((value) => Math.abs(value) > MAX_INTEGER)) throw new RangeError(`expected integers from -${MAX_INTEGER} to ${MAX_INTEGER} as coefficients`);
  if (large.length > maxEscapes(geometry)) {
    throw new RangeError(`expected at most ${maxEscapes(geometry)} large coefficients, received ${large.length}`);
  }
  const content = new Uint8Array(values.length + 2 * large.length);
  for (let place = 0; place < values.length; place++) {
    const value = values[place];
    content[place] = value > MAX_SHORT || value < -MAX_SHORT ? ESCAPE : value;
  }
  large.forEach((value, index) => {
    content[values.length + index] = value;
    content[values.length + large.length + index] = value >> 8;
  });
  return { content, escapes: large.length };
}

/** @param {number[]} counts */
function planes(counts) {
  const bytes = new Uint8Array(PLANES * counts.length);
  for (let plane = 0; plane < PLANES; plane++) {
    counts.forEach((count, index) => (bytes[plane * counts.length + index] = count >> (8 * plane)));
  }
  return bytes;
}

// Unpacking

/** @typedef {ReturnType<typeof readPart>} Part the streams of one clip, still deflated */

/**
 * @param {Int16Array} target `[N, L]`, zeros
 * @param {Part} part
 * @param {Geometry} geometry
 */
async function fill(target, part, geometry) {
  const { columns, rows, nonzero } = readCounts(await stream(part.counts, PLANES * (geometry.cubes + geometry.values), "counts"), geometry);
  if (part.escapes > Math.min(nonzero, maxEscapes(geometry))) {
    throw new EncryptedClipError(`a packed clip has at most ${maxEscapes(geometry)} large coefficients`);
  }
  const [taken, placed] = [sortedColumns(columns), sorted(rows)];
  const bits = await stream(part.map, taken.length * Math.ceil(geometry.cubes / 8), "map");
  const values = decoded(await stream(part.values, nonzero + 2 * part.escapes, "values"), nonzero, part.escapes);
  place(target, { bits, taken, placed, values, columns, rows: Uint32Array.from(rows) }, geometry);
}

/**
 * Put the values where the map says, and check the map against the counts.
 *
 * @param {Int16Array} target
 * @param {{bits: Uint8Array, taken: Uint32Array, placed: Uint32Array, values: Int16Array, columns: Uint32Array, rows: Uint32Array}} found
 *   `rows` is counted down
 * @param {Geometry} geometry
 */
function place(target, { bits, taken, placed, values, columns, rows }, { cubes, values: size }) {
  const bytes = Math.ceil(cubes / 8);
  let next = 0;
  let isRight = true;
  taken.forEach((column, rank) => {
    const end = next + columns[column];
    for (let byte = 0; byte < bytes; byte++) {
      for (let left = bits[rank * bytes + byte]; left; ) {
        const bit = Math.clz32(left) - 24; // the most significant bit is the first
        left ^= 128 >> bit;
        const row = placed[8 * byte + bit];
        isRight &&= row !== undefined && next < end;
        if (!isRight) return;
        rows[row]--;
        target[row * size + column] = values[next++];
      }
    }
    isRight &&= next === end;
  });
  if (!isRight || rows.some(Boolean)) throw new EncryptedClipError("the counts of a packed clip do not match its map");
}

/**
 * @param {Uint8Array} content
 * @param {Geometry} geometry
 */
function readCounts(content, { cubes, values: size }) {
  const total = cubes + size;
  const counts = Uint32Array.from({ length: total }, (_, i) => content[i] | (content[total + i] << 8) | (content[2 * total + i] << 16));
  const [columns, rows] = [counts.subarray(0, size), counts.subarray(size)];
  const [nonzero, inRows] = [columns, rows].map((side) => side.reduce((sum, count) => sum + count, 0));
  if (columns.some((count) => count > cubes) || rows.some((count) => count > size) || nonzero !== inRows) {
    throw new EncryptedClipError("the counts of a packed clip contradict each other");
  }
  return { columns, rows, nonzero };
}

/**
 * @param {Uint8Array} content
 * @param {number} nonzero
 * @param {number} escapes
 */
function decoded(content, nonzero, escapes) {
  const values = new Int16Array(nonzero);
  let large = 0;
  let isRight = true;
  for (let place = 0; place < nonzero; place++) {
    let value = (content[place] << 24) >> 24;
    if (value === ESCAPE) {
      const at = nonzero + large++;
      value = ((content[at] | (content[at + escapes] << 8)) << 16) >> 16;
      isRight &&= large <= escapes && Math.abs(value) > MAX_SHORT && Math.abs(value) <= MAX_INTEGER;
    }
    isRight &&= value !== 0;
    values[place] = value;
  }
  if (!isRight || large !== escapes) throw new EncryptedClipError("the values of a packed clip are not those of its map");
  return values;
}

/**
 * @param {Uint8Array} deflated
 * @param {number} size
 * @param {string} what
 */
async function stream(deflated, size, what) {
  const content = await inflate(deflated, size);
  if (!content) throw new EncryptedClipError(`expected ${size} bytes in the ${what} of a packed clip, received others, or a damaged stream`);
  return content;
}

// Orders and sums

/**
 * Numbers from the largest count to the smallest; those of equal counts in their order.
 *
 * @param {Uint32Array} counts
 */
function sorted(counts) {
  return Uint32Array.from(counts.keys()).sort((one, other) => counts[other] - counts[one] || one - other);
}

/**
 * The same, without those that are zero.
 *
 * @param {Uint32Array} counts
 */
function sortedColumns(counts) {
  return sorted(counts).filter((column) => counts[column]);
}

/** @param {Geometry} geometry */
function maxEscapes({ cubes, values }) {
  return cubes * Math.min(values, MAX_ESCAPES);
}

/**
 * CRC-32 of the checked bytes of a packed clip.
 *
 * @param {Uint8Array} data
 */
function checksum(data) {
  let sum = -1;
  for (let place = CHECKED; place < data.length; place++) sum = CRC[(sum ^ data[place]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}
