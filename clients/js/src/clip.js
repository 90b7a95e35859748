/** Encrypted clips, and the `.lcve` files that carry them. */

import { Binding, shown, Views } from "./binding.js";
import { bytesOf, sizeOf } from "./bytes.js";
import { EncryptedClipError } from "./errors.js";
import { MAX_JSON_BYTES, parseJson } from "./json.js";
import { isSealed } from "./sealing/envelope.js";

/** @typedef {import("./bytes.js").Source} Source */

const LENGTH_BYTES = 8;
const NAMES = [...Binding.names, "views"];
const HINT = { hint: "make one with: lcve encrypt" };
const SEALED_HINT = "open it with openSealedClip and the private key of the recipient";

/** Clips that only the holder of the key can read. */
export class EncryptedClip {
  /**
   * @param {{values: Uint8Array<ArrayBuffer>, binding: Binding, views?: Views}} fields
   *   `values` is `[views, N, L]` or `[views, T, H, W, C]`; by default, every clip is a temporal view
   * @throws {RangeError} the number of values is not that of the views
   */
  constructor({ values, binding, views }) {
    const size = binding.geometry.clipValues;
    this.values = values;
    this.binding = binding;
    this.views = views ?? new Views(values.length / size, 1);
    if (values.length !== this.views.count * size) {
      throw new RangeError(`expected ${this.views.count * size} values for ${this.views} views, received ${values.length}`);
    }
    Object.freeze(this);
  }

  /** Shape of the values: the views first. */
  get shape() {
    return [this.views.count, ...this.binding.clipShape];
  }
}

/**
 * Write the bytes of an `.lcve` file. The same clip gives the same bytes as `lcve encrypt` writes.
 *
 * Source: format of scheme `lcve-1`, section 6.
 *
 * @param {EncryptedClip} clip
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function writeClipFile(clip) {
  const metadata = { ...clip.binding.toFields(), views: String(clip.views) };
  const tensor = { dtype: "U8", shape: clip.shape, data_offsets: [0, clip.values.length] };
  const text = JSON.stringify({ __metadata__: metadata, clip: tensor });
  const header = new TextEncoder().encode(text + " ".repeat(-text.length & 7));
  const file = new Uint8Array(LENGTH_BYTES + header.length + clip.values.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, LENGTH_BYTES);
  file.set(clip.values, LENGTH_BYTES + header.length);
  return file;
}

/**
 * Read and check the content of an `.lcve` file. The header is checked before the values are read.
 *
 * @param {Source} source bytes, or the chosen `File`
 * @returns {Promise<EncryptedClip>}
 * @throws {EncryptedClipError} not an encrypted clip file, or its parts contradict each other
 */
export async function readClipFile(source) {
  const size = sizeOf(source);
  const length = headerLength(await bytesOf(source, 0, Math.min(size, LENGTH_BYTES)), size);
  const start = LENGTH_BYTES + length;
  const { binding, views } = readHeader(await bytesOf(source, LENGTH_BYTES, start), size - start);
  const values = new Uint8Array(await bytesOf(source, start, size)); // a copy: the caller may change theirs
  return new EncryptedClip({ values, binding, views });
}

/**
 * @param {Uint8Array} bytes
 * @param {number} size of the file
 */
function headerLength(bytes, size) {
  const limit = Math.min(MAX_JSON_BYTES, size - LENGTH_BYTES);
  if (bytes.length < LENGTH_BYTES) throw damaged(`a file of ${size} bytes`);
  if (isSealed(bytes)) throw new EncryptedClipError("the clip is sealed", { hint: SEALED_HINT });
  const length = new DataView(bytes.buffer, bytes.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(limit)) throw damaged(`a header of ${length} bytes, expected at most ${limit}`);
  return Number(length);
}

/**
 * @param {Uint8Array} bytes
 * @param {number} size bytes of values in the file
 */
function readHeader(bytes, size) {
  const { __metadata__: metadata, ...tensors } = asObject(parsed(bytes), "the header");
  const names = Object.keys(tensors);
  if (names.length !== 1 || names[0] !== "clip") {
    throw new EncryptedClipError(`expected one tensor named clip, received ${shown(names)}`);
  }
  const { dtype, shape, data_offsets: offsets } = asObject(tensors.clip, "clip");
  if (dtype !== "U8") throw new EncryptedClipError(`expected a clip of dtype U8, received ${shown(dtype)}`);
  const { binding, views } = readMetadata(metadata);
  const expected = [views.count, ...binding.clipShape];
  if (!sameList(shape, expected)) {
    throw new EncryptedClipError(`expected uint8 ${shown(expected)} for ${views} views, received ${shown(shape)}`);
  }
  const values = views.count * binding.geometry.clipValues;
  if (!sameList(offsets, [0, values]) || size !== values) {
    throw damaged(`expected ${values} bytes of values, received ${size} and the offsets ${shown(offsets)}`);
  }
  return { binding, views };
}

/** @param {unknown} value */
function readMetadata(value) {
  const metadata = /** @type {Record<string, string>} */ (asObject(value ?? {}, "__metadata__"));
  if (!Object.values(metadata).every((text) => typeof text === "string")) throw damaged("metadata that is not text");
  const missing = NAMES.filter((name) => !(name in metadata));
  if (missing.length) throw new EncryptedClipError(`the encrypted clip lacks ${missing.join(", ")}`);
  try {
    return { binding: Binding.parse(metadata), views: Views.parse(metadata.views) };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new EncryptedClipError(`the encrypted clip contradicts itself: ${error.message}`);
  }
}

/** @param {Uint8Array} bytes */
function parsed(bytes) {
  try {
    return parseJson(bytes, { strict: true });
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw damaged(error.message);
  }
}

/**
 * @param {unknown} value
 * @param {string} what
 * @returns {Record<string, unknown>}
 */
function asObject(value, what) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw damaged(`${what} is not an object`);
  return /** @type {Record<string, unknown>} */ (value);
}

/**
 * @param {unknown} list
 * @param {readonly number[]} expected
 */
function sameList(list, expected) {
  return Array.isArray(list) && list.length === expected.length && list.every((item, index) => item === expected[index]);
}

/** @param {string} reason */
function damaged(reason) {
  return new EncryptedClipError(`not an encrypted clip file, or a damaged one (${reason})`, HINT);
}
