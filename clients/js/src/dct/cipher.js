/**
 * LCVE on the coefficients of cubes: encrypt and decrypt clips of the scheme `lcve-dct-1`. It is compression, and hides
 * no more than `lcve-1`.
 *
 * Source: format of scheme `lcve-dct-1`, sections 11.1 and 11.2.
 */

import { Binding, DCT_SCHEME, SALT_BYTES } from "../binding.js";
import { toHex } from "../bytes.js";
import { requireBytes } from "../cipher.js";
import { deriveOrder, deriveStream } from "../orders.js";
import { plainRows } from "../output.js";
import { Quantiser } from "./coefficients.js";
import { DEFAULT_STEP, requireStep } from "./steps.js";

/** @typedef {import("../geometry.js").Geometry} Geometry */
/** @typedef {import("../key.js").SecurityKey} SecurityKey */
/** @typedef {import("./coefficients.js").Orders} Orders */
/** @typedef {{values: Int16Array<ArrayBuffer>, steps: Float32Array<ArrayBuffer>}} Coefficients of clips, `[clips, N, L]` */

/** Maximum t·h, and maximum w·C. */
const MAX_FACTOR = 1024;

/** Encrypts clips of one key, salt and geometry. Its orders and signs are private and cannot be serialised. */
export class CoefficientCipher {
  /** @type {Orders} */
  #orders;
  #quantiser;
  #keyId;
  #salt;
  #forgotten = false;

  /**
   * Use `CoefficientCipher.create`.
   *
   * @param {{keyId: string, salt: string, geometry: Geometry, orders: Orders}} made
   */
  constructor({ keyId, salt, geometry, orders }) {
    this.#keyId = keyId;
    this.#salt = salt;
    this.#orders = orders;
    this.#quantiser = new Quantiser(geometry);
    this.geometry = geometry;
    Object.freeze(this);
  }

  /**
   * Derive K1, K2 and the signs.
   *
   * @param {SecurityKey} key
   * @param {{salt: Uint8Array<ArrayBuffer>, geometry: Geometry}} artifact
   * @returns {Promise<CoefficientCipher>}
   * @throws {RangeError} the salt has another length, or t·h or w·C exceeds 1024
   */
  static async create(key, { salt, geometry }) {
    if (salt.length !== SALT_BYTES) throw new RangeError(`a salt has ${SALT_BYTES} bytes, received ${salt.length}`);
    const [t, h, w] = geometry.cube;
    if (Math.max(t * h, w * geometry.clipShape[3]) > MAX_FACTOR) {
      throw new RangeError(`the scheme ${DCT_SCHEME} needs cubes with t·h and w·C of at most ${MAX_FACTOR}, received ${geometry}`);
    }
    const label = (/** @type {string} */ name) => `${DCT_SCHEME}/${name}/${geometry}`;
    const bits = await deriveStream(key, label("coefficient-sign"), Math.ceil(geometry.values / 8), salt);
    const orders = {
      cubes: await deriveOrder(key, label("cube-order"), geometry.cubes, salt),
      coefficients: await deriveOrder(key, label("coefficient-order"), geometry.values, salt),
      signs: Int8Array.from({ length: geometry.values }, (_, i) => 1 - 2 * ((bits[i >> 3] >> (i & 7)) & 1)),
    };
    bits.fill(0);
    return new CoefficientCipher({ keyId: key.keyId, salt: toHex(salt), geometry, orders });
  }

  /** Public label of the clips that this cipher encrypts. */
  binding() {
    return new Binding({ scheme: DCT_SCHEME, keyId: this.#keyId, salt: this.#salt, geometry: this.geometry, layout: "cubes" });
  }

  /**
   * Transform, quantise and encrypt clips.
   *
   * @param {Uint8Array | Uint8ClampedArray} clips `[clips, T, H, W, C]`, at least one
   * @param {number} [step] quantisation step
   * @returns {Coefficients}
   * @throws {import("../errors.js").ArgumentError} not bytes
   * @throws {RangeError} not a whole number of clips, or the step is out of range
   */
  encrypt(clips, step = DEFAULT_STEP) {
    this.#require();
    requireBytes(clips);
    const [exact, size] = [requireStep(step, this.geometry), this.geometry.clipValues];
    if (clips.length === 0 || clips.length % size) {
      throw new RangeError(`expected a whole number of clips of ${size} values (${this.geometry}), received ${clips.length} values`);
    }
    const values = new Int16Array(clips.length);
    const steps = new Float32Array(clips.length / size).fill(exact);
    for (let first = 0; first < clips.length; first += size) {
      this.#quantiser.quantise(clips.subarray(first, first + size), exact, this.#orders, values.subarray(first, first + size));
    }
    return { values, steps };
  }

  /**
   * Decrypt clips to what the model sees; the loss of quantisation stays.
   *
   * @param {{values: Int16Array, steps: Float32Array}} encrypted
   * @returns {Float32Array<ArrayBuffer>} `[clips, T, H, W, C]`, neither rounded nor limited to 0 to 255
   */
  decrypt({ values, steps }) {
    this.#require();
    const size = this.geometry.clipValues;
    const clips = new Float32Array(values.length);
    steps.forEach((step, clip) => {
      const [first, end] = [clip * size, (clip + 1) * size];
      this.#quantiser.dequantise(values.subarray(first, end), step, this.#orders, clips.subarray(first, end));
    });
    return clips;
  }

  /**
   * Put the rows of tokens into the order of the clip. Rows of prefix tokens come first and stay.
   *
   * @param {Float64Array} tokens `[tokens, width]`, in the order K1
   * @param {number} width
   * @returns {Float64Array}
   */
  plainRows(tokens, width) {
    this.#require();
    return plainRows(tokens, width, this.#orders.cubes);
  }

  /** Overwrite the orders and signs. After this, `encrypt` and `decrypt` throw. */
  forget() {
    for (const order of Object.values(this.#orders)) order.fill(0);
    this.#forgotten = true;
  }

  /** Whether the orders were overwritten. */
  get forgotten() {
    return this.#forgotten;
  }

  #require() {
    if (this.#forgotten) throw new Error("the orders were forgotten; create the cipher or client again");
  }
}
