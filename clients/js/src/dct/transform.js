/**
 * The orthonormal DCT of cubes over time, rows and columns, and over the colours if there are three.
 *
 * Each axis is folded: sums of opposite values give the even frequencies, and differences the odd ones. A pass
 * transforms the first axis and makes it the last one, so after a pass for each axis the order is that of the cube.
 *
 * Source: format of scheme `lcve-dct-1`, section 11.2.
 */

/** @typedef {import("../geometry.js").Geometry} Geometry */

const COLOURS = 3;

/**
 * One fold of an axis: its odd frequencies from the differences of `2·half` values.
 *
 * @typedef {object} Fold
 * @property {number} half number of differences, and of frequencies
 * @property {number} first frequency
 * @property {number} step between the frequencies
 * @property {Float64Array} table `[half, half]`: frequency, difference
 */

/** @typedef {{size: number, folds: Fold[], rest: Fold | undefined}} Axis `rest`: frequencies of what was not folded */

/** The transform of the cubes of a geometry, in memory of its own. */
export class CubeTransform {
  #axes;
  #cube;
  #turned;

  /** @param {Geometry} geometry */
  constructor({ cube, clipShape: [, , , channels], values }) {
    this.#axes = [...cube.map(dctAxis), channels === COLOURS ? dctAxis(channels) : { size: channels, folds: [], rest: undefined }];
    this.#cube = new Float64Array(values);
    this.#turned = new Float64Array(values);
  }

  /** Values or coefficients of one cube, to be filled and read by the caller; another one after each transform. */
  get cube() {
    return this.#cube;
  }

  /** Replace the values of the cube by its coefficients. */
  forward() {
    for (const axis of this.#axes) if (axis.size > 1) this.#pass(axis, forwardPass);
  }

  /** Replace the coefficients of the cube by its values. */
  inverse() {
    for (const axis of this.#axes.toReversed()) if (axis.size > 1) this.#pass(axis, inversePass);
  }

  /**
   * @param {Axis} axis
   * @param {(axis: Axis, source: Float64Array, target: Float64Array) => void} pass
   */
  #pass(axis, pass) {
    pass(axis, this.#cube, this.#turned);
    [this.#cube, this.#turned] = [this.#turned, this.#cube];
  }
}

/**
 * The orthonormal DCT-II.
 *
 * @param {number} size
 * @returns {(frequency: number, value: number) => number}
 */
function dct(size) {
  const scales = [Math.sqrt(1 / size), Math.sqrt(2 / size)];
  return (frequency, value) => scales[Math.min(frequency, 1)] * Math.cos((Math.PI * (2 * value + 1) * frequency) / (2 * size));
}

/**
 * @param {number} size
 * @returns {Axis}
 */
function dctAxis(size) {
  const [entry, folds] = [dct(size), /** @type {Fold[]} */ ([])];
  let [left, step] = [size, 1];
  for (; left % 2 === 0; left /= 2, step *= 2) {
    const half = left / 2;
    folds.push(foldOf(half, step, 2 * step, (frequency, place) => entry(frequency, half - 1 - place)));
  }
  return { size, folds, rest: foldOf(left, 0, step, entry) };
}

/**
 * @param {number} half
 * @param {number} first
 * @param {number} step
 * @param {(frequency: number, place: number) => number} entry
 * @returns {Fold}
 */
function foldOf(half, first, step, entry) {
  const table = Float64Array.from({ length: half * half }, (_, index) => entry(first + step * Math.floor(index / half), index % half));
  return { half, first, step, table };
}

/**
 * Transform `[n, m]` to `[m, n]`. The source is overwritten.
 *
 * @param {Axis} axis
 * @param {Float64Array} source
 * @param {Float64Array} target
 */
function forwardPass({ size, folds, rest }, source, target) {
  const lanes = source.length / size;
  for (const fold of folds) {
    for (let low = 0, high = (2 * fold.half - 1) * lanes; low < high; high -= 2 * lanes) {
      for (const end = low + lanes; low < end; low++, high++) {
        const sum = source[low] + source[high];
        source[high] = source[low] - source[high];
        source[low] = sum;
      }
    }
    toFrequencies(fold, source, fold.half * lanes, target, size);
  }
  if (rest) toFrequencies(rest, source, 0, target, size);
  else turn(source, target, size);
}

/**
 * Transform `[m, n]` to `[n, m]`; the inverse of `forwardPass`.
 *
 * @param {Axis} axis
 * @param {Float64Array} source
 * @param {Float64Array} target
 */
function inversePass({ size, folds, rest }, source, target) {
  const lanes = source.length / size;
  if (rest) fromFrequencies(rest, source, size, target, 0);
  else turn(source, target, lanes);
  for (let level = folds.length - 1; level >= 0; level--) {
    const fold = folds[level];
    fromFrequencies(fold, source, size, target, fold.half * lanes);
    for (let low = 0, high = (2 * fold.half - 1) * lanes; low < high; high -= 2 * lanes) {
      for (const end = low + lanes; low < end; low++, high++) {
        const sum = target[low] + target[high];
        target[high] = target[low] - target[high];
        target[low] = sum;
      }
    }
  }
}

/**
 * @param {Fold} fold
 * @param {Float64Array} source differences, `[half, lanes]`
 * @param {number} start of them
 * @param {Float64Array} target frequencies, `[lanes, size]`
 * @param {number} size
 */
function toFrequencies({ half, first, step, table }, source, start, target, size) {
  const lanes = source.length / size;
  for (let row = 0; row < half; row++) {
    const weights = { table, first: row * half, end: (row + 1) * half, step: 1 };
    sumLanes(lanes, weights, { values: source, first: start, lane: 1, step: lanes }, { values: target, first: first + row * step, lane: size });
  }
}

/**
 * @param {Fold} fold
 * @param {Float64Array} source frequencies, `[lanes, size]`
 * @param {number} size
 * @param {Float64Array} target differences, `[half, lanes]`
 * @param {number} start of them
 */
function fromFrequencies({ half, first, step, table }, source, size, target, start) {
  const lanes = source.length / size;
  for (let place = 0; place < half; place++) {
    const weights = { table, first: place, end: half * half, step: half };
    sumLanes(lanes, weights, { values: source, first, lane: size, step }, { values: target, first: start + place * lanes, lane: 1 });
  }
}

/**
 * Write the weighted sum of every lane, four lanes at a time.
 *
 * @param {number} lanes
 * @param {{table: Float64Array, first: number, end: number, step: number}} weights
 * @param {{values: Float64Array, first: number, lane: number, step: number}} from distance of lanes, and of terms
 * @param {{values: Float64Array, first: number, lane: number}} to
 */
function sumLanes(lanes, { table, first, end, step }, from, to) {
  const [source, target, apart, spread] = [from.values, to.values, from.lane, to.lane];
  let lane = 0;
  for (; lane + 3 < lanes; lane += 4) {
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let entry = first, place = from.first + lane * apart; entry < end; entry += step, place += from.step) {
      const weight = table[entry];
      a += weight * source[place];
      b += weight * source[place + apart];
      c += weight * source[place + 2 * apart];
      d += weight * source[place + 3 * apart];
    }
    const place = to.first + lane * spread;
    target[place] = a;
    target[place + spread] = b;
    target[place + 2 * spread] = c;
    target[place + 3 * spread] = d;
  }
  for (; lane < lanes; lane++) {
    let sum = 0;
    for (let entry = first, place = from.first + lane * apart; entry < end; entry += step, place += from.step) sum += table[entry] * source[place];
    target[to.first + lane * spread] = sum;
  }
}

/**
 * Turn `[rows, columns]` to `[columns, rows]`.
 *
 * @param {Float64Array} source
 * @param {Float64Array} target
 * @param {number} rows
 */
function turn(source, target, rows) {
  const columns = source.length / rows;
  for (let row = 0, from = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) target[column * rows + row] = source[from++];
  }
}
