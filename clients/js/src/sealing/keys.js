/**
 * Key pairs of sealing, from their PEM files. They have nothing to do with the security key of an artifact.
 *
 * A private key becomes a `CryptoKey` that cannot be exported.
 *
 * Source: format `lcve-seal-1`, section 10.1; RFC 8410.
 */

import { bytesOf, concatBytes, equalBytes, fromHex, sizeOf, toHex } from "../bytes.js";
import { KeyFileError, LcveError, SealingError } from "../errors.js";
import { createPair, decrypt, importPrivate, importPublic, KEY_BYTES } from "./hpke.js";

/** @typedef {import("../bytes.js").Source} Source */
/** @typedef {import("./hpke.js").Bytes} Bytes */
/** @typedef {import("./hpke.js").Pair} Pair */
/** @typedef {"private" | "public"} Half */
/** @typedef {new (message: string, options?: {hint?: string}) => LcveError} ErrorClass */

/** The only suite that WebCrypto has all parts of. */
export const SUITE = "x25519";
/** All suites of the format. */
export const SUITES = Object.freeze([SUITE, "mlkem768-x25519"]);

const MAX_PEM_BYTES = 2 ** 14;
const BLOCK = /-----BEGIN (PRIVATE|PUBLIC) KEY-----\n([A-Za-z0-9+/=\n]+)\n-----END \1 KEY-----\n?/g;
const HINT = "make a pair with: lcve keygen --sealing -o serve.key";
const OTHER_HALF = Object.freeze({
  public: "pass the .pub file, and keep the private key where sealed data is opened, and nowhere else",
  private: "pass the private key next to it",
});
/** What is said of the hybrid suite. */
export const UNSUPPORTED = "this client cannot seal or open with the suite mlkem768-x25519: WebCrypto does not have all of it";
export const UNSUPPORTED_HINT = "seal in Python, with lcve web --seal-to or lcve encrypt --seal-to, or use a key of X25519";
/** First bytes of a key of X25519 and of one of ML-KEM-768, in DER. */
const DER = /** @type {const} */ ({
  private: { x25519: fromHex("302e020100300506032b656e04220420"), lattice: fromHex("3054020100300b0609608648016503040402") },
  public: { x25519: fromHex("302a300506032b656e032100"), lattice: fromHex("308204b2300b0609608648016503040402") },
});

/** Public key of a pair, which clips and requests are sealed to. */
export class SealingPublicKey {
  /**
   * Use `SealingPublicKey.read`.
   *
   * @param {Bytes} raw 32 bytes
   * @param {string} fingerprint
   */
  constructor(raw, fingerprint) {
    this.suite = SUITE;
    this.raw = raw;
    /** SHA-256 of the suite's name and the raw key, 64 hex digits; people and headers name keys by it. */
    this.fingerprint = fingerprint;
    Object.freeze(this);
  }

  /**
   * Read the content of a public key file.
   *
   * @param {Source} source such as the content of `serve.pub`
   * @returns {Promise<SealingPublicKey>}
   * @throws {SealingError} the content is not a public sealing key, or of a suite that WebCrypto does not have; a
   *   private key is not shown
   */
  static async read(source) {
    return SealingPublicKey.of(await readPem(source, "public", SealingError));
  }

  /**
   * A raw public key.
   *
   * @param {Bytes} raw
   * @returns {Promise<SealingPublicKey>}
   * @throws {SealingError} WebCrypto has no X25519 here
   */
  static async of(raw) {
    await importPublic(raw);
    const named = concatBytes(new TextEncoder().encode(`${SUITE}\0`), raw);
    return new SealingPublicKey(raw, toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", named))));
  }
}

/** Private key of a pair, which opens what was sealed to the public key. */
export class SealingKey {
  #pair;

  /**
   * Use `SealingKey.read` or `SealingKey.create`.
   *
   * @param {Pair} pair
   * @param {SealingPublicKey} publicKey
   */
  constructor(pair, publicKey) {
    if (pair.privateKey.extractable) throw new TypeError("expected a key that cannot be exported");
    this.#pair = pair;
    this.publicKey = publicKey;
    Object.freeze(this);
  }

  /**
   * Read the content of a private key file.
   *
   * @param {Source} source such as the content of `owner.key`, or the chosen `File`
   * @returns {Promise<SealingKey>}
   * @throws {KeyFileError} the content is not a private sealing key without a password, or of a suite that WebCrypto
   *   does not have
   * @throws {SealingError} WebCrypto has no X25519 here
   */
  static async read(source) {
    const raw = await readPem(source, "private", KeyFileError);
    const pkcs8 = concatBytes(DER.private.x25519, raw);
    try {
      return await SealingKey.#of(await importPrivate(pkcs8));
    } finally {
      for (const secret of [raw, pkcs8]) secret.fill(0);
    }
  }

  /**
   * Create a pair, whose private key stays in this process.
   *
   * @returns {Promise<SealingKey>}
   * @throws {SealingError} WebCrypto has no X25519 here
   */
  static async create() {
    return SealingKey.#of(await createPair());
  }

  /** @param {Pair} pair */
  static async #of(pair) {
    return new SealingKey(pair, await SealingPublicKey.of(pair.raw));
  }

  /**
   * Decrypt what was encrypted to the public key under `info`.
   *
   * @param {Bytes} sealed encapsulated key, ciphertext and tag
   * @param {Bytes} info
   * @returns {Promise<Bytes>}
   * @throws {SealingError} it was changed, or was sealed under another `info`
   */
  async decrypt(sealed, info) {
    try {
      return await decrypt(sealed, this.#pair, info);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      throw new SealingError("it was changed after it was sealed, or was sealed for another purpose", { hint: "have it sealed again" });
    }
  }

  /** @returns {string} */
  toString() {
    return `SealingKey(${this.publicKey.fingerprint})`;
  }
}

/**
 * The raw key of a PEM file.
 *
 * @param {Source} source
 * @param {Half} half that is expected
 * @param {ErrorClass} kind of its errors
 * @returns {Promise<Bytes>}
 */
async function readPem(source, half, kind) {
  const expected = `expected a ${half} sealing key in PEM`;
  const text = sizeOf(source) > MAX_PEM_BYTES ? "" : new TextDecoder().decode(await bytesOf(source)).replaceAll("\r\n", "\n");
  const blocks = [...text.matchAll(BLOCK)];
  const other = blocks.some(([, found]) => found.toLowerCase() !== half);
  if (other) throw new kind(`${expected}, received a ${half === "public" ? "private" : "public"} key`, { hint: OTHER_HALF[half] });
  if (!blocks.length || blocks.map(([block]) => block).join("") !== text) {
    throw new kind(`${expected}, without a password, received something else`, { hint: HINT });
  }
  const keys = blocks.map(([, , body]) => fromBase64(body));
  const { x25519, lattice } = DER[half];
  const isHybrid = keys.length === 2 && keys[0] !== undefined && begins(keys[0], lattice);
  if (isHybrid) throw new kind(UNSUPPORTED, { hint: UNSUPPORTED_HINT });
  const [key] = keys;
  const isRight = keys.length === 1 && key?.length === x25519.length + KEY_BYTES && begins(key, x25519);
  if (!isRight) throw new kind(`${expected}, received keys of another algorithm`, { hint: HINT });
  const raw = key.slice(x25519.length);
  if (half === "private") key.fill(0);
  return raw;
}

/**
 * @param {string} body
 * @returns {Bytes | undefined}
 */
function fromBase64(body) {
  try {
    return Uint8Array.from(atob(body.replaceAll("\n", "")), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}

/**
 * @param {Bytes} bytes
 * @param {Bytes} start
 */
function begins(bytes, start) {
  return equalBytes(bytes.subarray(0, start.length), start);
}
