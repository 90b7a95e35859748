/** The scheme `lcve-dct-1`: every vector of docs/reference/dct-vectors.json, and packed clips that are not right. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { deflateRawSync, inflateRawSync } from "node:zlib";

import { fromHex } from "../src/bytes.js";
import { plainOrders, Quantiser } from "../src/dct/coefficients.js";
import { deflate } from "../src/dct/deflate.js";
import { inflate } from "../src/dct/inflate.js";
import { pack, unpack } from "../src/dct/packing.js";
import { CubeTransform } from "../src/dct/transform.js";
import { Binding, Client, CoefficientCipher, EncryptedClip, EncryptedClipError, Geometry, QUALITIES, readClipFile, RemoteModel, SecurityKey, Views, writeClipFile } from "../src/index.js";
import { deriveOrder, deriveStream } from "../src/orders.js";

const read = (/** @type {string} */ name) => JSON.parse(readFileSync(new URL(`../../../docs/reference/${name}`, import.meta.url), "utf-8"));
const VECTORS = read("dct-vectors.json");
const SALT = fromHex(VECTORS.salt);
const key = await SecurityKey.read(fromHex(read("vectors.json").key.file));
const GEOMETRY = Geometry.parse(VECTORS.packed.geometry);
const PACKED = fromHex(VECTORS.packed.packed_hex);
const EXPECTED = VECTORS.packed.encrypted.flat();

/** @param {string} name */
const label = (name) => `lcve-dct-1/${name}/${VECTORS.orders.geometry}`;
/** @param {Uint8Array} bytes */
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** @param {Uint32Array} order */
function digest(order) {
  const bytes = new Uint8Array(4 * order.length);
  order.forEach((entry, index) => new DataView(bytes.buffer).setUint32(4 * index, entry, true));
  return { begins: [...order.subarray(0, 6)], sha256: sha256(bytes) };
}

test("orders and signs", async () => {
  const { geometry: text, classes, K1, K2, K3, signs } = VECTORS.orders;
  const { cubes, values } = Geometry.parse(text);
  assert.deepEqual(digest(await deriveOrder(key, label("cube-order"), cubes, SALT)), K1);
  assert.deepEqual(digest(await deriveOrder(key, label("coefficient-order"), values, SALT)), K2);
  assert.deepEqual(digest(await deriveOrder(key, `lcve-dct-1/label-order/${classes}`, classes, SALT)), K3);
  const bits = await deriveStream(key, label("coefficient-sign"), values / 8, SALT);
  const found = Int8Array.from({ length: values }, (_, i) => 1 - 2 * ((bits[i >> 3] >> (i & 7)) & 1));
  assert.deepEqual({ begins: [...found.subarray(0, 12)], sha256: sha256(new Uint8Array(found.buffer)) }, signs);
});

test("a clip, its coefficients, and its encryption", async () => {
  const { geometry: text, step, plain_hex: plain, coefficients, encrypted } = VECTORS.clip;
  const geometry = Geometry.parse(text);
  const quantised = new Int16Array(geometry.clipValues);
  new Quantiser(geometry).quantise(fromHex(plain), step, plainOrders(geometry), quantised);
  assert.deepEqual([...quantised], coefficients.flat());
  const cipher = await CoefficientCipher.create(key, { salt: SALT, geometry });
  const made = cipher.encrypt(fromHex(plain), step);
  assert.deepEqual([[...made.values], [...made.steps]], [encrypted.flat(), [step]]);
  assert.equal(cipher.binding().scheme, "lcve-dct-1");
  const largest = cipher.decrypt(made).reduce((most, value, index) => Math.max(most, Math.abs(value - fromHex(plain)[index])), 0);
  assert.ok(largest > 0.01 && largest < step * Math.sqrt(geometry.values));
});

test("packed clips", async () => {
  for (const data of [PACKED, fromHex(VECTORS.packed.padded_hex)]) {
    const { values, steps } = await unpack(data, GEOMETRY, 1);
    assert.deepEqual([[...values], [...steps]], [EXPECTED, [VECTORS.packed.step]]);
  }
  const twice = await unpack(Uint8Array.from([...PACKED, ...fromHex(VECTORS.packed.padded_hex)]), GEOMETRY, 2);
  assert.deepEqual([...twice.values], [...EXPECTED, ...EXPECTED]);
  const own = pack(Int16Array.from(EXPECTED), VECTORS.packed.step, GEOMETRY, 512);
  assert.equal(own.length, 512);
  assert.deepEqual([...(await unpack(own, GEOMETRY, 1)).values], EXPECTED);
});

test("clip file", async () => {
  const { views, file_hex: file } = VECTORS.clip_file;
  const clip = await readClipFile(new Blob([fromHex(file)]));
  assert.deepEqual([clip.binding.scheme, String(clip.views), [...clip.coefficients.values]], ["lcve-dct-1", views, EXPECTED]);
  const again = await readClipFile(writeClipFile(clip, { pad: 1000 }));
  assert.deepEqual(again.coefficients, clip.coefficients);
  assert.throws(() => clip.values, RangeError);
});

test("the transform is orthonormal, of cubes with even, odd and single sides", () => {
  for (const text of ["4x8x8x3/2x4x4", "2x14x14x3/1x14x14", "4x4x6x1/2x2x3", "3x5x7x2/3x5x7", "2x2x2x4/1x1x1", "6x12x20x3/6x12x20"]) {
    const transform = new CubeTransform(Geometry.parse(text));
    const plain = Float64Array.from(transform.cube, (_, index) => ((index * 7919) % 251) - 128);
    const energy = (/** @type {Float64Array} */ values) => values.reduce((sum, value) => sum + value * value, 0);
    transform.cube.set(plain);
    transform.forward();
    assert.ok(Math.abs(energy(transform.cube) / energy(plain) - 1) < 1e-12, text);
    transform.inverse();
    assert.ok(transform.cube.every((value, index) => Math.abs(value - plain[index]) < 1e-9), text);
  }
});

/** @type {[string, (index: number) => number][]} */
const CONTENTS = [
  ["zeros", () => 0],
  ["noise", (index) => createHash("sha256").update(String(index)).digest()[0]],
  ["few values", (index) => (index % 97 ? 0 : index % 251)],
  ["counts that need long codes", (index) => Math.clz32(index)],
];
for (const [name, byte] of CONTENTS) {
  test(`zlib inflates what is deflated: ${name}`, async () => {
    for (const size of [0, 1, 2, 3, 4, 260, 32767, 32768, 70000]) {
      const content = Uint8Array.from({ length: size }, (_, index) => byte(index));
      for (const runs of [false, true]) {
        const stream = deflate(content, { runs });
        assert.deepEqual(new Uint8Array(inflateRawSync(stream)), content);
        assert.ok(stream.length <= size + 6 * Math.ceil(size / 32768) + 2);
        assert.deepEqual(await inflate(stream, size), content);
      }
    }
  });
}

test("a stream ends at its length, and has what it says", async () => {
  const content = Uint8Array.from({ length: 5000 }, (_, index) => index % 9);
  const bomb = new Uint8Array(deflateRawSync(new Uint8Array(2 ** 24)));
  const stream = new Uint8Array(deflateRawSync(content));
  assert.deepEqual(await inflate(stream, content.length), content);
  for (const [bytes, size] of /** @type {[Uint8Array, number][]} */ ([
    ...[[stream, 4999], [stream, 5001], [stream.subarray(0, -1), 5000], [Uint8Array.from([...stream, 0]), 5000]],
    ...[[Uint8Array.from([...stream, ...stream]), 5000], [new Uint8Array(), 0], [Uint8Array.of(7, 7, 7, 255), 4], [bomb, 5000]],
  ])) {
    assert.equal(await inflate(bytes, size), undefined);
  }
});

/** @param {Uint8Array} data */
async function isRefused(data) {
  return await unpack(data, GEOMETRY, 1).then(
    () => false,
    (error) => {
      assert.ok(error instanceof EncryptedClipError, String(error));
      return true;
    },
  );
}

test("every flipped byte and every cut is refused", async () => {
  for (let place = 0; place < PACKED.length; place++) {
    assert.ok(await isRefused(PACKED.map((byte, index) => (index === place ? byte ^ 64 : byte))), `byte ${place}`);
    assert.ok(await isRefused(PACKED.subarray(0, place)), `${place} bytes`);
  }
  assert.ok(await isRefused(Uint8Array.from([...PACKED, 0])));
  assert.ok(await isRefused(new Uint8Array()));
});

test("steps, coefficients and padding out of range are not packed", () => {
  const [zeros, noise] = [new Int16Array(GEOMETRY.clipValues), new Int16Array(GEOMETRY.clipValues).fill(2049)];
  for (const step of [0.99, 256.1, NaN, Infinity, 0]) assert.throws(() => pack(zeros, step, GEOMETRY), /expected a step from 1 to 256/);
  assert.throws(() => pack(noise, 16, GEOMETRY), /-2048 to 2048/);
  for (const pad of [0, 1.5, 2 ** 24 + 1]) assert.throws(() => pack(zeros, 16, GEOMETRY, pad), /multiple of 1 to 16777216/);
});

/** @param {Partial<Record<string, unknown>>} [changed] */
function settings(changed = {}) {
  const text = { scheme: "lcve-dct-1", key_id: key.keyId, salt: VECTORS.salt, geometry: "2x4x6x3/1x2x2", layout: "cubes" };
  const preprocess = {
    ...{ frames: 2, stride: 1, sampling: "kinetics", short_side: null, size: null, resample: "bilinear" },
    ...{ crop: [4, 6], crop_rounding: "nearest", channel_order: "rgb" },
  };
  const rest = { classes: ["a", "b"], problem_type: "single_label_classification", labels: "hidden" };
  const record = { format: 2, ...text, ...rest, preprocess, manifest_sha256: "0".repeat(64), source: null, assumptions: [], ...changed };
  return new TextEncoder().encode(JSON.stringify(record));
}

test("a client encrypts with the quality of each clip, and decrypts to what the model sees", async () => {
  const client = await Client.open(settings(), key);
  const frames = fromHex(VECTORS.clip.plain_hex);
  const error = (/** @type {number} */ step) => {
    const decrypted = Array.from(client.decrypt(client.encrypt(frames, { step })));
    return decrypted.reduce((sum, value, index) => sum + (value - frames[index]) ** 2, 0);
  };
  assert.ok(error(QUALITIES.fine) < error(QUALITIES.normal) && error(QUALITIES.normal) < error(QUALITIES.small));
  assert.deepEqual([...client.encrypt(frames).coefficients.steps], [QUALITIES.normal]);
  const two = client.encrypt(Uint8Array.from([...frames, ...frames]), { views: new Views(1, 2), step: 4 });
  assert.deepEqual((await readClipFile(writeClipFile(two))).coefficients, two.coefficients);
  assert.throws(() => client.encrypt(frames, { step: 0.5 }), { name: "EncryptedClipError", message: /a step from 1 to 256/ });
  client.forget();
  assert.throws(() => client.encrypt(frames), /forgotten/);
  assert.throws(() => client.decrypt(two), /forgotten/);
});

test("the schemes do not mix", async () => {
  const [dct, lcve] = [await Client.open(settings(), key), await Client.open(settings({ scheme: "lcve-1" }), key)];
  const frames = fromHex(VECTORS.clip.plain_hex);
  assert.throws(() => lcve.encrypt(frames, { step: 16 }), { name: "MismatchError", message: /no quality/ });
  assert.throws(() => lcve.decrypt(dct.encrypt(frames)), { name: "MismatchError", message: /scheme/ });
  assert.throws(() => dct.decrypt(lcve.encrypt(frames)), { name: "MismatchError", message: /scheme/ });
  assert.throws(() => writeClipFile(lcve.encrypt(frames), { pad: 16 }), /same length/);
  const { binding } = dct.settings;
  assert.throws(() => new EncryptedClip({ values: frames, binding }), /coefficients and steps/);
  assert.throws(() => new Binding({ ...binding, layout: "video" }), /layout cubes/);
  await assert.rejects(Client.open(settings({ layout: "video" }), key), { name: "ArtifactError" });
  const large = { geometry: "2x1026x1026x3/2x513x1", preprocess: undefined };
  const record = JSON.parse(new TextDecoder().decode(settings()));
  Object.assign(record, { geometry: large.geometry, preprocess: { ...record.preprocess, crop: [1026, 1026] } });
  await assert.rejects(Client.open(new TextEncoder().encode(JSON.stringify(record)), key), { name: "ArtifactError", message: /at most 1024/ });
});

test("a padding that cannot be is refused before a server is asked", () => {
  const about = { scheme: "lcve-dct-1", keyId: key.keyId, salt: VECTORS.salt, geometry: GEOMETRY, layout: /** @type {const} */ ("cubes") };
  const [packed, plain] = ["lcve-dct-1", "lcve-1"].map((scheme) => new Binding({ ...about, scheme }));
  const output = { name: "logits", shape: [3] };
  const model = (/** @type {Binding} */ binding, /** @type {number} */ pad) => new RemoteModel("http://host:8000/actions", { binding, output, pad });
  for (const pad of [0, 1.5, NaN, 2 ** 24 + 1]) {
    assert.throws(() => model(packed, pad), (error) => error instanceof EncryptedClipError && /multiple of 1 to/.test(error.message));
  }
  assert.throws(() => model(plain, 4096), /same length/);
  model(packed, 2 ** 24);
  model(plain, 1);
});

test("a request has packed clips, as many as a server takes, padded if that is asked for", async () => {
  const client = await Client.open(settings(), key);
  const { binding, output } = client.settings;
  const clip = client.encrypt(Uint8Array.from({ length: 3 * GEOMETRY.clipValues }, (_, index) => index % 200));
  const [described, configured] = [{ shape: [-1] }, { dims: [-1] }];
  const metadata = {
    ...{ name: "actions", versions: ["1"], inputs: [{ name: "packed", datatype: "UINT8", ...described }] },
    outputs: [{ name: "logits", datatype: "FP32", shape: [-1, 2] }],
  };
  const config = {
    ...{ name: "actions", max_batch_size: 2, input: [{ name: "packed", data_type: "TYPE_UINT8", ...configured }] },
    ...{ output: [{ name: "logits", data_type: "TYPE_FP32", dims: [2] }], parameters: {} },
  };
  /** @type {{inputs: object[], data: Uint8Array}[]} */
  const sent = [];
  const fetch = async (/** @type {any} */ url, /** @type {any} */ init) => {
    if (init.method === "GET") return Response.json(url.endsWith("/config") ? config : metadata);
    const length = Number(init.headers["Inference-Header-Content-Length"]);
    const { inputs } = JSON.parse(new TextDecoder().decode(init.body.subarray(0, length)));
    sent.push({ inputs, data: init.body.subarray(length) });
    const clips = 3 - sent.length;
    return Response.json({ model_name: "actions", model_version: "1", outputs: [{ name: "logits", datatype: "FP32", shape: [clips, 2], data: Array(2 * clips).fill(0) }] });
  };
  await new RemoteModel("http://host:8000/actions", { binding, output, pad: 4096, fetch }).run(clip);
  assert.deepEqual(sent.map(({ data }) => data.length), [2 * 4096, 4096]);
  assert.deepEqual(sent[0].inputs, [{ name: "packed", shape: [8192], datatype: "UINT8", parameters: { binary_data_size: 8192 } }]);
  const received = await unpack(Uint8Array.from(sent.flatMap(({ data }) => [...data])), GEOMETRY, 3);
  assert.deepEqual(received, clip.coefficients);
  const other = { ...config, input: [{ ...config.input[0], name: "clips" }] };
  const elsewhere = async (/** @type {any} */ url) => Response.json(url.endsWith("/config") ? other : metadata);
  await assert.rejects(new RemoteModel("http://host:8000/actions", { binding, output, fetch: elsewhere }).run(clip), { name: "MismatchError" });
});

test("a server to which a padded request is too large is an error that names the padding", async () => {
  const { binding, output } = (await Client.open(settings(), key)).settings;
  const fetch = async () => Response.json({ error: "at most 100 bytes" }, { status: 413 });
  const refused = (/** @type {number} */ pad, /** @type {RegExp} */ hint) =>
    assert.rejects(new RemoteModel("http://host:8000/actions", { binding, output, pad, fetch }).connect(), (/** @type {any} */ error) => {
      assert.match(error.hint, hint);
      return error.name === "TooLargeError";
    });
  await refused(4096, /^clips are padded to multiples of 4096 bytes: pad them less/);
  await refused(1, /^send fewer clips at once/);
});

test("neither cipher nor client shows its orders and signs", async () => {
  const cipher = await CoefficientCipher.create(key, { salt: SALT, geometry: GEOMETRY });
  assert.deepEqual([Object.keys(cipher), Object.keys(await Client.open(settings(), key))], [["geometry"], ["settings"]]);
  assert.equal(JSON.stringify(cipher), JSON.stringify({ geometry: GEOMETRY }));
});
