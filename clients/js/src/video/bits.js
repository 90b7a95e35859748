/** Read the headers of compressed video bit by bit. */

/** Bits of some bytes, most significant first. Beyond the end they are 0. */
export class Bits {
  #at = 0;

  /** @param {Uint8Array} data */
  constructor(data) {
    this.data = data;
  }

  /**
   * @param {number} count at most 32
   * @returns {number} an unsigned integer
   */
  read(count) {
    let value = 0;
    for (let bit = 0; bit < count; bit++, this.#at++) value = value * 2 + (((this.data[this.#at >> 3] ?? 0) >> (7 - (this.#at & 7))) & 1);
    return value;
  }

  /** @returns {boolean} */
  flag() {
    return this.read(1) === 1;
  }

  /** An unsigned integer in Exp-Golomb code, of at most 32 leading zeros. */
  golomb() {
    let zeros = 0;
    while (zeros < 32 && this.#at < 8 * this.data.length && !this.flag()) zeros++;
    return 2 ** zeros - 1 + this.read(zeros);
  }

  /** A signed integer in Exp-Golomb code. */
  signedGolomb() {
    const code = this.golomb();
    return code % 2 ? (code + 1) / 2 : -code / 2;
  }
}
