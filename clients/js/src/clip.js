/** Encrypted clips, and the `.lcve` files that carry them. */

import { requireKind, requireOptions } from "./arguments.js";
import { Binding, shown, Views } from "./binding.js";
import { bytesOf, concatBytes, sizeOf } from "./bytes.js";
import { checkPad, pack, unpack } from "./dct/packing.js";
import { EncryptedClipError } from "./errors.js";
import { MAX_JSON_BYTES, parseJson } from "./json.js";
import { isSealed } from "./sealing/envelope.js";

/** @typedef {import("./bytes.js").Source} Source */

const LENGTH_BYTES = 8;
const NAMES = [...Binding.names, "views"];
const HINT = { hint: "make one with: lcve encrypt" };
const VIEWS_HINT = 'pass new Views(5, 3), or Views.parse("5x3")';
const SEALED_HINT = "open it with openSealedClip and the private key of the recipient";

/** Clips that only the holder of the key can read. */
export class EncryptedClip {
  #values;
  #steps;
  /** Packed views, so that a clip is packed once. @type {Map<number, Uint8Array>} */
  #packed = new Map();

  /**
   * @param {object} fields
   * @param {Uint8Array<ArrayBuffer> | Int16Array<ArrayBuffer>} fields.values `[views, N, L]` or `[views, T, H, W, C]`; of
   *   the scheme `lcve-dct-1`, coefficients as Int16Array
   * @param {Binding} fields.binding
   * @param {Views} [fields.views] by default, every clip is a temporal view
   * @param {Float32Array<ArrayBuffer>} [fields.steps] of the scheme `lcve-dct-1`: the step of each view
   * @throws {import("./errors.js").ArgumentError} the binding or the views are of another type
   * @throws {RangeError} the number of values is not that of the views, or the values are not of the scheme
   */
  constructor({ values, binding, views, steps }) {
    requireKind(binding, [Binding], "the binding of the clip as a Binding", "take it from client.settings");
    if (views !== undefined) requireKind(views, [Views], "the views as a Views", VIEWS_HINT);
    const size = binding.geometry.clipValues;
    this.#values = values;
    this.#steps = steps;
    this.binding = binding;
    this.views = views ?? new Views(values.length / size, 1);
    if (values.length !== this.views.count * size) {
      throw new RangeError(`expected ${this.views.count * size} values for ${this.views} views, received ${values.length}`);
    }
    const isRight = binding.packed ? values instanceof Int16Array && steps?.length === this.views.count : values instanceof Uint8Array && !steps;
    if (!isRight) throw new RangeError(`expected the ${binding.packed ? "coefficients and steps" : "bytes"} of clips of the scheme ${binding.scheme}`);
    Object.freeze(this);
  }

  /**
   * Values of a clip of the scheme `lcve-1`.
   *
   * @throws {RangeError} it is a clip of coefficients
   */
  get values() {
    if (this.#values instanceof Int16Array) throw new RangeError("a clip of this scheme has coefficients, and no values");
    return this.#values;
  }

  /**
   * Coefficients of a clip of the scheme `lcve-dct-1`, `[views, N, L]`, and the step of each view.
   *
   * @throws {RangeError} it is a clip of values
   */
  get coefficients() {
    if (!(this.#values instanceof Int16Array && this.#steps)) throw new RangeError("a clip of this scheme has values, and no coefficients");
    return { values: this.#values, steps: this.#steps };
  }

  /**
   * Bytes of some of the views, as they are stored and sent.
   *
   * @param {number} [first]
   * @param {number} [count]
   * @param {{pad?: number}} [options] of the scheme `lcve-dct-1`: pad every view to a multiple of this number
   * @returns {Uint8Array<ArrayBuffer>}
   * @throws {EncryptedClipError} the clip cannot be packed, or cannot be padded
   */
  bytes(first = 0, count = this.views.count, options = {}) {
    requireOptions(options, ["pad"]);
    const { pad = 1 } = options;
    if (!(this.#values instanceof Int16Array)) {
      const size = this.binding.geometry.clipValues;
      requirePad(pad, this.binding);
      return this.#values.subarray(first * size, (first + count) * size);
    }
    return concatBytes(...Array.from({ length: count }, (_, index) => this.#packedView(first + index, pad)));
  }

  /**
   * @param {number} view
   * @param {number} pad
   */
  #packedView(view, pad) {
    const kept = pad === 1 ? this.#packed.get(view) : undefined;
    if (kept) return kept;
    const { values, steps } = this.coefficients;
    const { geometry } = this.binding;
    const [first, end] = [view * geometry.clipValues, (view + 1) * geometry.clipValues];
    try {
      const packed = pack(values.subarray(first, end), steps[view], geometry, pad);
      if (pad === 1) this.#packed.set(view, packed);
      return packed;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new EncryptedClipError(`the clip cannot be packed: ${error.message}`);
    }
  }

  /** Shape of the values: the views first. */
  get shape() {
    return [this.views.count, ...this.binding.clipShape];
  }
}

/**
 * Check that a caller passed a clip.
 *
 * @param {unknown} clip
 * @throws {import("./errors.js").ArgumentError} it is of another type
 */
export function requireClip(clip) {
  requireKind(clip, [EncryptedClip], "an EncryptedClip", "make one with client.encrypt, readClipFile or openSealedClip");
}

/**
 * Check a padding of clips.
 *
 * @param {number} pad
 * @param {Binding} binding of the clips
 * @throws {EncryptedClipError} it is out of range, or clips of the scheme all have the same length
 */
export function requirePad(pad, { packed, scheme }) {
  if (!packed && pad !== 1) {
    const words = `clips of the scheme ${scheme} all have the same length, received a padding of ${shown(pad)}`;
    throw new EncryptedClipError(words, { hint: "leave the padding out" });
  }
  try {
    checkPad(pad);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new EncryptedClipError(error.message);
  }
}

/**
 * Write the bytes of an `.lcve` file. The same clip of the scheme `lcve-1` gives the same bytes as `lcve encrypt` writes;
 * of `lcve-dct-1`, bytes that unpack to the same clip.
 *
 * Source: format of scheme `lcve-1`, section 6.
 *
 * @param {EncryptedClip} clip
 * @param {{pad?: number}} [options] of the scheme `lcve-dct-1`: pad every view to a multiple of this number
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {EncryptedClipError} the clip cannot be packed, or cannot be padded
 */
export function writeClipFile(clip, options) {
  requireClip(clip);
  const values = clip.bytes(0, clip.views.count, options);
  const metadata = { ...clip.binding.toFields(), views: String(clip.views) };
  const shape = clip.binding.packed ? [values.length] : clip.shape;
  const tensor = { dtype: "U8", shape, data_offsets: [0, values.length] };
  const text = JSON.stringify({ __metadata__: metadata, clip: tensor });
  const header = new TextEncoder().encode(text + " ".repeat(-text.length & 7));
  const file = new Uint8Array(LENGTH_BYTES + header.length + values.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, LENGTH_BYTES);
  file.set(values, LENGTH_BYTES + header.length);
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
  const { geometry, packed } = binding;
  return new EncryptedClip({ ...(packed ? await unpack(values, geometry, views.count) : { values }), binding, views });
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
  const expected = binding.packed ? [size] : [views.count, ...binding.clipShape];
  if (!sameList(shape, expected)) {
    throw new EncryptedClipError(`expected uint8 ${binding.packed ? "[bytes]" : shown(expected)} for ${views} views, received ${shown(shape)}`);
  }
  const values = binding.packed ? size : views.count * binding.geometry.clipValues;
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
