/**
 * Clip geometry: where the values of cubes are in the bytes of a clip.
 *
 * Source: format of scheme `lcve-1`, sections 2.5 and 3.1.
 */

/** Maximum frames, rows, columns and channels. */
export const MAX_SIDE = 2 ** 14;
/** Maximum number of cubes, N. */
export const MAX_CUBES = 2 ** 17;
/** Maximum number of values in a cube, L. */
export const MAX_CUBE_VALUES = 2 ** 16;
/** Maximum number of values in a clip, N·L. */
export const MAX_CLIP_VALUES = 2 ** 28;

const SIZE = "([1-9][0-9]{0,8})";
const PATTERN = new RegExp(`^${Array(4).fill(SIZE).join("x")}/${Array(3).fill(SIZE).join("x")}$`);

/** Size of a clip and of its cubes. */
export class Geometry {
  /**
   * Use `Geometry.parse`.
   *
   * @param {readonly number[]} clipShape T, H, W, C
   * @param {readonly number[]} cube t, h, w
   */
  constructor(clipShape, cube) {
    /** T, H, W, C. */
    this.clipShape = Object.freeze([...clipShape]);
    /** t, h, w. */
    this.cube = Object.freeze([...cube]);
    const [frames, height, width, channels] = clipShape;
    const [t, h, w] = cube;
    /** Number of cubes, N. */
    this.cubes = (frames / t) * (height / h) * (width / w);
    /** Number of values in a cube, L. */
    this.values = t * h * w * channels;
    Object.freeze(this);
  }

  /**
   * Parse `TxHxWxC/txhxw`, for example `16x224x224x3/2x16x16`.
   *
   * @param {string} text
   * @returns {Geometry}
   * @throws {RangeError} the text has another form, the clip is not a whole number of cubes, or a size exceeds a limit
   */
  static parse(text) {
    const match = PATTERN.exec(text);
    if (match === null) {
      throw new RangeError(`expected a geometry such as 16x224x224x3/2x16x16, received ${(JSON.stringify(text) ?? String(text)).slice(0, 100)}`);
    }
    const sizes = match.slice(1).map(Number);
    const [shape, cube] = [sizes.slice(0, 4), sizes.slice(4)];
    const uneven = ["frames", "height", "width"].flatMap((name, axis) =>
      shape[axis] % cube[axis] ? [`${name} ${shape[axis]} is not a multiple of the cube's ${cube[axis]}`] : [],
    );
    if (uneven.length) throw new RangeError(`a clip must be a whole number of cubes: ${uneven.join("; ")}`);
    if (Math.max(...shape) > MAX_SIDE) throw new RangeError(`expected sides of at most ${MAX_SIDE}, received ${text}`);
    const geometry = new Geometry(shape, cube);
    const { cubes, values } = geometry;
    if (cubes > MAX_CUBES || values > MAX_CUBE_VALUES || cubes * values > MAX_CLIP_VALUES) {
      throw new RangeError(
        `expected at most ${MAX_CUBES} cubes, ${MAX_CUBE_VALUES} values per cube and ${MAX_CLIP_VALUES} values ` +
          `per clip, received ${cubes}, ${values} and ${cubes * values} of ${text}`,
      );
    }
    return geometry;
  }

  /** Number of values, and so of bytes, of a clip. */
  get clipValues() {
    return this.cubes * this.values;
  }

  /**
   * Where the first value of each cube is in a clip, `[N]`.
   *
   * @returns {Uint32Array}
   */
  cubeOffsets() {
    const [frames, height, width, channels] = this.clipShape;
    const [t, h, w] = this.cube;
    const offsets = new Uint32Array(this.cubes);
    let cube = 0;
    for (let x = 0; x < frames; x += t) {
      for (let y = 0; y < height; y += h) {
        for (let z = 0; z < width; z += w) offsets[cube++] = ((x * height + y) * width + z) * channels;
      }
    }
    return offsets;
  }

  /**
   * Where each value of a cube is in a clip, counted from the first value of the cube, `[L]`.
   *
   * @returns {Uint32Array}
   */
  valueOffsets() {
    const [, height, width, channels] = this.clipShape;
    const [t, h, w] = this.cube;
    const offsets = new Uint32Array(this.values);
    let value = 0;
    for (let a = 0; a < t; a++) {
      for (let b = 0; b < h; b++) {
        const row = (a * height + b) * width * channels;
        for (let c = 0; c < w * channels; c++) offsets[value++] = row + c;
      }
    }
    return offsets;
  }

  /** @returns {string} */
  toString() {
    return `${this.clipShape.join("x")}/${this.cube.join("x")}`;
  }

  /** @returns {string} */
  toJSON() {
    return this.toString();
  }
}
