/**
 * Sealed data: magic, header, and the content encrypted with HPKE. Its `info` binds header, model and kind.
 *
 * Source: format `lcve-seal-1`, section 10.2.
 */

import { concatBytes, equalBytes } from "../bytes.js";
import { SealingError } from "../errors.js";
import { MAX_HEADER_BYTES, numberOf, parseHeader, writeHeader } from "./header.js";
import { encrypt, OVERHEAD } from "./hpke.js";
import { SUITE, UNSUPPORTED, UNSUPPORTED_HINT } from "./keys.js";

/** @typedef {import("../binding.js").Binding} Binding */
/** @typedef {import("./header.js").Header} Header */
/** @typedef {import("./header.js").Kind} Kind */
/** @typedef {import("./hpke.js").Bytes} Bytes */
/** @typedef {import("./keys.js").SealingKey} SealingKey */
/** @typedef {import("./keys.js").SealingPublicKey} SealingPublicKey */
/** @typedef {{header: Header, head: Bytes, body: Bytes}} Sealed `body` is encapsulated key, ciphertext and tag */

/** First bytes of sealed data. */
export const MAGIC = new TextEncoder().encode("LCVESEAL");
const PREFIX_BYTES = MAGIC.length + 4;
const LABEL = new TextEncoder().encode("lcve/seal/1");
/** @type {Readonly<Record<Kind, string>>} */
const WORDS = Object.freeze({
  clip: "a sealed clip, which lcve encrypt --seal-to makes",
  request: "a sealed request, which is made for one server and one answer",
  answer: "a sealed answer",
});

/**
 * Seal content to a key.
 *
 * @param {Header} header with the kind and the recipient
 * @param {Uint8Array} content
 * @param {SealingPublicKey} to
 * @param {import("./hpke.js").Pair} [ephemeral] only for tests against vectors; otherwise a random one
 * @returns {Promise<Bytes>}
 * @throws {SealingError} the header is too long, or nothing can be sealed to the key
 */
export async function seal(header, content, to, ephemeral) {
  const head = writeHeader(header);
  if (head.length > MAX_HEADER_BYTES) throw new SealingError(`a header has at most ${MAX_HEADER_BYTES} bytes, received ${head.length}`);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, head.length, true);
  return concatBytes(MAGIC, length, head, ...(await encrypted(content, to, await infoOf(header.binding, header.kind, head), ephemeral)));
}

/**
 * Divide sealed data into its parts and check the header, without opening it.
 *
 * @param {Bytes} data
 * @param {Kind} kind that is expected
 * @returns {Sealed}
 * @throws {SealingError} it is not sealed data of this kind, or its header is cut off or invalid
 */
export function readEnvelope(data, kind) {
  if (!isSealed(data)) throw new SealingError(`expected ${WORDS[kind]}, received other data: it does not begin with LCVESEAL`);
  const length = data.length < PREFIX_BYTES ? Infinity : new DataView(data.buffer, data.byteOffset).getUint32(MAGIC.length, true);
  if (length > MAX_HEADER_BYTES || PREFIX_BYTES + length > data.length) {
    throw new SealingError("the sealed data is truncated or damaged: it ends before its header does");
  }
  const head = data.slice(PREFIX_BYTES, PREFIX_BYTES + length);
  const header = parseHeader(head);
  if (header.kind !== kind) throw new SealingError(`expected ${WORDS[kind]}, received ${WORDS[header.kind]}`);
  return { header, head, body: data.subarray(PREFIX_BYTES + length) };
}

/**
 * Open sealed data.
 *
 * @param {Sealed} sealed
 * @param {SealingKey} key of the recipient
 * @param {{binding: Binding, size: number}} expected binding of the reader's own model, and bytes of the content
 * @returns {Promise<Bytes>}
 * @throws {SealingError} it is sealed to another key, or was truncated, extended or changed
 * @throws {import("../errors.js").MismatchError} it is sealed for another model
 */
export async function openSealed({ header, head, body }, key, { binding, size }) {
  const { fingerprint } = key.publicKey;
  if (header.suite !== SUITE) throw new SealingError(UNSUPPORTED, { hint: UNSUPPORTED_HINT });
  if (header.recipient !== fingerprint) {
    throw new SealingError(`sealed to the key ${header.recipient.slice(0, 16)}..., and this key is ${fingerprint.slice(0, 16)}...`, {
      hint: "open it with the private key of the public key that it was sealed to",
    });
  }
  binding.require(header.binding, "model", "sealed data");
  if (body.length !== size + OVERHEAD) {
    throw new SealingError(
      `the sealed data was truncated or extended: expected ${size + OVERHEAD} bytes after its header, received ${body.length}`,
    );
  }
  try {
    return await key.decrypt(body, await infoOf(binding, header.kind, head));
  } catch (error) {
    if (!(error instanceof SealingError)) throw error;
    throw new SealingError(`the sealed ${header.kind} cannot be opened: ${error.message}`, { hint: error.hint });
  }
}

/**
 * Whether data begins as sealed data does.
 *
 * @param {Uint8Array} data
 */
export const isSealed = (data) => equalBytes(data.subarray(0, MAGIC.length), MAGIC);

/**
 * HPKE's `info`, 76 bytes: label, model, kind and header.
 *
 * @param {Binding} binding
 * @param {Kind} kind
 * @param {Bytes} head
 * @returns {Promise<Bytes>}
 */
export async function infoOf(binding, kind, head) {
  const model = new TextEncoder().encode(Object.values(binding.toFields()).join("\n"));
  return concatBytes(LABEL, await sha256(model), Uint8Array.of(numberOf(kind)), await sha256(head));
}

/**
 * @param {Uint8Array} content
 * @param {SealingPublicKey} to
 * @param {Bytes} info
 * @param {import("./hpke.js").Pair | undefined} ephemeral
 */
async function encrypted(content, to, info, ephemeral) {
  try {
    return await encrypt(content, to.raw, info, ephemeral);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    throw new SealingError("nothing can be sealed to this public key", { hint: "ask for another one" });
  }
}

/** @param {Bytes} bytes */
async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}
