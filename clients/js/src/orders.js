/**
 * The secret orders K1, K2 and K3. An order is as good as the key for its artifact: it stays in this process.
 *
 * Source: format of scheme `lcve-1`, sections 2.6 and 2.7.
 */

/** @typedef {import("./key.js").SecurityKey} SecurityKey */

const BLOCK_BYTES = 16;
const DRAW_BYTES = 4;
const CHUNK_DRAWS = 4096;
const RANGE = 2 ** 32;

/**
 * Derive one order, a permutation of 0..size-1.
 *
 * @param {SecurityKey} key
 * @param {string} info label of the order
 * @param {number} size
 * @param {Uint8Array<ArrayBuffer>} salt of the artifact, 16 bytes
 * @returns {Promise<Uint32Array>}
 */
export async function deriveOrder(key, info, size, salt) {
  const stream = new Draws(await key.orderKey(info, salt));
  const order = Uint32Array.from({ length: size }, (_, index) => index);
  let last = size - 1;
  while (last > 0) {
    const draws = await stream.next(last);
    last = shuffle(order, last, draws);
    draws.fill(0);
  }
  return order;
}

/**
 * Derive bytes of a keystream.
 *
 * @param {SecurityKey} key
 * @param {string} info label
 * @param {number} size bytes
 * @param {Uint8Array<ArrayBuffer>} salt of the artifact
 * @returns {Promise<Uint8Array>}
 */
export async function deriveStream(key, info, size, salt) {
  const counter = new Uint8Array(BLOCK_BYTES);
  const stream = await crypto.subtle.encrypt({ name: "AES-CTR", counter, length: 64 }, await key.orderKey(info, salt), new Uint8Array(size));
  return new Uint8Array(stream);
}

/**
 * Continue Fisher and Yates' shuffle with these draws. Draws that would favour small numbers are discarded.
 *
 * @param {Uint32Array} order
 * @param {number} last place to fill next
 * @param {Uint32Array} draws
 * @returns {number} place to fill when the draws are used up, or 0
 */
function shuffle(order, last, draws) {
  for (let next = 0; next < draws.length && last > 0; next++) {
    const draw = draws[next];
    const bound = last + 1;
    if (draw >= RANGE - (RANGE % bound)) continue;
    const swap = draw % bound;
    const kept = order[last];
    order[last] = order[swap];
    order[swap] = kept;
    last--;
  }
  return last;
}

/** The AES-256-CTR keystream as little-endian 32-bit draws. */
class Draws {
  /** @param {CryptoKey} key */
  constructor(key) {
    this.key = key;
    this.block = 0;
  }

  /**
   * The next draws.
   *
   * @param {number} wanted about how many
   * @returns {Promise<Uint32Array>} at least one, in whole blocks
   */
  async next(wanted) {
    const blocks = Math.ceil(Math.min(wanted, CHUNK_DRAWS) / (BLOCK_BYTES / DRAW_BYTES));
    const counter = new Uint8Array(BLOCK_BYTES);
    new DataView(counter.buffer).setUint32(BLOCK_BYTES - 4, this.block);
    const zeros = new Uint8Array(blocks * BLOCK_BYTES);
    const stream = await crypto.subtle.encrypt({ name: "AES-CTR", counter, length: 64 }, this.key, zeros);
    this.block += blocks;
    const view = new DataView(stream);
    return Uint32Array.from({ length: stream.byteLength / DRAW_BYTES }, (_, i) => view.getUint32(i * DRAW_BYTES, true));
  }
}
