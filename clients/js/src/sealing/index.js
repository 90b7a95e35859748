/** Sealing: clips and requests that only the holder of a private key can open. */

export { openSealedClip, sealClip } from "./clips.js";
export { SealingKey, SealingPublicKey } from "./keys.js";
