/**
 * The header of sealed data: what it is, and for which key and model. It is not encrypted, and has one form for one
 * content.
 *
 * Source: format `lcve-seal-1`, section 10.3.
 */

import { Binding, DCT_SCHEME, shown, Views } from "../binding.js";
import { SealingError } from "../errors.js";
import { parseJson } from "../json.js";
import { SUITES } from "./keys.js";

/** @typedef {"clip" | "request" | "answer"} Kind */
/**
 * @typedef {object} Header
 * @property {Kind} kind
 * @property {string} suite
 * @property {string} recipient fingerprint of the public key that the data is sealed to
 * @property {Binding} binding artifact that the clips were encrypted for
 * @property {Views} [views] of a clip
 * @property {string} [id] of a request and its answer: 32 hex digits
 * @property {string} [model] of a request and its answer: name of the model on the server
 * @property {string} [version] that was asked for, or that answered
 * @property {number} [clips] of a request and its answer
 * @property {number} [classes] of an answer: values of each clip
 * @property {number} [time] of a request: milliseconds since 1970
 * @property {number} [size] of a clip or request of packed clips: their bytes
 */

export const MAX_HEADER_BYTES = 4096;
const FORMAT = "lcve-seal-1";
const MAX_NAME = 256;
const COMMON = Object.freeze(["format", "kind", "suite", "recipient", ...Binding.names]);
/** Fields of each kind, in the order of the kinds' numbers. @type {Readonly<Record<Kind, readonly string[]>>} */
const OF_KIND = Object.freeze({
  clip: ["views"],
  request: ["id", "model", "version", "clips", "time"],
  answer: ["id", "model", "version", "clips", "classes"],
});
const KINDS = /** @type {Kind[]} */ (Object.keys(OF_KIND));
const PATTERNS = Object.freeze({
  recipient: /^[0-9a-f]{64}$/,
  id: /^[0-9a-f]{32}$/,
  scheme: /^[a-z0-9.-]{1,32}$/,
});
/** @type {Readonly<Record<string, readonly [number, number]>>} */
const LIMITS = Object.freeze({ clips: [1, 2 ** 16], classes: [1, 2 ** 27], time: [0, 2 ** 53], size: [1, 2 ** 40] });
const NOT_ASCII = /[\u007f-\uffff]/g;

/**
 * Number of a kind in `info`.
 *
 * @param {Kind} kind
 */
export const numberOf = (kind) => KINDS.indexOf(kind) + 1;

/**
 * Bytes of the values of all clips, of a clip or request.
 *
 * @param {Header} header
 * @returns {number}
 */
export function sizeOfValues({ binding, views, clips, size }) {
  return binding.packed ? /** @type {number} */ (size) : Number(views ? views.count : clips) * binding.geometry.clipValues;
}

/**
 * The bytes of a header.
 *
 * @param {Header} header
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function writeHeader(header) {
  const { kind, suite, recipient, binding, views } = header;
  /** @type {Record<string, unknown>} */
  const fields = { format: FORMAT, kind, suite, recipient, ...binding.toFields() };
  for (const name of fieldsOf(kind, binding.scheme)) fields[name] = header[/** @type {keyof Header} */ (name)];
  if (views) fields.views = String(views);
  const text = JSON.stringify(fields, Object.keys(fields).sort());
  const escaped = text.replace(NOT_ASCII, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return new TextEncoder().encode(escaped);
}

/**
 * Parse a header.
 *
 * @param {Uint8Array} bytes
 * @returns {Header}
 * @throws {SealingError} it is invalid, or not in its one form
 */
export function parseHeader(bytes) {
  const header = parsed(bytes);
  const again = writeHeader(header);
  if (again.length !== bytes.length || again.some((byte, index) => byte !== bytes[index])) throw invalid("it is not in canonical form");
  return header;
}

/**
 * @param {Uint8Array} bytes
 * @returns {Header}
 */
function parsed(bytes) {
  try {
    return read(/** @type {any} */ (parseJson(bytes)));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error;
    throw invalid(error.message.slice(0, 300));
  }
}

/**
 * @param {any} fields
 * @returns {Header}
 */
function read(fields) {
  if (typeof fields !== "object" || fields?.format !== FORMAT) throw new RangeError(`expected the format ${FORMAT}`);
  const kind = KINDS.find((name) => name === fields.kind);
  if (kind === undefined) throw new RangeError(`expected a kind of ${KINDS.join(", ")}`);
  const own = fieldsOf(kind, fields.scheme);
  const names = [...COMMON, ...own];
  if (Object.keys(fields).length !== names.length || !names.every((name) => name in fields)) {
    throw new RangeError(`expected the fields ${names.join(", ")}`);
  }
  for (const name of names) check(name, fields[name]);
  if (!SUITES.includes(fields.suite)) throw new RangeError(`expected a suite of ${SUITES.join(" or ")}, received ${shown(fields.suite)}`);
  const given = Object.fromEntries(own.map((name) => [name, name === "views" ? Views.parse(fields.views) : fields[name]]));
  return { kind, suite: fields.suite, recipient: fields.recipient, binding: Binding.parse(fields), ...given };
}

/**
 * @param {Kind} kind
 * @param {unknown} scheme
 */
function fieldsOf(kind, scheme) {
  return scheme === DCT_SCHEME && kind !== "answer" ? [...OF_KIND[kind], "size"] : OF_KIND[kind];
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function check(name, value) {
  const limits = LIMITS[name];
  if (limits) {
    const isRight = typeof value === "number" && Number.isInteger(value) && value >= limits[0] && value <= limits[1];
    if (!isRight) throw new RangeError(`${name}: expected ${limits[0]} to ${limits[1]}`);
    return;
  }
  if (typeof value !== "string" || [...value].length > MAX_NAME) throw new RangeError(`${name}: expected text of at most ${MAX_NAME} characters`);
  const pattern = /** @type {Record<string, RegExp>} */ (PATTERNS)[name];
  if (pattern && !pattern.test(value)) throw new RangeError(`${name}: expected text that matches ${pattern.source}`);
}

/** @param {string} reason */
function invalid(reason) {
  return new SealingError(`the header of the sealed data is invalid: ${reason}`);
}
