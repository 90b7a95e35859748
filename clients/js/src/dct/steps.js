/**
 * Quantisation steps: the smaller, the better and the larger a clip is.
 *
 * Source: format of scheme `lcve-dct-1`, section 11.2.
 */

import { shown } from "../binding.js";

/** @typedef {import("../geometry.js").Geometry} Geometry */

/** Steps by the names of `lcve encrypt --quality`. */
export const QUALITIES = Object.freeze({ fine: 6, normal: 16, small: 40 });
export const DEFAULT_STEP = QUALITIES.normal;
export const MAX_STEP = 256;
/** Maximum absolute value of a coefficient. */
export const MAX_INTEGER = 2048;

/**
 * The smallest step: with it, no coefficient of a uint8 clip exceeds 2048.
 *
 * @param {Geometry} geometry
 */
export const minStep = ({ values }) => Math.max(1, Math.sqrt(values) / 16);

/**
 * Check a step, which a clip states as float32.
 *
 * @param {unknown} step
 * @param {Geometry} geometry
 * @returns {number} the step as float32
 * @throws {RangeError} it is out of range, or not a number
 */
export function requireStep(step, geometry) {
  const rounded = typeof step === "number" ? Math.fround(step) : NaN;
  if (rounded >= minStep(geometry) && rounded <= MAX_STEP) return rounded;
  throw new RangeError(`expected a step from ${Number(minStep(geometry).toPrecision(4))} to ${MAX_STEP} for ${geometry}, received ${shown(step)}`);
}
