/** The secret and the orders stay inside. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";

import { ArgumentError, Cipher, Client, Geometry, KeyFileError, LcveError, MismatchError, SecurityKey } from "../src/index.js";

const SECRET = Uint8Array.from({ length: 32 }, (_, index) => index);

/** @param {Uint8Array<ArrayBuffer>} secret */
async function keyFile(secret) {
  const head = Uint8Array.from([...new TextEncoder().encode("LCVEKEY1"), ...secret]);
  return Uint8Array.from([...head, ...new Uint8Array(await crypto.subtle.digest("SHA-256", head)).subarray(0, 8)]);
}

/** @param {SecurityKey} key */
function settings(key) {
  const text = { scheme: "lcve-1", key_id: key.keyId, salt: "00".repeat(16), geometry: "2x4x4x3/1x2x2", layout: "cubes" };
  const preprocess = {
    ...{ frames: 2, stride: 1, sampling: "kinetics", short_side: null, size: null, resample: "bilinear" },
    ...{ crop: [4, 4], crop_rounding: "nearest", channel_order: "rgb" },
  };
  const rest = { classes: ["a", "b"], problem_type: "single_label_classification", labels: "hidden" };
  const record = { format: 2, ...text, ...rest, preprocess, manifest_sha256: "0".repeat(64), source: null, assumptions: [] };
  return new TextEncoder().encode(JSON.stringify(record));
}

test("no key that is imported or derived can be exported", async (context) => {
  const { importKey, deriveKey } = crypto.subtle;
  /** @type {CryptoKey[]} */
  const made = [];
  const spy = (/** @type {Function} */ real) =>
    async function (/** @type {unknown[]} */ ...given) {
      const key = await real.apply(crypto.subtle, given);
      made.push(key);
      return key;
    };
  context.mock.method(crypto.subtle, "importKey", spy(importKey));
  context.mock.method(crypto.subtle, "deriveKey", spy(deriveKey));
  const key = await SecurityKey.read(await keyFile(SECRET));
  await Client.open(settings(key), await SecurityKey.read(await keyFile(SECRET)));
  await key.derive("camera-7");
  assert.equal(made.length, 3 + 3);
  assert.deepEqual(made.map(({ extractable }) => extractable), made.map(() => false));
  await assert.rejects(crypto.subtle.exportKey("raw", made[0]));
});

test("neither key, cipher nor client shows its secrets", async () => {
  const key = await SecurityKey.read(await keyFile(SECRET));
  const geometry = Geometry.parse("2x4x4x3/1x2x2");
  const cipher = await Cipher.create(key, { salt: new Uint8Array(16), geometry });
  const client = await Client.open(settings(key), key);
  const plain = inspect(key, { depth: 9, showHidden: true }) + inspect(cipher, { depth: 9 }) + JSON.stringify([key, cipher]);
  assert.doesNotMatch(plain, /00010203|0, *1, *2, *3|CryptoKey/);
  assert.deepEqual(Object.keys(key), []);
  assert.deepEqual(Object.keys(cipher), ["geometry"]);
  assert.deepEqual(Object.keys(client), ["settings"]);
});

test("reading leaves the caller's bytes alone, and errors quote none of them", async () => {
  const file = await keyFile(SECRET);
  const before = file.slice();
  await SecurityKey.read(file);
  assert.deepEqual(file, before);
  for (const bad of [file.subarray(8), file.subarray(0, 47), Uint8Array.from([...file, 0]), file.map((byte, i) => (i === 20 ? 0xab : byte))]) {
    await assert.rejects(SecurityKey.read(bad), (error) => {
      assert.ok(error instanceof KeyFileError && error.hint);
      assert.doesNotMatch(error.message, /[0-9a-f]{6}|ab/);
      return true;
    });
  }
});

test("each fault of a key file has its own message", async () => {
  const file = await keyFile(SECRET);
  const said = async (/** @type {Uint8Array<ArrayBuffer>} */ bytes) => {
    const error = await SecurityKey.read(new Blob([bytes])).catch((caught) => caught);
    assert.ok(error instanceof KeyFileError);
    return error.message;
  };
  assert.match(await said(new Uint8Array()), /does not begin/);
  assert.match(await said(file.subarray(1)), /does not begin/);
  assert.match(await said(file.subarray(0, 5)), /48 bytes, received 5/);
  assert.match(await said(new Uint8Array([...file, ...file])), /48 bytes, received more/);
  assert.match(await said(file.map((byte, i) => (i === 40 ? byte ^ 1 : byte))), /checksum/);
});

test("a forgotten client answers nothing", async () => {
  const key = await SecurityKey.read(await keyFile(SECRET));
  const client = await Client.open(settings(key), key);
  const clip = client.encrypt(new Uint8Array(96));
  client.forget();
  assert.throws(() => client.encrypt(new Uint8Array(96)), /forgotten/);
  assert.throws(() => client.decrypt(clip), /forgotten/);
  assert.throws(() => client.read(Float32Array.of(1, 2)), /forgotten/);
});

test("another key, another artifact and another model are refused", async () => {
  const key = await SecurityKey.read(await keyFile(SECRET));
  const other = await key.derive("other");
  await assert.rejects(Client.open(settings(key), other), MismatchError);
  const [client, theirs] = [await Client.open(settings(key), key), await Client.open(settings(other), other)];
  assert.throws(() => client.decrypt(theirs.encrypt(new Uint8Array(96))), MismatchError);
  assert.throws(() => client.read(new Float32Array(3)), MismatchError);
  for (const bad of [Float32Array.of(), Float32Array.of(1, NaN), Float32Array.of(Infinity, 1)]) {
    assert.throws(() => client.read(bad), LcveError);
  }
  assert.throws(() => client.encrypt(new Uint8Array(95)), /whole number of clips/);
  assert.throws(() => client.encrypt(new Uint8Array(0)), /whole number of clips/);
  assert.throws(() => client.encrypt(/** @type {any} */ (new Float32Array(96))), ArgumentError);
});
