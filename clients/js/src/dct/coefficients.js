/**
 * Clips to quantised coefficients and back, under orders and signs.
 *
 * Encrypted cube i, coefficient j = sign[K2[j]] times plain cube K1[i], coefficient K2[j].
 *
 * Source: format of scheme `lcve-dct-1`, section 11.2.
 */

import { MAX_INTEGER } from "./steps.js";
import { CubeTransform } from "./transform.js";

/** @typedef {import("../geometry.js").Geometry} Geometry */
/** @typedef {{cubes: Uint32Array, coefficients: Uint32Array, signs: Int8Array}} Orders K1, K2, and signs by coefficient */

const MIDDLE = 128;
const ROUNDING = 0.4; // below 0.5, so that more coefficients are zero

/** Quantises the clips of a geometry; it has no key. */
export class Quantiser {
  #transform;
  #cubeOffsets;
  #valueOffsets;

  /** @param {Geometry} geometry */
  constructor(geometry) {
    this.#transform = new CubeTransform(geometry);
    this.#cubeOffsets = geometry.cubeOffsets();
    this.#valueOffsets = geometry.valueOffsets();
  }

  /**
   * @param {Uint8Array | Uint8ClampedArray} clip `[T, H, W, C]`
   * @param {number} step
   * @param {Orders} orders
   * @param {Int16Array} target `[N, L]`, zeros
   */
  quantise(clip, step, { cubes, coefficients, signs }, target) {
    const [transform, places] = [this.#transform, this.#valueOffsets];
    const size = places.length;
    for (let row = 0, first = 0; row < cubes.length; row++, first += size) {
      const start = this.#cubeOffsets[cubes[row]];
      const values = transform.cube;
      for (let value = 0; value < size; value++) values[value] = clip[start + places[value]] - MIDDLE;
      transform.forward();
      const frequencies = transform.cube;
      for (let column = 0; column < size; column++) {
        const coefficient = coefficients[column];
        const exact = frequencies[coefficient];
        const level = Math.abs(exact) / step + ROUNDING;
        if (level < 1) continue;
        const integer = Math.min(Math.floor(level), MAX_INTEGER);
        target[first + column] = exact < 0 ? -signs[coefficient] * integer : signs[coefficient] * integer;
      }
    }
  }

  /**
   * @param {Int16Array} encrypted `[N, L]`
   * @param {number} step
   * @param {Orders} orders
   * @param {Float32Array} target `[T, H, W, C]`: the values are neither rounded nor limited
   */
  dequantise(encrypted, step, { cubes, coefficients, signs }, target) {
    const [transform, places] = [this.#transform, this.#valueOffsets];
    const size = places.length;
    for (let row = 0, first = 0; row < cubes.length; row++, first += size) {
      const start = this.#cubeOffsets[cubes[row]];
      const frequencies = transform.cube;
      for (let column = 0; column < size; column++) {
        const coefficient = coefficients[column];
        frequencies[coefficient] = signs[coefficient] * encrypted[first + column] * step;
      }
      transform.inverse();
      const values = transform.cube;
      for (let value = 0; value < size; value++) target[start + places[value]] = values[value] + MIDDLE;
    }
  }
}

/**
 * Orders that change nothing, for coefficients without a key.
 *
 * @param {Geometry} geometry
 * @returns {Orders}
 */
export function plainOrders({ cubes, values }) {
  return {
    cubes: Uint32Array.from({ length: cubes }, (_, index) => index),
    coefficients: Uint32Array.from({ length: values }, (_, index) => index),
    signs: new Int8Array(values).fill(1),
  };
}
