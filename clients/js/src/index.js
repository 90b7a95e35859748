/** Key holder's side of lcve-deploy, for browsers and Node. It has no dependencies. */

export { Binding, DCT_SCHEME, LAYOUTS, SCHEME, Views } from "./binding.js";
export { Cipher } from "./cipher.js";
export { Client } from "./client.js";
export { EncryptedClip, readClipFile, writeClipFile } from "./clip.js";
export { CoefficientCipher } from "./dct/cipher.js";
export { QUALITIES } from "./dct/steps.js";
export * from "./errors.js";
export { Geometry } from "./geometry.js";
export { hasLabels, hasTokens } from "./output.js";
export { SecurityKey } from "./key.js";
export { RemoteModel } from "./remote.js";
export { openSealedClip, SealingKey, SealingPublicKey, sealClip } from "./sealing/index.js";
export { readClientSettings } from "./settings.js";
