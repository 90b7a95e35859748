/** Bytes from memory or from a file that a person chose, read within a limit. */

import { refuse } from "./arguments.js";

/** @typedef {Uint8Array | ArrayBuffer | Blob} Source bytes in memory, or a `File` or other `Blob` */

/**
 * Number of bytes of a source; nothing is read.
 *
 * @param {Source} source
 * @returns {number}
 * @throws {import("./errors.js").ArgumentError} it is not a source
 */
export function sizeOf(source) {
  if (source instanceof Blob) return source.size;
  if (source instanceof ArrayBuffer || source instanceof Uint8Array) return source.byteLength;
  return refuse("bytes as a Uint8Array, an ArrayBuffer or a Blob", source, "pass the content of the file, and not its path");
}

/**
 * Read part of a source. Bytes in memory are not copied.
 *
 * @param {Source} source
 * @param {number} [start]
 * @param {number} [end]
 * @returns {Promise<Uint8Array>}
 */
export async function bytesOf(source, start = 0, end = sizeOf(source)) {
  if (source instanceof Blob) return new Uint8Array(await source.slice(start, end).arrayBuffer());
  if (source instanceof ArrayBuffer) return new Uint8Array(source).subarray(start, end);
  return source.subarray(start, end);
}

/**
 * Lower-case hex digits of bytes.
 *
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Bytes of a text of hex digits that has been checked.
 *
 * @param {string} hex
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function fromHex(hex) {
  return Uint8Array.from({ length: hex.length / 2 }, (_, index) => parseInt(hex.slice(2 * index, 2 * index + 2), 16));
}

/**
 * Whether two arrays of bytes are equal.
 *
 * @param {Uint8Array} one
 * @param {Uint8Array} other
 * @returns {boolean}
 */
export function equalBytes(one, other) {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/**
 * The bytes of several arrays, one after the other.
 *
 * @param {...Uint8Array} parts
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function concatBytes(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
