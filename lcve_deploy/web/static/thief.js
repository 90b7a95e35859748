/**
 * The simplest attack of the audit, `known`: one clip and its ciphertext give the orders.
 *
 * A shuffle keeps the values of every cube, so cubes with the same values match. Positions in a cube are then matched by
 * their values over all cubes, and the cubes again by their content. The key is not used.
 */

import { plainOrders, Quantiser } from "./client/dct/coefficients.js";
import { clipFrame, encryptedFrame } from "./pictures.js";

/** @typedef {import("./client/geometry.js").Geometry} Geometry */
/** @typedef {import("./client/clip.js").EncryptedClip} EncryptedClip */
/** @typedef {import("./service.js").Pair} Pair */
/** @typedef {{cubes: Int32Array, values: Int32Array}} Orders */

const ROUNDS = 2;
const LEVELS = 256;
const NEAR = 0.5; // grey levels; values that are not compressed are whole numbers

/**
 * Run the attack on two clips of the page, and draw what it finds.
 *
 * @param {import("./service.js").Service} service
 * @param {import("./pictures.js").Pictures} pictures
 */
export function openThief(service, pictures) {
  const two = service.twoClips();
  if (!two) return { share: 0, seconds: 0, text: "This needs two different clips: classify another video, or start the camera." };
  const { geometry } = service;
  const started = performance.now();
  const opened = (two.last.clip.binding.packed ? openCoefficients : openValues)(two.first, two.last.clip, geometry);
  const seconds = (performance.now() - started) / 1000;
  const frame = geometry.clipShape[0] - 1;
  pictures.draw("known", clipFrame(two.first.plain, geometry, frame), geometry);
  pictures.draw("stolen", encryptedFrame(two.last.clip, frame), geometry);
  pictures.draw("opened", clipFrame(opened, geometry, frame), geometry);
  const truth = two.last.decrypted();
  let right = 0;
  truth.forEach((value, index) => (right += Number(Math.abs(value - opened[index]) < NEAR)));
  return { share: right / truth.length, seconds };
}

/**
 * @param {Pair} known
 * @param {EncryptedClip} target
 * @param {Geometry} geometry
 * @returns {Uint8Array} `[T, H, W, C]`
 */
function openValues({ plain, clip }, target, geometry) {
  const [known, other] = [clip, target].map(({ values, binding }) => rowsOf(values, binding.layout, geometry));
  const { cubes, values } = matchKnown(rowsOf(plain, "video", geometry), known, geometry);
  const [starts, places, opened] = [geometry.cubeOffsets(), geometry.valueOffsets(), new Uint8Array(other.length)];
  cubes.forEach((cube, row) => {
    values.forEach((value, column) => (opened[starts[cube] + places[value]] = other[row * values.length + column]));
  });
  return opened;
}

/**
 * The same for coefficients: signs do not change how large they are, and are read off when the orders are known.
 *
 * @param {Pair} known
 * @param {EncryptedClip} target
 * @param {Geometry} geometry
 * @returns {Float32Array} `[T, H, W, C]`
 */
function openCoefficients({ plain, clip }, target, geometry) {
  const [quantiser, known, other] = [new Quantiser(geometry), clip.coefficients, target.coefficients];
  const own = new Int16Array(plain.length);
  quantiser.quantise(plain, known.steps[0], plainOrders(geometry), own);
  const { cubes, values } = matchKnown(sizes(own), sizes(known.values), geometry);
  const length = geometry.values;
  const signs = new Int8Array(length);
  values.forEach((value, column) => {
    const products = cubes.map((cube, row) => own[cube * length + value] * known.values[row * length + column]);
    signs[value] = products.reduce((sum, product) => sum + product, 0) < 0 ? -1 : 1;
  });
  const opened = new Float32Array(plain.length);
  quantiser.dequantise(other.values, other.steps[0], { cubes: Uint32Array.from(cubes), coefficients: Uint32Array.from(values), signs }, opened);
  return opened;
}

/**
 * How large coefficients are, up to 255.
 *
 * @param {Int16Array} coefficients
 * @returns {Uint8ClampedArray}
 */
function sizes(coefficients) {
  return Uint8ClampedArray.from(coefficients, Math.abs);
}

/**
 * Orders of the key, from one known clip.
 *
 * @param {Uint8Array | Uint8ClampedArray} plain `[N, L]`
 * @param {Uint8Array | Uint8ClampedArray} cipher its encryption
 * @param {Geometry} geometry
 * @returns {Orders} encrypted cube i, value j is plain cube `cubes[i]`, value `values[j]`
 */
export function matchKnown(plain, cipher, geometry) {
  const { cubes: count, values: length } = geometry;
  let groups = [plain, cipher].map((clip) => names(count, (cube) => histogram(clip.subarray(cube * length, (cube + 1) * length))));
  /** @type {Orders} */
  let orders = { cubes: new Int32Array(), values: new Int32Array() };
  for (let round = 0; round < ROUNDS; round++) {
    const numbers = numbered(groups);
    const series = [plain, cipher].map((clip, side) => names(length, (value) => seriesOf(clip, numbers[side], value, geometry)));
    const values = paired(series[0], series[1]);
    groups = [
      names(count, (cube) => values.map((value) => plain[cube * length + value])),
      names(count, (cube) => cipher.subarray(cube * length, (cube + 1) * length)),
    ];
    orders = { cubes: paired(groups[0], groups[1]), values };
  }
  return orders;
}

/**
 * A clip in cubes.
 *
 * @param {Uint8Array} values
 * @param {string} layout
 * @param {Geometry} geometry
 * @returns {Uint8Array} `[N, L]`
 */
function rowsOf(values, layout, geometry) {
  if (layout === "cubes") return values;
  const rows = new Uint8Array(values.length);
  const places = geometry.valueOffsets();
  geometry.cubeOffsets().forEach((start, cube) => {
    for (let value = 0; value < places.length; value++) rows[cube * places.length + value] = values[start + places[value]];
  });
  return rows;
}

/** @param {Uint8Array | Uint8ClampedArray} values */
function histogram(values) {
  const counts = new Uint32Array(LEVELS);
  for (const value of values) counts[value]++;
  return counts;
}

/**
 * The values at a position of the cubes, sorted within each group of cubes.
 *
 * @param {Uint8Array | Uint8ClampedArray} clip
 * @param {Uint32Array} groups
 * @param {number} value
 * @param {Geometry} geometry
 */
function seriesOf(clip, groups, value, { values: length }) {
  return groups.map((group, cube) => group * LEVELS + clip[cube * length + value]).sort();
}

/**
 * @param {number} count
 * @param {(index: number) => ArrayLike<number>} content
 * @returns {string[]} equal for equal content, and different for different content but for a chance of 2^-64
 */
function names(count, content) {
  return Array.from({ length: count }, (_, index) => {
    const numbers = content(index);
    let [one, other] = [0x811c9dc5, 0x9e3779b9];
    for (let place = 0; place < numbers.length; place++) {
      one = Math.imul(one ^ numbers[place], 0x01000193);
      other = Math.imul(other ^ (numbers[place] + place), 0x85ebca6b);
      other ^= other >>> 13;
    }
    return `${one} ${other}`;
  });
}

/**
 * @param {string[][]} sides
 * @returns {Uint32Array[]} a number for each name, the same on both sides
 */
function numbered(sides) {
  /** @type {Map<string, number>} */
  const numbers = new Map();
  for (const name of sides.flat()) if (!numbers.has(name)) numbers.set(name, numbers.size);
  return sides.map((side) => Uint32Array.from(side, (name) => /** @type {number} */ (numbers.get(name))));
}

/**
 * Pair equal names in their order, and what is left over as it comes.
 *
 * @param {string[]} plain
 * @param {string[]} cipher
 * @returns {Int32Array} for each place of `cipher`, one of `plain`
 */
function paired(plain, cipher) {
  /** @type {Map<string, number[]>} */
  const places = new Map();
  for (let index = plain.length - 1; index >= 0; index--) {
    const same = places.get(plain[index]);
    if (same) same.push(index);
    else places.set(plain[index], [index]);
  }
  const found = Int32Array.from(cipher, (name) => places.get(name)?.pop() ?? -1);
  const left = [...places.values()].flat();
  return found.map((place) => (place < 0 ? /** @type {number} */ (left.pop()) : place));
}
