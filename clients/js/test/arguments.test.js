/** Arguments of a wrong type are one clear error: what was expected, what was received, and what to do. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fromHex } from "../src/bytes.js";
import {
  ArgumentError,
  Binding,
  Client,
  EncryptedClip,
  Geometry,
  openSealedClip,
  QUALITIES,
  readClipFile,
  readClientSettings,
  RemoteModel,
  sealClip,
  SecurityKey,
  Views,
  writeClipFile,
} from "../src/index.js";
import { frameIndices } from "../src/video/sampling.js";

const VECTORS = JSON.parse(readFileSync(new URL("../../../docs/reference/vectors.json", import.meta.url), "utf-8"));
const CLIP = await readClipFile(fromHex(VECTORS.clip_file.file_hex));
const { binding } = CLIP;
const OUTPUT = { name: "logits", shape: [5] };
/** Wrong types on purpose. @type {any} */
const wrong = { text: "1x1", bytes: new Uint8Array(32).fill(77), number: 3 };

/** @param {object} options */
const model = (options) => new RemoteModel("http://host/actions", /** @type {any} */ ({ binding, output: OUTPUT, ...options }));

/** @type {[string, () => unknown, RegExp][]} */
const CASES = [
  ["views as text", () => new EncryptedClip({ values: CLIP.values, binding, views: wrong.text }), /the views as a Views, received a string/],
  ["a binding as text", () => new EncryptedClip({ values: CLIP.values, binding: wrong.text }), /as a Binding, received a string/],
  ["a geometry as text", () => new Binding({ ...binding, scheme: "lcve-1", geometry: wrong.text }), /as a Geometry, received a string/],
  ["no options", () => new RemoteModel("http://host/actions", /** @type {any} */ (undefined)), /options as an object.* received undefined/],
  ["an unknown option", () => model({ timeout: 3 }), /expected options of binding, .*, received timeout/],
  ["no output", () => model({ output: undefined }), /output as an object with a name and a shape, received undefined/],
  ["seconds as text", () => model({ seconds: "30" }), /seconds as a number above 0, .*, received a string/],
  ["seconds that are no number", () => model({ seconds: NaN }), /seconds as a number above 0, .*, received the number NaN/],
  ["a token as a number", () => model({ token: 1234 }), /token as a string, received the number 1234/],
  ["a sealing key as bytes", () => model({ sealTo: wrong.bytes }), /sealTo as a SealingPublicKey, received an object \(Uint8Array\)/],
  ["fetch as text", () => model({ fetch: wrong.text }), /fetch as a function, received a string/],
  ["a file of bytes", () => writeClipFile(wrong.bytes), /an EncryptedClip, received an object \(Uint8Array\)/],
  ["bytes of a padding alone", () => CLIP.bytes(0, 1, wrong.number), /options as an object, such as { pad }, received the number 3/],
  ["frames as text", () => frameIndices(/** @type {any} */ ("9"), /** @type {any} */ ({})), /frames of the video as a whole number .*, received a string/],
  ["views as Views", () => frameIndices(9, /** @type {any} */ ({}), /** @type {any} */ (new Views())), /received an object \(Views\)/],
];
for (const [name, act, message] of CASES) {
  test(`${name}: refused`, () => assert.throws(act, isClear(message)));
}

/** @type {[string, () => Promise<unknown>, RegExp][]} */
const LATER = [
  ["a key file by its path", () => SecurityKey.read(wrong.text), /bytes as a Uint8Array, .* received a string/],
  ["settings by their path", () => readClientSettings(wrong.text), /bytes as a Uint8Array, .* received a string/],
  ["a key as bytes", () => Client.open(wrong.bytes, wrong.bytes), /the key as a SecurityKey, received an object \(Uint8Array\)/],
  ["a run of bytes", () => model({}).run(wrong.bytes), /an EncryptedClip, received an object \(Uint8Array\)/],
  ["sealing to text", () => sealClip(CLIP, wrong.text), /as a SealingPublicKey, received a string/],
  ["opening with a security key", () => openSealedClip(wrong.bytes, wrong.text), /as a SealingKey, received a string/],
];
for (const [name, act, message] of LATER) {
  test(`${name}: refused`, () => assert.rejects(act, isClear(message)));
}

/** @param {RegExp} message */
function isClear(message) {
  return (/** @type {unknown} */ error) => {
    assert.ok(error instanceof ArgumentError, String(error));
    assert.match(error.message, message);
    assert.match(error.message, /^expected /);
    assert.doesNotMatch(error.message, /77/); // bytes may be a key
    assert.ok(error.hint);
    return true;
  };
}

test("numbers as text are shown as text", () => {
  const geometry = /** @type {any} */ (7);
  assert.throws(() => new Views(/** @type {any} */ ("1"), /** @type {any} */ ("1")), /received "1" and "1"/);
  assert.throws(() => Geometry.parse(geometry), /expected a geometry such as .*, received 7/);
  assert.throws(() => model({ pad: "16" }), /received a padding of "16"/);
});

test("options of a client", async () => {
  const key = await SecurityKey.read(fromHex(VECTORS.key.file));
  const names = { classes: ["a", "b"], problemType: "single_label_classification", hiddenLabels: false };
  const settings = /** @type {any} */ ({ binding, ...names, output: { name: "logits", shape: [2] } });
  const client = await Client.open(settings, key);
  const frames = new Uint8Array(binding.geometry.clipValues);
  const any = /** @type {any} */ (client);
  assert.throws(() => any.encrypt(frames, { views: "1x1" }), isClear(/the views as a Views, received a string/));
  assert.throws(() => any.encrypt(frames, { quality: QUALITIES.fine }), isClear(/expected options of views, step, received quality/));
  assert.throws(() => any.encrypt(frames, "1x1"), isClear(/options as an object, such as { views }, received a string/));
  assert.throws(() => any.decrypt(frames), isClear(/an EncryptedClip/));
  const logits = new Float32Array(2);
  for (const top of ["3", 0, -1, NaN, 1.5]) assert.throws(() => any.read(logits, { top }), isClear(/top as a whole number of at least 1/));
  assert.throws(() => any.read([...logits]), isClear(/logits as Float32Array or Float64Array, received an object \(Array\)/));
});
