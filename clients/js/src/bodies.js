/**
 * Bodies of requests and answers: a JSON header, and binary data after it. Answers are read within limits.
 *
 * Source: format of scheme `lcve-1`, section 9.
 */

import { shown } from "./binding.js";
import { SessionError } from "./errors.js";
import { parseJson, toNumber } from "./json.js";

/** @typedef {import("./binding.js").Binding} Binding */
/** @typedef {{json: number, binary: number}} Limits maximum bytes of a body that is all JSON, and of binary data */
/** @typedef {{head: any, binary: Uint8Array}} Answer */

/** Header with the bytes of JSON in a body. */
export const LENGTH = "Inference-Header-Content-Length";
/** Maximum bytes of an answer in addition to its logits, or of an error. */
export const MAX_HEAD_BYTES = 2 ** 16;
const MAX_DESCRIPTION_BYTES = 2 ** 17;
const BYTES_PER_LOGIT = 4;
const JSON_BYTES_PER_LOGIT = 32;
/** Prefix of the names of a binding on the wire. */
export const PREFIX = "lcve_";

/** @type {Limits} of a model's metadata or configuration */
export const DESCRIPTION_LIMITS = Object.freeze({ json: MAX_DESCRIPTION_BYTES, binary: 0 });

/**
 * Limits of an answer with an output.
 *
 * @param {number} logits number of its values
 * @returns {Limits}
 */
export function answerLimits(logits) {
  return { json: MAX_HEAD_BYTES + JSON_BYTES_PER_LOGIT * logits, binary: BYTES_PER_LOGIT * logits };
}

/**
 * The body of a request, and the value of its header.
 *
 * @param {Uint8Array} values
 * @param {number} count
 * @param {Binding} binding
 * @param {string} [output] name
 */
export function requestBody(values, count, binding, output = "logits") {
  const head = requestHead(values.length, count, binding, output);
  const body = new Uint8Array(head.length + values.length);
  body.set(head);
  body.set(values, head.length);
  return { head: String(head.length), body };
}

/**
 * Bytes of a request with one clip.
 *
 * @param {Binding} binding
 * @param {number} [size] bytes of the clip
 * @returns {number}
 */
export function requestBytes(binding, size = binding.geometry.clipValues) {
  return requestHead(size, 1, binding, "logits").length + size;
}

/**
 * @param {number} bytes of the values
 * @param {number} count
 * @param {Binding} binding
 * @param {string} output name
 */
function requestHead(bytes, count, binding, output) {
  const { name, shape } = binding.packed ? { name: "packed", shape: [bytes] } : { name: "clips", shape: [count, ...binding.clipShape] };
  const text = JSON.stringify({
    parameters: binding.toFields(PREFIX),
    inputs: [{ name, shape, datatype: "UINT8", parameters: { binary_data_size: bytes } }],
    outputs: [{ name: output, parameters: { binary_data: true } }],
  });
  return new TextEncoder().encode(text);
}

/**
 * Read a body, and no more of it than the limit.
 *
 * @param {Response} response
 * @param {number} limit bytes
 * @param {string} endpoint
 * @returns {Promise<Uint8Array>}
 */
async function readBody(response, limit, endpoint) {
  const body = new Uint8Array(limit);
  let length = 0;
  for (const reader = response.body?.getReader(); reader; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (length + value.length > limit) {
      await reader.cancel();
      throw new SessionError(`${endpoint} answered with more than ${limit} bytes`);
    }
    body.set(value, length);
    length += value.length;
  }
  return body.subarray(0, length);
}

/**
 * @param {Response} response
 * @param {Limits} limits
 * @param {string} endpoint
 * @returns {Promise<Answer>}
 */
export async function readAnswer(response, limits, endpoint) {
  const encoding = response.headers.get("Content-Encoding") ?? "identity";
  if (encoding !== "identity") throw new SessionError(`${endpoint} answered in encoding ${shown(encoding)}, expected identity`);
  const stated = response.headers.get(LENGTH);
  const length = stated === null ? undefined : Number(stated);
  if (stated !== null && !(/^[0-9]{1,9}$/.test(stated) && Number(stated) <= MAX_HEAD_BYTES)) {
    throw new SessionError(`${endpoint} answered with a header of ${shown(stated)} bytes, expected at most ${MAX_HEAD_BYTES}`);
  }
  const body = await readBody(response, length === undefined ? limits.json : length + limits.binary, endpoint);
  try {
    const head = parseJson(body.subarray(0, length));
    if (typeof head !== "object" || head === null || (length ?? 0) > body.length) throw new SyntaxError("not an object");
    return { head, binary: length === undefined ? new Uint8Array() : body.subarray(length) };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new SessionError(`${endpoint} did not answer in the protocol: ${error.message}`);
  }
}

/**
 * Words of an error of the protocol, and its name if the server states one.
 *
 * @param {Response} response
 * @param {string} endpoint
 * @returns {Promise<{words: string, name: unknown} | undefined>} undefined if the body is no such error
 */
export async function readFault(response, endpoint) {
  try {
    const { error, lcve_error: name } = /** @type {any} */ (parseJson(await readBody(response, MAX_HEAD_BYTES, endpoint)));
    return typeof error === "string" ? { words: error, name } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError || error instanceof SessionError) return undefined;
    throw error;
  }
}

/**
 * @param {Answer} answer
 * @param {number[]} shape
 * @param {string} endpoint
 * @param {string} [name] of the output
 * @returns {{model: string, version: string, numbers: Float32Array}}
 * @throws {TypeError | RangeError | SessionError} it has not these logits
 */
export function readLogits({ head, binary }, shape, endpoint, name = "logits") {
  const { model_name: model, model_version: version = "", outputs } = head;
  if (typeof model !== "string" || typeof version !== "string") throw new TypeError("no names");
  const described = outputs.map((/** @type {any} */ output) => [output.name, output.datatype, output.shape]);
  if (JSON.stringify(described) !== JSON.stringify([[name, "FP32", shape]])) {
    throw new SessionError(`${endpoint} returned ${shown(described)}, expected the ${name} [${shape}]`);
  }
  const size = outputs[0].parameters?.binary_data_size;
  const data = outputs[0].data?.flat(Infinity);
  if ((size === undefined) === (data === undefined)) throw new TypeError("neither or both of binary data and JSON data");
  if (size !== undefined ? size !== binary.length : binary.length) throw new RangeError("another number of bytes than stated");
  const numbers = size === undefined ? fromJson(data) : fromBytes(binary);
  if (numbers.length !== shape.reduce((product, size) => product * size, 1)) throw new RangeError("another number of logits");
  return { model, version, numbers };
}

/** @param {unknown[]} data */
function fromJson(data) {
  return Float32Array.from(data, (number) => {
    const value = toNumber(number);
    if (value === undefined) throw new TypeError("not a number");
    return value;
  });
}

/** @param {Uint8Array} bytes little-endian float32 */
function fromBytes(bytes) {
  if (bytes.length % BYTES_PER_LOGIT) throw new RangeError("not a whole number of logits");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Float32Array.from({ length: bytes.length / BYTES_PER_LOGIT }, (_, index) => view.getFloat32(4 * index, true));
}
