/**
 * HPKE in base mode, for one message: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. All of it is WebCrypto's.
 *
 * Source: RFC 9180, sections 4.1, 5.1 and 6.1; RFC 5869.
 */

import { concatBytes } from "../bytes.js";
import { SealingError } from "../errors.js";

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */
/** @typedef {{privateKey: CryptoKey, raw: Bytes}} Pair private key, and the 32 bytes of its public key */

/** Bytes of a raw key, and of an encapsulated one. */
export const KEY_BYTES = 32;
/** Bytes that sealing adds to a content: encapsulated key and tag. */
export const OVERHEAD = KEY_BYTES + 16;

const BITS = 8;
const NONCE_BYTES = 12;
const X25519 = { name: "X25519" };
const HMAC = { name: "HMAC", hash: "SHA-256" };
const AES = { name: "AES-GCM", length: 8 * KEY_BYTES };
const VERSION = ascii("HPKE-v1");
const KEM = Uint8Array.of(...ascii("KEM"), 0x00, 0x20);
const SUITE = Uint8Array.of(...ascii("HPKE"), 0x00, 0x20, 0x00, 0x01, 0x00, 0x02);
const BASE_MODE = Uint8Array.of(0);
const NOTHING = new Uint8Array();

/**
 * Make a pair whose private key cannot be exported.
 *
 * @returns {Promise<Pair>}
 * @throws {SealingError} this browser's WebCrypto has no X25519
 */
export async function createPair() {
  const { privateKey, publicKey } = /** @type {CryptoKeyPair} */ (
    await offered(crypto.subtle.generateKey(X25519, false, ["deriveBits"]))
  );
  return { privateKey, raw: new Uint8Array(await crypto.subtle.exportKey("raw", publicKey)) };
}

/**
 * Check a raw public key.
 *
 * @param {Bytes} raw
 * @returns {Promise<CryptoKey>}
 * @throws {SealingError} this browser's WebCrypto has no X25519
 */
export function importPublic(raw) {
  return offered(crypto.subtle.importKey("raw", raw, X25519, true, []));
}

/**
 * Import a private key so that it cannot be exported, and compute its public key.
 *
 * @param {Bytes} pkcs8
 * @returns {Promise<Pair>}
 * @throws {SealingError} this browser's WebCrypto has no X25519
 */
export async function importPrivate(pkcs8) {
  const privateKey = await offered(crypto.subtle.importKey("pkcs8", pkcs8, X25519, false, ["deriveBits"]));
  const base = new Uint8Array(KEY_BYTES);
  base[0] = 9;
  return { privateKey, raw: await agree(privateKey, base) };
}

/**
 * Encrypt to a public key.
 *
 * @param {Uint8Array} plaintext
 * @param {Bytes} to raw public key
 * @param {Bytes} info
 * @param {Pair} [ephemeral] only for tests against vectors; otherwise a random one
 * @returns {Promise<Bytes[]>} encapsulated key; ciphertext and tag
 * @throws {DOMException} the public key gives no shared secret
 */
export async function encrypt(plaintext, to, info, ephemeral) {
  const { privateKey, raw } = ephemeral ?? (await createPair());
  const { key, nonce } = await schedule(await sharedSecret(await agree(privateKey, to), raw, to), info, "encrypt");
  const given = /** @type {Bytes} */ (plaintext);
  return [raw, new Uint8Array(await crypto.subtle.encrypt({ name: AES.name, iv: nonce }, key, given))];
}

/**
 * Invert `encrypt`.
 *
 * @param {Bytes} sealed encapsulated key, ciphertext and tag
 * @param {Pair} pair of the recipient
 * @param {Bytes} info
 * @returns {Promise<Bytes>}
 * @throws {DOMException} ciphertext, key or `info` is not that of the encryption
 */
export async function decrypt(sealed, { privateKey, raw }, info) {
  const encapsulated = sealed.slice(0, KEY_BYTES);
  const shared = await sharedSecret(await agree(privateKey, encapsulated), encapsulated, raw);
  const { key, nonce } = await schedule(shared, info, "decrypt");
  return new Uint8Array(await crypto.subtle.decrypt({ name: AES.name, iv: nonce }, key, sealed.subarray(KEY_BYTES)));
}

/**
 * @param {CryptoKey} privateKey
 * @param {Bytes} raw public key
 * @returns {Promise<Bytes>}
 */
async function agree(privateKey, raw) {
  const other = await importPublic(raw);
  const parameters = { ...X25519, public: other };
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, privateKey, BITS * KEY_BYTES));
}

/**
 * Shared secret of the KEM: `ExtractAndExpand`.
 *
 * @param {Bytes} agreed overwritten
 * @param {Bytes} encapsulated
 * @param {Bytes} recipient raw public key
 * @returns {Promise<Bytes>}
 */
async function sharedSecret(agreed, encapsulated, recipient) {
  const input = concatBytes(VERSION, KEM, ascii("eae_prk"), agreed);
  const key = await importHkdf(input);
  for (const secret of [agreed, input]) secret.fill(0);
  const info = labelled(KEM, "shared_secret", concatBytes(encapsulated, recipient), KEY_BYTES);
  return new Uint8Array(await crypto.subtle.deriveBits(hkdf(NOTHING, info), key, BITS * KEY_BYTES));
}

/**
 * The key schedule: a key that cannot be exported, and the nonce of its only message.
 *
 * @param {Bytes} shared overwritten
 * @param {Bytes} info
 * @param {"encrypt" | "decrypt"} usage
 */
async function schedule(shared, info, usage) {
  const hashes = [await extract("psk_id_hash", NOTHING), await extract("info_hash", info)];
  const context = concatBytes(BASE_MODE, ...hashes);
  const secret = await importHkdf(concatBytes(VERSION, SUITE, ascii("secret")));
  const keyInfo = labelled(SUITE, "key", context, KEY_BYTES);
  const nonceInfo = labelled(SUITE, "base_nonce", context, NONCE_BYTES);
  const key = await crypto.subtle.deriveKey(hkdf(shared, keyInfo), secret, AES, false, [usage]);
  const nonce = new Uint8Array(await crypto.subtle.deriveBits(hkdf(shared, nonceInfo), secret, BITS * NONCE_BYTES));
  shared.fill(0);
  return { key, nonce };
}

/**
 * `LabeledExtract` without a salt: HMAC under zeros, as WebCrypto refuses an empty key.
 *
 * @param {string} label
 * @param {Bytes} input
 */
async function extract(label, input) {
  const zeros = await crypto.subtle.importKey("raw", new Uint8Array(KEY_BYTES), HMAC, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign(HMAC, zeros, concatBytes(VERSION, SUITE, ascii(label), input)));
}

/**
 * The `info` of `LabeledExpand`.
 *
 * @param {Bytes} suite
 * @param {string} label
 * @param {Bytes} info
 * @param {number} length
 */
function labelled(suite, label, info, length) {
  return concatBytes(Uint8Array.of(0, length), VERSION, suite, ascii(label), info);
}

/** @param {Bytes} secret */
function importHkdf(secret) {
  return crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits", "deriveKey"]);
}

/**
 * @param {Bytes} salt
 * @param {Bytes} info
 * @returns {HkdfParams}
 */
function hkdf(salt, info) {
  return { name: "HKDF", hash: "SHA-256", salt, info };
}

/**
 * @template Value
 * @param {Promise<Value>} made
 * @returns {Promise<Value>}
 */
async function offered(made) {
  try {
    return await made;
  } catch (error) {
    if (!(error instanceof DOMException && error.name === "NotSupportedError")) throw error;
    throw new SealingError("WebCrypto has no X25519 here", { hint: "use Chromium 133, Firefox 130, Safari 17, Node 20, or newer ones" });
  }
}

/** @param {string} text */
function ascii(text) {
  return new TextEncoder().encode(text);
}
