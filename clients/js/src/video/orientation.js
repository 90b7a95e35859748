/**
 * Turn frames upright, and cut out the crop.
 *
 * Source: format of scheme `lcve-1`, section 5.2.
 */

/** @typedef {{transposed: boolean, leftRight: boolean, topBottom: boolean}} Orientation transpose, then mirror */

/** @type {Orientation} */
export const AS_STORED = Object.freeze({ transposed: false, leftRight: false, topBottom: false });

/**
 * Orientation of a display matrix, rounded to a multiple of 90 degrees.
 *
 * @param {readonly number[]} matrix nine numbers, row by row
 * @returns {Orientation}
 */
export function fromMatrix([a, b, , c, d]) {
  if (Math.abs(a) + Math.abs(d) >= Math.abs(b) + Math.abs(c)) return { transposed: false, leftRight: a < 0, topBottom: d < 0 };
  return { transposed: true, leftRight: c < 0, topBottom: b < 0 };
}

/**
 * Cut a crop out of the upright picture.
 *
 * @param {Uint8ClampedArray} stored `[height, width, 3]`
 * @param {[number, number]} size height and width of the stored picture
 * @param {Orientation} orientation
 * @param {{top: number, left: number, height: number, width: number}} crop of the upright picture
 * @returns {Uint8Array<ArrayBuffer>} `[height, width, 3]`
 */
export function cropUpright(stored, [rows, columns], { transposed, leftRight, topBottom }, { top, left, height, width }) {
  const [shownRows, shownColumns] = transposed ? [columns, rows] : [rows, columns];
  const cut = new Uint8Array(height * width * 3);
  for (let row = 0, target = 0; row < height; row++) {
    const y = topBottom ? shownRows - 1 - (top + row) : top + row;
    for (let column = 0; column < width; column++, target += 3) {
      const x = leftRight ? shownColumns - 1 - (left + column) : left + column;
      const source = 3 * (transposed ? x * columns + y : y * columns + x);
      cut[target] = stored[source];
      cut[target + 1] = stored[source + 1];
      cut[target + 2] = stored[source + 2];
    }
  }
  return cut;
}
