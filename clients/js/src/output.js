/**
 * What a model answers for a clip: logits, a feature vector, or one row for each token.
 *
 * Source: format of scheme `lcve-1`, section 4.1.
 */

import { refuse } from "./arguments.js";

/** @typedef {import("./fields.js").Fields} Fields */
/** @typedef {import("./geometry.js").Geometry} Geometry */

/**
 * Name and shape of the output of one clip: `[width]`, or `[tokens, width]`.
 *
 * @typedef {{name: string, shape: readonly number[]}} Output
 */

/** Maximum tokens before the cubes. */
const MAX_PREFIX = 2 ** 12;
const WITH_LABELS = ["logits", "token_logits"];
const WITH_TOKENS = ["tokens", "token_logits"];

/**
 * The output of a classifier of clips.
 *
 * @param {number} classes
 * @returns {Output}
 */
export const logitsOf = (classes) => ({ name: "logits", shape: [classes] });

/**
 * Whether the last axis counts classes.
 *
 * @param {Output} output
 */
export const hasLabels = ({ name }) => WITH_LABELS.includes(name);

/**
 * Whether there is a row for each token.
 *
 * @param {Output} output
 */
export const hasTokens = ({ name }) => WITH_TOKENS.includes(name);

/**
 * Number of values for one clip.
 *
 * @param {Output} output
 */
export const sizeOfOutput = ({ shape }) => shape.reduce((product, size) => product * size, 1);

/**
 * Check that a caller passed an output.
 *
 * @param {unknown} output
 * @throws {import("./errors.js").ArgumentError} it has no name or no shape
 */
export function requireOutput(output) {
  const { name, shape } = /** @type {any} */ (output ?? {});
  const fits = typeof name === "string" && Array.isArray(shape) && shape.length && shape.every(isSize);
  if (!fits) refuse("the option output as an object with a name and a shape", output, "pass client.settings.output");
}

/**
 * Put the rows of tokens into the order of the clip. Rows of prefix tokens come first and stay.
 *
 * @param {Float64Array} tokens `[tokens, width]`, in the order K1
 * @param {number} width
 * @param {Uint32Array} cubeOrder K1
 * @returns {Float64Array}
 */
export function plainRows(tokens, width, cubeOrder) {
  const prefix = tokens.length / width - cubeOrder.length;
  const plain = Float64Array.from(tokens);
  cubeOrder.forEach((cube, row) => {
    plain.set(tokens.subarray((prefix + row) * width, (prefix + row + 1) * width), (prefix + cube) * width);
  });
  return plain;
}

/**
 * Read the output in `client.json`.
 *
 * @param {Fields} fields
 * @param {Geometry | undefined} geometry
 * @returns {Output | undefined} undefined if it is invalid
 */
export function readOutput(fields, geometry) {
  const output = fields.nested("output");
  const [name, shape] = [output.text("name", /^(?:logits|features|tokens|token_logits)$/), output.items("shape")];
  output.text("dtype", /^float32$/);
  const sizes = /** @type {number[]} */ (shape.slice(1));
  const found = { name, shape: Object.freeze(sizes) };
  const fits = shape[0] === null && sizes.length === 1 + Number(hasTokens(found)) && sizes.every(isSize);
  if (!fits) output.note("shape", "null and the sizes of the output", shape);
  else if (geometry && hasTokens(found)) checkTokens(output, sizes[0], geometry);
  return fields.problems.length ? undefined : Object.freeze(found);
}

/**
 * @param {Fields} output
 * @param {number} tokens
 * @param {Geometry} geometry
 */
function checkTokens(output, tokens, { cubes }) {
  if (tokens < cubes || tokens > cubes + MAX_PREFIX) output.note("shape", `${cubes} to ${cubes + MAX_PREFIX} tokens`, tokens);
}

/** @param {unknown} size */
function isSize(size) {
  return typeof size === "number" && Number.isSafeInteger(size) && size > 0;
}
