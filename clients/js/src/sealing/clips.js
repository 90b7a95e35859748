/**
 * Sealed `.lcve` files.
 *
 * Source: format `lcve-seal-1`, section 10.4.
 */

import { bytesOf, sizeOf } from "../bytes.js";
import { EncryptedClip } from "../clip.js";
import { SealingError } from "../errors.js";
import { openSealed, readEnvelope, seal } from "./envelope.js";
import { sizeOfValues } from "./header.js";

/** @typedef {import("../bytes.js").Source} Source */
/** @typedef {import("./keys.js").SealingKey} SealingKey */
/** @typedef {import("./keys.js").SealingPublicKey} SealingPublicKey */

/** Maximum bytes of a sealed clip file, which is opened in memory. */
const MAX_BYTES = 2 ** 31;

/**
 * Write the bytes of a sealed `.lcve` file.
 *
 * @param {EncryptedClip} clip
 * @param {SealingPublicKey} to
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 * @throws {SealingError} nothing can be sealed to the key
 */
export function sealClip({ binding, views, values }, to) {
  const { suite, fingerprint } = to;
  return seal({ kind: "clip", suite, recipient: fingerprint, binding, views, size: values.length }, values, to);
}

/**
 * Read and open the content of a sealed `.lcve` file.
 *
 * @param {Source} source bytes, or the chosen `File`
 * @param {SealingKey} key of the recipient
 * @returns {Promise<EncryptedClip>}
 * @throws {SealingError} it is no sealed clip, was changed, or is sealed to another key
 */
export async function openSealedClip(source, key) {
  if (sizeOf(source) > MAX_BYTES) throw new SealingError(`expected a sealed clip of at most ${MAX_BYTES} bytes, received ${sizeOf(source)}`);
  const sealed = readEnvelope(new Uint8Array(await bytesOf(source)), "clip");
  const { header } = sealed;
  const { binding, views } = header;
  const values = await openSealed(sealed, key, { binding, size: sizeOfValues(header) });
  return new EncryptedClip({ values, binding, ...(views && { views }) });
}
