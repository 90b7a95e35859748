/**
 * Resize one plane of a picture. All filters but `nearest` widen when a picture becomes smaller.
 *
 * Source: format of scheme `lcve-1`, section 5.4. As in FFmpeg, the outermost pixels are repeated at the edges.
 */

/** @typedef {Uint8Array | Uint16Array} Values */
/** @typedef {{first: Int32Array, weights: Float32Array, taps: number}} Taps for each new pixel, the old pixels to add */

/** @type {Record<string, {radius: number, weigh: (distance: number) => number}>} */
const FILTERS = {
  bilinear: { radius: 1, weigh: (distance) => Math.max(0, 1 - distance) },
  bicubic: { radius: 2, weigh: bicubic },
  lanczos: { radius: 3, weigh: lanczos },
};
const BICUBIC_A = -0.6;

/** Resizes planes of one size to another; made once for a video. */
export class Scaler {
  /**
   * @param {string} resample `nearest`, `bilinear`, `bicubic` or `lanczos`
   * @param {[number, number]} from height, width
   * @param {[number, number]} to height, width
   */
  constructor(resample, from, to) {
    this.to = to;
    this.from = from;
    this.rows = makeTaps(resample, from[0], to[0]);
    this.columns = makeTaps(resample, from[1], to[1]);
    this.between = new Float32Array(from[0] * to[1]);
  }

  /**
   * @param {Values} values of a picture
   * @param {{offset: number, stride: number, step?: number}} plane first value, values of a row, and of a pixel
   * @returns {Float32Array} `[height, width]`
   */
  resize(values, { offset, stride, step = 1 }) {
    const [height, width] = this.to;
    const { between, columns, rows } = this;
    for (let row = 0; row < this.from[0]; row++) {
      const start = offset + row * stride;
      for (let column = 0; column < width; column++) {
        let sum = 0;
        const first = column * columns.taps;
        for (let tap = first; tap < first + columns.taps; tap++) sum += columns.weights[tap] * values[start + step * columns.first[tap]];
        between[row * width + column] = sum;
      }
    }
    const plane = new Float32Array(height * width);
    for (let row = 0; row < height; row++) {
      const target = plane.subarray(row * width, (row + 1) * width);
      for (let tap = row * rows.taps; tap < (row + 1) * rows.taps; tap++) {
        const weight = rows.weights[tap];
        if (weight === 0) continue;
        const start = rows.first[tap] * width;
        for (let column = 0; column < width; column++) target[column] += weight * between[start + column];
      }
    }
    return plane;
  }
}

/**
 * Old pixels and weights of each new pixel. Pixels beyond the edge are those at the edge.
 *
 * @param {string} resample
 * @param {number} from
 * @param {number} to
 * @returns {Taps} both `[to, taps]`
 */
function makeTaps(resample, from, to) {
  const scale = from / to;
  if (from === to || resample === "nearest") {
    const first = Int32Array.from({ length: to }, (_, x) => Math.min(from - 1, Math.floor((x + 0.5) * scale)));
    return { first, weights: new Float32Array(to).fill(1), taps: 1 };
  }
  const { radius, weigh } = FILTERS[resample];
  const wide = Math.max(scale, 1);
  const taps = Math.ceil(2 * radius * wide) + 1;
  const first = new Int32Array(to * taps);
  const weights = new Float32Array(to * taps);
  for (let x = 0; x < to; x++) {
    const centre = (x + 0.5) * scale - 0.5;
    const start = Math.ceil(centre - radius * wide);
    let sum = 0;
    for (let tap = 0; tap < taps; tap++) {
      const weight = weigh(Math.abs(start + tap - centre) / wide);
      first[x * taps + tap] = Math.min(Math.max(start + tap, 0), from - 1);
      weights[x * taps + tap] = weight;
      sum += weight;
    }
    for (let tap = 0; tap < taps; tap++) weights[x * taps + tap] /= sum;
  }
  return { first, weights, taps };
}

/** @param {number} x distance */
function bicubic(x) {
  if (x < 1) return ((BICUBIC_A + 2) * x - (BICUBIC_A + 3)) * x * x + 1;
  return x < 2 ? BICUBIC_A * (((x - 5) * x + 8) * x - 4) : 0;
}

/** @param {number} x distance */
function lanczos(x) {
  if (x === 0) return 1;
  return x < 3 ? (3 * Math.sin(Math.PI * x) * Math.sin((Math.PI * x) / 3)) / (Math.PI * x) ** 2 : 0;
}
