/**
 * Sealed `.lcve` files.
 *
 * Source: format `lcve-seal-1`, section 10.4.
 */

import { requireKind } from "../arguments.js";
import { Views } from "../binding.js";
import { bytesOf, sizeOf } from "../bytes.js";
import { EncryptedClip, requireClip } from "../clip.js";
import { unpack } from "../dct/packing.js";
import { SealingError } from "../errors.js";
import { openSealed, readEnvelope, seal } from "./envelope.js";
import { sizeOfValues } from "./header.js";
import { SealingKey, SealingPublicKey } from "./keys.js";

/** @typedef {import("../bytes.js").Source} Source */

/** Maximum bytes of a sealed clip file, which is opened in memory. */
const MAX_BYTES = 2 ** 31;

/**
 * Write the bytes of a sealed `.lcve` file.
 *
 * @param {EncryptedClip} clip
 * @param {SealingPublicKey} to
 * @param {{pad?: number}} [options] of the scheme `lcve-dct-1`: pad every view to a multiple of this number
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 * @throws {SealingError} nothing can be sealed to the key
 * @throws {import("../errors.js").EncryptedClipError} the clip cannot be packed, or cannot be padded
 */
export async function sealClip(clip, to, options) {
  requireClip(clip);
  requireKind(to, [SealingPublicKey], "the key to seal to as a SealingPublicKey", "read it with SealingPublicKey.read");
  const { binding, views } = clip;
  const content = clip.bytes(0, views.count, options);
  const { suite, fingerprint } = to;
  return seal({ kind: "clip", suite, recipient: fingerprint, binding, views, size: content.length }, content, to);
}

/**
 * Read and open the content of a sealed `.lcve` file.
 *
 * @param {Source} source bytes, or the chosen `File`
 * @param {SealingKey} key of the recipient
 * @returns {Promise<EncryptedClip>}
 * @throws {SealingError} it is no sealed clip, was changed, or is sealed to another key
 * @throws {import("../errors.js").EncryptedClipError} what was sealed is no packed clip
 */
export async function openSealedClip(source, key) {
  requireKind(key, [SealingKey], "the key to open with as a SealingKey", "read it with SealingKey.read");
  if (sizeOf(source) > MAX_BYTES) throw new SealingError(`expected a sealed clip of at most ${MAX_BYTES} bytes, received ${sizeOf(source)}`);
  const sealed = readEnvelope(new Uint8Array(await bytesOf(source)), "clip");
  const { binding, views = new Views() } = sealed.header;
  const content = await openSealed(sealed, key, { binding, size: sizeOfValues(sealed.header) });
  const values = binding.packed ? await unpack(content, binding.geometry, views.count) : { values: content };
  return new EncryptedClip({ ...values, binding, views });
}
