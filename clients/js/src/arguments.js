/** Check the types of what callers pass, so that a wrong one is a clear error before anything is computed or sent. */

import { ArgumentError } from "./errors.js";

/**
 * What a value is, without its content, which may be secret; numbers are shown.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function kindOf(value) {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "object") return `an object (${value.constructor?.name ?? "without a class"})`;
  return typeof value === "number" ? `the number ${value}` : `a ${typeof value}`;
}

/**
 * @param {unknown} value
 * @param {readonly (abstract new (...given: any) => unknown)[]} kinds
 * @param {string} expected what it is called, and of which type it should be
 * @param {string} hint what to do
 * @throws {ArgumentError} it is of none of the kinds
 */
export function requireKind(value, kinds, expected, hint) {
  if (!kinds.some((kind) => value instanceof kind)) refuse(expected, value, hint);
}

/**
 * Check an object of options.
 *
 * @param {unknown} value
 * @param {readonly string[]} names of all options
 * @throws {ArgumentError} it is not an object, or has an unknown option
 */
export function requireOptions(value, names) {
  const hint = `the options are ${names.join(", ")}`;
  if (typeof value !== "object" || value === null) return refuse(`options as an object, such as { ${names[0]} }`, value, hint);
  const unknown = Object.keys(value).filter((name) => !names.includes(name));
  if (unknown.length) throw new ArgumentError(`expected options of ${names.join(", ")}, received ${unknown.join(", ").slice(0, 100)}`, { hint });
}

/**
 * @param {unknown} value
 * @param {string} name
 * @param {string} hint what to do
 * @throws {ArgumentError} it is not an integer of at least 1
 */
export function requireCount(value, name, hint) {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1) refuse(`${name} as a whole number of at least 1`, value, hint);
}

/**
 * @param {string} expected
 * @param {unknown} received
 * @param {string} hint
 * @returns {never}
 * @throws {ArgumentError} always
 */
export function refuse(expected, received, hint) {
  throw new ArgumentError(`expected ${expected}, received ${kindOf(received)}`, { hint });
}
