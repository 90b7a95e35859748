/**
 * The security key: read, and derive from it.
 *
 * The secret is in a `CryptoKey` that cannot be exported, in memory only. Nothing here writes, sends or logs it, and
 * the copy of the file's bytes that is made on the way is overwritten with zeros.
 *
 * Source: format of scheme `lcve-1`, sections 1 and 2; RFC 5869.
 */

import { bytesOf, equalBytes, sizeOf, toHex } from "./bytes.js";
import { KeyFileError } from "./errors.js";

/** @typedef {import("./bytes.js").Source} Source */

const MAGIC = new TextEncoder().encode("LCVEKEY1");
const SECRET_BYTES = 32;
const FILE_BYTES = 48;
const NAME = /^[a-z0-9._-]{1,64}$/;

/** A secret of 32 bytes, and what is derived from it. */
export class SecurityKey {
  /** @type {CryptoKey} */
  #secret;
  /** @type {string} */
  #keyId;

  /**
   * Use `SecurityKey.read`.
   *
   * @param {CryptoKey} secret an HKDF key that cannot be exported
   * @param {string} keyId
   */
  constructor(secret, keyId) {
    if (secret.extractable) throw new TypeError("expected a key that cannot be exported");
    this.#secret = secret;
    this.#keyId = keyId;
  }

  /**
   * Read the content of a key file.
   *
   * @param {Source} source 48 bytes, or the chosen `File`; at most 49 bytes of it are read
   * @returns {Promise<SecurityKey>}
   * @throws {KeyFileError} magic bytes, length or checksum are wrong, each with its own message
   */
  static async read(source) {
    const size = sizeOf(source);
    const data = new Uint8Array(await bytesOf(source, 0, Math.min(size, FILE_BYTES)));
    try {
      await check(data, size);
      return await importSecret(data.subarray(MAGIC.length, MAGIC.length + SECRET_BYTES));
    } finally {
      data.fill(0);
    }
  }

  /** Identifier of the key, 32 hex digits; it does not reveal the secret. */
  get keyId() {
    return this.#keyId;
  }

  /**
   * Derive the key of one camera or client; a derived key does not reveal this one.
   *
   * @param {string} name 1 to 64 characters of `a-z 0-9 . _ -`
   * @returns {Promise<SecurityKey>}
   * @throws {KeyFileError} the name is invalid
   */
  async derive(name) {
    if (!NAME.test(name)) throw new KeyFileError(`a key name is 1 to 64 of a-z 0-9 . _ -, received ${JSON.stringify(name)}`);
    const parameters = hkdf(`lcve-1/derived-key/${name}`);
    const secret = new Uint8Array(await crypto.subtle.deriveBits(parameters, this.#secret, 8 * SECRET_BYTES));
    try {
      return await importSecret(secret);
    } finally {
      secret.fill(0);
    }
  }

  /**
   * Derive the AES-256 key of an order, which cannot be exported either.
   *
   * @param {string} info ASCII label
   * @param {Uint8Array<ArrayBuffer>} salt of the artifact
   * @returns {Promise<CryptoKey>} for AES-CTR
   */
  orderKey(info, salt) {
    const cipher = { name: "AES-CTR", length: 256 };
    return crypto.subtle.deriveKey(hkdf(info, salt), this.#secret, cipher, false, ["encrypt"]);
  }

  /** @returns {string} */
  toString() {
    return `SecurityKey(${this.#keyId})`;
  }
}

/**
 * Check magic bytes, length and checksum.
 *
 * @param {Uint8Array<ArrayBuffer>} data at most 48 bytes
 * @param {number} size of the whole file
 */
async function check(data, size) {
  const shared = Math.min(size, MAGIC.length);
  if (size === 0 || !equalBytes(data.subarray(0, shared), MAGIC.subarray(0, shared))) {
    throw new KeyFileError("not a key file: it does not begin with LCVEKEY1", { hint: "make one with: lcve keygen" });
  }
  if (size !== FILE_BYTES) {
    throw new KeyFileError(`a key file has ${FILE_BYTES} bytes, received ${size > FILE_BYTES ? "more" : size}`, {
      hint: "restore the file from a copy",
    });
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data.subarray(0, 40)));
  if (!equalBytes(digest.subarray(0, 8), data.subarray(40))) {
    throw new KeyFileError("the key file is damaged: its checksum does not match", { hint: "restore it from a copy" });
  }
}

/**
 * Import a secret so that it cannot be exported.
 *
 * @param {Uint8Array<ArrayBuffer>} secret
 * @returns {Promise<SecurityKey>}
 */
async function importSecret(secret) {
  const key = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits", "deriveKey"]);
  const id = await crypto.subtle.deriveBits(hkdf("lcve-1/key-id"), key, 128);
  return new SecurityKey(key, toHex(new Uint8Array(id)));
}

/**
 * Parameters of HKDF-SHA256.
 *
 * @param {string} info ASCII label
 * @param {Uint8Array<ArrayBuffer>} [salt]
 * @returns {HkdfParams}
 */
function hkdf(info, salt = new Uint8Array()) {
  return { name: "HKDF", hash: "SHA-256", salt, info: new TextEncoder().encode(info) };
}
