/** Every vector of docs/reference/vectors.json that concerns a client. Python is tested against the same file. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fromHex, toHex } from "../src/bytes.js";
import { Binding, Cipher, Client, EncryptedClip, Geometry, LAYOUTS, readClipFile, SecurityKey, Views, writeClipFile } from "../src/index.js";
import { deriveOrder } from "../src/orders.js";
import { predictions } from "../src/predictions.js";

const VECTORS = JSON.parse(readFileSync(new URL("../../../docs/reference/vectors.json", import.meta.url), "utf-8"));
const SALT = fromHex(VECTORS.salt);
const key = await SecurityKey.read(fromHex(VECTORS.key.file));

/** @param {Uint8Array} bytes */
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** @param {Uint32Array} order */
function digest(order) {
  const bytes = new Uint8Array(4 * order.length);
  const view = new DataView(bytes.buffer);
  order.forEach((entry, index) => view.setUint32(4 * index, entry, true));
  return { begins: [...order.subarray(0, 6)], sha256: sha256(bytes) };
}

/** @param {number} classes */
const labelOrder = (classes) => deriveOrder(key, `lcve-1/label-order/${classes}`, classes, SALT);

test("key file, key id and derived key", async () => {
  assert.equal(key.keyId, VECTORS.key.id);
  assert.equal((await key.derive(VECTORS.derived_key.name)).keyId, VECTORS.derived_key.id);
});

test("orders", async () => {
  const { geometry: text, classes, K1, K2, K3 } = VECTORS.orders;
  const geometry = Geometry.parse(text);
  assert.deepEqual(digest(await deriveOrder(key, `lcve-1/cube-order/${text}`, geometry.cubes, SALT)), K1);
  assert.deepEqual(digest(await deriveOrder(key, `lcve-1/pixel-order/${text}`, geometry.values, SALT)), K2);
  assert.deepEqual(digest(await labelOrder(classes)), K3);
});

test("draws that would favour small numbers are discarded", async () => {
  const { classes, rejected, K3 } = VECTORS.rejected_draws;
  assert.equal(rejected.length, 1);
  assert.deepEqual(digest(await labelOrder(classes)), K3);
});

for (const vector of VECTORS.clips) {
  test(`clips of ${vector.geometry}`, async () => {
    const geometry = Geometry.parse(vector.geometry);
    const clip = Uint8Array.from({ length: geometry.clipValues }, (_, index) => (index * 7919) % 251);
    assert.equal(sha256(clip), vector.plain_sha256);
    const cipher = await Cipher.create(key, { salt: SALT, geometry });
    for (const layout of LAYOUTS) {
      const encrypted = cipher.encrypt(clip, layout);
      assert.equal(sha256(encrypted), vector[`${layout}_sha256`]);
      assert.deepEqual(cipher.decrypt(encrypted, layout), clip);
    }
  });
}

test("labels and probabilities", async () => {
  const { classes, K3, received, probabilities } = VECTORS.labels;
  const order = await labelOrder(classes);
  assert.deepEqual([...order], K3);
  const binding = new Binding({ scheme: "lcve-1", keyId: key.keyId, salt: VECTORS.salt, geometry: Geometry.parse("2x4x6x3/1x2x2"), layout: "cubes" });
  const names = Array.from({ length: classes }, (_, index) => `class ${index}`);
  const settings = /** @type {any} */ ({ binding, classes: names, problemType: "single_label_classification", hiddenLabels: true, output: { name: "logits", shape: [classes] } });
  const client = await Client.open(settings, key);
  const found = client.read(Float64Array.from(received.flat()), { top: classes });
  assert.deepEqual(found.map(({ index }) => index), [1, 0, 4, 3, 2]);
  for (const { index, probability } of found) assert.ok(Math.abs(Number(probability) - probabilities[index]) < 1e-12);
});

test("tokens", async () => {
  const { geometry: text, received, plain } = VECTORS.tokens;
  const geometry = Geometry.parse(text);
  const binding = new Binding({ scheme: "lcve-1", keyId: key.keyId, salt: VECTORS.salt, geometry, layout: "cubes" });
  const output = { name: "tokens", shape: [received.length, received[0].length] };
  const settings = /** @type {any} */ ({ binding, classes: [], problemType: "regression", hiddenLabels: false, output });
  const client = await Client.open(settings, key);
  assert.deepEqual([...client.plainOrder(Float64Array.from(received.flat()))[0]], plain.flat());
  assert.throws(() => client.read(Float64Array.from(received.flat())), { name: "MismatchError" });
});

test("sigmoids and values are not normalised over the classes", () => {
  const views = [Float64Array.of(0, 800, -800), Float64Array.of(0, 0, 0)];
  const names = ["a", "b", "c"];
  assert.deepEqual(predictions(views, names, "multi_label_classification", 2), [
    { index: 1, name: "b", probability: 0.75 },
    { index: 0, name: "a", probability: 0.5 },
  ]);
  assert.deepEqual(predictions(views, names, "regression", 1).map(({ value }) => value), [0, 400, -400]);
});

test("clip file", async () => {
  const { geometry: text, layout, views, plain_hex: plain, file_hex: file } = VECTORS.clip_file;
  const cipher = await Cipher.create(key, { salt: SALT, geometry: Geometry.parse(text) });
  const values = cipher.encrypt(fromHex(plain), layout);
  const clip = new EncryptedClip({ values, binding: cipher.binding(layout), views: Views.parse(views) });
  assert.equal(toHex(writeClipFile(clip)), file);
  const read = await readClipFile(new Blob([fromHex(file)]));
  assert.equal(toHex(cipher.decrypt(read.values, read.binding.layout)), plain);
});
