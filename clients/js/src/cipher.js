/**
 * LCVE: encrypt and decrypt clips.
 *
 * Encrypted cube i, value j = plain cube K1[i], value K2[j]. Values are moved and never changed.
 *
 * Source: format of scheme `lcve-1`, section 3.
 */

import { requireKind } from "./arguments.js";
import { Binding, SALT_BYTES, SCHEME } from "./binding.js";
import { toHex } from "./bytes.js";
import { deriveOrder } from "./orders.js";

/** @typedef {import("./binding.js").Layout} Layout */
/** @typedef {import("./geometry.js").Geometry} Geometry */
/** @typedef {import("./key.js").SecurityKey} SecurityKey */

/**
 * Places of values: value j of cube i is at `cubes[i] + values[j]`.
 *
 * @typedef {{cubes: Uint32Array, values: Uint32Array}} Places
 */

/** Shuffles clips of one key, salt and geometry. Its orders are private and cannot be serialised. */
export class Cipher {
  /** @type {Places} */
  #plain;
  /** @type {Record<Layout, Places>} */
  #encrypted;
  #keyId;
  #salt;
  #forgotten = false;

  /**
   * Use `Cipher.create`.
   *
   * @param {{keyId: string, salt: string, geometry: Geometry, cubeOrder: Uint32Array, pixelOrder: Uint32Array}} made
   */
  constructor({ keyId, salt, geometry, cubeOrder, pixelOrder }) {
    const cubes = geometry.cubeOffsets();
    const values = geometry.valueOffsets();
    this.#keyId = keyId;
    this.#salt = salt;
    this.geometry = geometry;
    this.#plain = { cubes: cubeOrder.map((cube) => cubes[cube]), values: pixelOrder.map((value) => values[value]) };
    const rows = { cubes: cubes.map((_, i) => i * geometry.values), values: values.map((_, j) => j) };
    this.#encrypted = { cubes: rows, video: { cubes, values } };
    Object.freeze(this);
  }

  /**
   * Derive K1 and K2.
   *
   * @param {SecurityKey} key
   * @param {{salt: Uint8Array<ArrayBuffer>, geometry: Geometry}} artifact
   * @returns {Promise<Cipher>}
   */
  static async create(key, { salt, geometry }) {
    if (salt.length !== SALT_BYTES) throw new RangeError(`a salt has ${SALT_BYTES} bytes, received ${salt.length}`);
    const cubeOrder = await deriveOrder(key, `${SCHEME}/cube-order/${geometry}`, geometry.cubes, salt);
    const pixelOrder = await deriveOrder(key, `${SCHEME}/pixel-order/${geometry}`, geometry.values, salt);
    const cipher = new Cipher({ keyId: key.keyId, salt: toHex(salt), geometry, cubeOrder, pixelOrder });
    cubeOrder.fill(0);
    pixelOrder.fill(0);
    return cipher;
  }

  /**
   * Public label of the clips that this cipher encrypts.
   *
   * @param {Layout} layout
   * @returns {Binding}
   */
  binding(layout) {
    return new Binding({ scheme: SCHEME, keyId: this.#keyId, salt: this.#salt, geometry: this.geometry, layout });
  }

  /**
   * Encrypt clips.
   *
   * @param {Uint8Array | Uint8ClampedArray} clips `[clips, T, H, W, C]`, at least one
   * @param {Layout} layout
   * @returns {Uint8Array<ArrayBuffer>} `[clips, N, L]` or `[clips, T, H, W, C]`
   * @throws {import("./errors.js").ArgumentError} not bytes
   * @throws {RangeError} not a whole number of clips
   */
  encrypt(clips, layout) {
    return this.#move(clips, this.#plain, this.#encrypted[layout]);
  }

  /**
   * Decrypt clips; the inverse of `encrypt`.
   *
   * @param {Uint8Array} clips
   * @param {Layout} layout
   * @returns {Uint8Array<ArrayBuffer>} `[clips, T, H, W, C]`
   */
  decrypt(clips, layout) {
    return this.#move(clips, this.#encrypted[layout], this.#plain);
  }

  /**
   * Put the rows of tokens into the order of the clip. Rows of prefix tokens come first and stay.
   *
   * @param {Float64Array} tokens `[tokens, width]`, in the order K1
   * @param {number} width
   * @returns {Float64Array}
   */
  plainRows(tokens, width) {
    if (this.#forgotten) throw new Error("the orders were forgotten; create the cipher or client again");
    const prefix = tokens.length / width - this.geometry.cubes;
    const plain = Float64Array.from(tokens);
    const places = this.#encrypted.video.cubes;
    const numbers = new Map(Array.from(places, (place, cube) => [place, cube]));
    this.#plain.cubes.forEach((place, row) => {
      const cube = /** @type {number} */ (numbers.get(place));
      plain.set(tokens.subarray((prefix + row) * width, (prefix + row + 1) * width), (prefix + cube) * width);
    });
    return plain;
  }

  /** Overwrite the orders. After this, `encrypt` and `decrypt` throw. */
  forget() {
    for (const order of Object.values(this.#plain)) order.fill(0);
    this.#forgotten = true;
  }

  /** Whether the orders were overwritten. */
  get forgotten() {
    return this.#forgotten;
  }

  /**
   * Copy every value from its place to its new place.
   *
   * @param {Uint8Array | Uint8ClampedArray} clips
   * @param {Places} from
   * @param {Places} to
   */
  #move(clips, from, to) {
    if (this.#forgotten) throw new Error("the orders were forgotten; create the cipher or client again");
    if (from === undefined || to === undefined) throw new RangeError("expected the layout cubes or video");
    requireBytes(clips);
    const size = this.geometry.clipValues;
    if (clips.length === 0 || clips.length % size) {
      throw new RangeError(`expected a whole number of clips of ${size} values (${this.geometry}), received ${clips.length} values`);
    }
    const moved = new Uint8Array(clips.length);
    for (let first = 0; first < clips.length; first += size) {
      moveClip(clips.subarray(first, first + size), moved.subarray(first, first + size), from, to);
    }
    return moved;
  }
}

/**
 * Check the values of clips.
 *
 * @param {unknown} clips
 * @throws {import("./errors.js").ArgumentError} they are not bytes
 */
export function requireBytes(clips) {
  requireKind(clips, [Uint8Array, Uint8ClampedArray], "the values of clips as Uint8Array", "pass RGB values from 0 to 255, [views, T, H, W, C]");
}

/**
 * Copy the values of one clip.
 *
 * @param {Uint8Array | Uint8ClampedArray} source
 * @param {Uint8Array} target
 * @param {Places} from
 * @param {Places} to
 */
function moveClip(source, target, from, to) {
  const [taken, put] = [from.values, to.values];
  for (let cube = 0; cube < from.cubes.length; cube++) {
    const [start, end] = [from.cubes[cube], to.cubes[cube]];
    for (let value = 0; value < taken.length; value++) target[end + put[value]] = source[start + taken[value]];
  }
}
