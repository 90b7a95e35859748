/** Sealing against docs/reference/sealing-vectors.json, and what must be refused. Python is tested against the same file. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { inspect } from "node:util";

import { concatBytes, fromHex, toHex } from "../src/bytes.js";
import {
  Binding,
  EncryptedClip,
  EncryptedClipError,
  KeyFileError,
  MismatchError,
  openSealedClip,
  readClipFile,
  RemoteModel,
  sealClip,
  SealingError,
  SealingKey,
  SealingPublicKey,
  SessionError,
  Views,
} from "../src/index.js";
import { infoOf, readEnvelope, seal } from "../src/sealing/envelope.js";
import { parseHeader, writeHeader } from "../src/sealing/header.js";
import { importPrivate } from "../src/sealing/hpke.js";
import { SealedRequest } from "../src/sealing/messages.js";
import { openAnswer } from "../src/sealing/wire.js";

const VECTORS = JSON.parse(readFileSync(new URL("../../../docs/reference/sealing-vectors.json", import.meta.url), "utf-8"));
const [OURS, HYBRID] = VECTORS.suites;
const BINDING = Binding.parse(VECTORS.binding);
const VALUES = fromHex(OURS.values_hex);
const KINDS = /** @type {const} */ (["clip", "request", "answer"]);
const PKCS8 = "302e020100300506032b656e04220420";

/** @param {string} text */
const bytes = (text) => new TextEncoder().encode(text);
/** @param {string} secret 64 hex digits */
const pem = (secret) => bytes(`-----BEGIN PRIVATE KEY-----\n${Buffer.from(PKCS8 + secret, "hex").toString("base64")}\n-----END PRIVATE KEY-----\n`);
/** @param {Uint8Array} raw */
const publicPem = (raw) => bytes(`-----BEGIN PUBLIC KEY-----\n${Buffer.concat([fromHex("302a300506032b656e032100"), raw]).toString("base64")}\n-----END PUBLIC KEY-----\n`);

const key = await SealingKey.read(bytes(OURS.private_file));
const reply = await SealingKey.read(pem(OURS.reply_secret));
const clip = new EncryptedClip({ values: VALUES, binding: BINDING });

test("keys and fingerprints", async () => {
  assert.equal(key.publicKey.fingerprint, OURS.fingerprint);
  const read = await SealingPublicKey.read(new Blob([publicPem(key.publicKey.raw)]));
  assert.deepEqual(read, key.publicKey);
  assert.equal((await SealingPublicKey.read(bytes(new TextDecoder().decode(publicPem(read.raw)).replaceAll("\n", "\r\n")))).fingerprint, OURS.fingerprint);
});

for (const [number, kind] of KINDS.entries()) {
  test(`the ${kind} of the vectors, to the byte`, async () => {
    const { header: text, info_hex: info, file_hex: file } = OURS[kind];
    const header = parseHeader(bytes(text));
    assert.equal(new TextDecoder().decode(writeHeader(header)), text);
    assert.equal(toHex(await infoOf(BINDING, kind, bytes(text))), info);
    const ephemeral = await importPrivate(fromHex(PKCS8 + ["40", "50", "60"][number].repeat(32)));
    const content = { clip: VALUES, request: concatBytes(reply.publicKey.raw, VALUES), answer: fromHex(OURS.logits_hex) }[kind];
    const to = kind === "answer" ? reply : key;
    assert.equal(toHex(await seal(header, content, to.publicKey, ephemeral)), file);
    const { head, body } = readEnvelope(fromHex(file), kind);
    assert.deepEqual(await to.decrypt(body, await infoOf(BINDING, kind, head)), content);
  });
}

test("a clip is sealed to a file, and opened again", async () => {
  const views = new Views(2, 1);
  const two = new EncryptedClip({ values: concatBytes(VALUES, VALUES.map((byte) => byte ^ 255)), binding: BINDING, views });
  const file = await sealClip(two, key.publicKey);
  assert.deepEqual(await openSealedClip(new Blob([file]), key), two);
  assert.notDeepEqual(await sealClip(two, key.publicKey), file); // an ephemeral key of its own
  assert.deepEqual((await openSealedClip(fromHex(OURS.clip.file_hex), key)).values, VALUES);
});

test("a change anywhere is refused, and so is a part or more", async () => {
  const file = await sealClip(clip, key.publicKey);
  for (let place = 0; place < file.length; place++) {
    const changed = file.slice();
    changed[place] ^= 1;
    await assert.rejects(openSealedClip(changed, key), (error) => error instanceof SealingError || error instanceof MismatchError);
  }
  for (const other of [file.subarray(0, -1), concatBytes(file, new Uint8Array(1)), file.subarray(0, 11), file.subarray(0, 100), new Uint8Array()]) {
    await assert.rejects(openSealedClip(other, key), SealingError);
  }
});

test("another key, another purpose and another model are refused", async () => {
  const file = await sealClip(clip, key.publicKey);
  await assert.rejects(openSealedClip(file, reply), /sealed to the key 25e58e34d7145507/);
  await assert.rejects(openSealedClip(fromHex(OURS.request.file_hex), key), /expected a sealed clip.*received a sealed request/);
  const { body } = readEnvelope(file, "clip");
  for (const info of [await infoOf(BINDING, "request", bytes(OURS.clip.header)), await infoOf(other(), "clip", bytes(OURS.clip.header))]) {
    await assert.rejects(key.decrypt(body, info), /another purpose/);
  }
  assert.deepEqual(await key.decrypt(body, fromHex(OURS.clip.info_hex)), VALUES);
});

/** The binding of another artifact. */
const other = () => Binding.parse({ ...VECTORS.binding, salt: "0".repeat(32) });

test("the other suite is refused with what to do", async () => {
  const expected = /** @param {any} error */ (error) => /mlkem768-x25519/.test(error.message) && /lcve web --seal-to/.test(error.hint);
  await assert.rejects(SealingKey.read(bytes(HYBRID.private_file)), (error) => error instanceof KeyFileError && expected(error));
  await assert.rejects(openSealedClip(fromHex(HYBRID.clip.file_hex), key), (error) => error instanceof SealingError && expected(error));
});

test("other files are no sealing keys, and none is shown", async () => {
  const text = OURS.private_file;
  for (const [source, words] of [
    ["", /something else/],
    [`${text} `, /something else/],
    [text.replace("MC4", "MC5"), /another algorithm/],
    [text + text, /another algorithm/],
    [text.replace("AABAgM", "=ABAgM"), /another algorithm/],
    ["x".repeat(2 ** 15), /something else/],
    [new TextDecoder().decode(publicPem(key.publicKey.raw)), /received a public key/],
  ]) {
    await assert.rejects(SealingKey.read(bytes(String(source))), (error) => {
      assert.ok(error instanceof KeyFileError && error.hint);
      assert.match(error.message, /** @type {RegExp} */ (words));
      assert.doesNotMatch(error.message, /MC4|ABAgM/);
      return true;
    });
  }
  await assert.rejects(SealingPublicKey.read(bytes(text)), /expected a public sealing key in PEM, received a private key/);
  await assert.rejects(readClipFile(fromHex(OURS.clip.file_hex)), (error) => error instanceof EncryptedClipError && /openSealedClip/.test(error.hint));
});

test("no private key can be exported, and none is shown", async (context) => {
  /** @type {CryptoKey[]} */
  const made = [];
  for (const name of /** @type {const} */ (["importKey", "deriveKey", "generateKey"])) {
    const real = /** @type {Function} */ (crypto.subtle[name]);
    context.mock.method(crypto.subtle, name, async (/** @type {unknown[]} */ ...given) => {
      const found = await real.apply(crypto.subtle, given);
      made.push(found.privateKey ?? found);
      return found;
    });
  }
  const file = bytes(OURS.private_file);
  const before = file.slice();
  const read = await SealingKey.read(file);
  await openSealedClip(await sealClip(clip, read.publicKey), read);
  await SealedRequest.of(VALUES, { count: 1, binding: BINDING, model: "actions" }, read.publicKey);
  assert.deepEqual(file, before);
  const secret = made.filter(({ type }) => type !== "public");
  assert.ok(secret.length > 10);
  assert.ok(secret.every(({ extractable }) => !extractable));
  assert.doesNotMatch(inspect(read, { depth: 9, showHidden: true }) + JSON.stringify(read), /CryptoKey/);
});

test("a public key without a shared secret gets nothing", async () => {
  const zero = await SealingPublicKey.read(publicPem(new Uint8Array(32)));
  await assert.rejects(sealClip(clip, zero), /nothing can be sealed to this public key/);
});

/** @type {[string, (text: string) => string][]} */
const HEADERS = [
  ["space", (text) => text.replace(",", ", ")],
  ["another order", (text) => text.replace(/"format":"lcve-seal-1",("geometry":"[^"]+"),/, '$1,"format":"lcve-seal-1",')],
  ["a missing member", (text) => text.replace(/,"views":"1x1"/, "")],
  ["a further member", (text) => text.replace('"suite"', '"size":1,"suite"')],
  ["a member twice", (text) => text.replace('"views"', '"views":"1x1","views"')],
  ["another format", (text) => text.replace("lcve-seal-1", "lcve-seal-2")],
  ["an unknown suite", (text) => text.replace('"x25519"', '"x448"')],
  ["upper case", (text) => text.replace("25e58e34", "25E58E34")],
  ["no JSON", () => "{"],
  ["a list", () => "[]"],
  ["null", () => "null"],
];
for (const [name, change] of HEADERS) {
  test(`a header with ${name} is refused`, () => {
    const changed = change(OURS.clip.header);
    assert.notEqual(changed, OURS.clip.header);
    assert.throws(() => parseHeader(bytes(changed)), SealingError);
  });
}

test("numbers of a header have limits, and its text is escaped as Python does it", () => {
  const text = OURS.request.header;
  for (const changed of [text.replace('"clips":1', '"clips":0'), text.replace('"clips":1', '"clips":65537'), text.replace('"clips":1', '"clips":1.0')]) {
    assert.throws(() => parseHeader(bytes(changed)), /clips: expected 1 to 65536/);
  }
  const named = text.replace('"actions"', String.raw`"\u00e9\u007f\n\ud83d\ude00\\"`);
  assert.equal(parseHeader(bytes(named)).model, "é\u007f\n😀\\");
  assert.throws(() => parseHeader(bytes(text.replace('"actions"', '"é"'))), /canonical/);
  assert.throws(() => parseHeader(bytes(text.replace('"actions"', `"${"a".repeat(257)}"`))), /256 characters/);
  const packed = text.replace('"scheme":"lcve-1"', '"scheme":"lcve-dct-1","size":7');
  assert.equal(parseHeader(bytes(packed)).size, 7);
});

/**
 * A server that opens requests with `key`, and answers with the logits of the vectors.
 *
 * @param {{offer?: string, change?: (answer: Uint8Array<ArrayBuffer>) => Uint8Array, plain?: boolean, fields?: object}} [served]
 */
function server({ offer = "required", change = (answer) => answer, plain = false, fields = {} } = {}) {
  /** @type {any[]} */
  const sent = [];
  const fetch = async (/** @type {any} */ url, /** @type {any} */ init) => {
    sent.push(init);
    if (init.method === "GET") return Response.json(url.endsWith("/config") ? config(offer) : METADATA);
    const length = Number(init.headers["Inference-Header-Content-Length"]);
    const { header, head, body } = readEnvelope(init.body.slice(length), "request");
    const content = await key.decrypt(body, await infoOf(BINDING, "request", head));
    const to = await SealingPublicKey.of(content.slice(0, 32));
    const { id, model, binding, clips } = header;
    assert.equal(content.length, 32 + 96 * Number(clips));
    const own = { kind: "answer", suite: to.suite, recipient: to.fingerprint, id, model, binding, clips, classes: 5, version: "1" };
    const answer = change(await seal(/** @type {any} */ ({ ...own, ...fields }), fromHex(OURS.logits_hex), to));
    return plain ? framed("logits", "FP32", [1, 5], fromHex(OURS.logits_hex)) : framed("sealed", "UINT8", [answer.length], answer);
  };
  return { fetch, sent };
}
const METADATA = {
  ...{ name: "actions", versions: ["1"] },
  inputs: [{ name: "clips", datatype: "UINT8", shape: [-1, ...BINDING.clipShape] }],
  outputs: [{ name: "logits", datatype: "FP32", shape: [-1, 5] }],
};
/** @param {string} offer */
const config = (offer) => ({
  ...{ name: "actions", max_batch_size: 8 },
  input: [{ name: "clips", data_type: "TYPE_UINT8", dims: BINDING.clipShape }],
  output: [{ name: "logits", data_type: "TYPE_FP32", dims: [5] }],
  parameters: offer ? { lcve_sealing: { string_value: offer } } : {},
});
/**
 * @param {string} name
 * @param {string} datatype
 * @param {number[]} shape
 * @param {Uint8Array} data
 */
function framed(name, datatype, shape, data) {
  const outputs = [{ name, datatype, shape, parameters: { binary_data_size: data.length } }];
  const head = bytes(JSON.stringify({ model_name: "actions", model_version: "1", outputs }));
  return new Response(concatBytes(head, data), { headers: { "Inference-Header-Content-Length": String(head.length) } });
}
/**
 * @param {Parameters<typeof server>[0]} [served]
 * @param {SealingPublicKey | null} [sealTo]
 */
function model(served, sealTo = key.publicKey) {
  const { fetch, sent } = server(served);
  const output = { name: "logits", shape: [5] };
  return { remote: new RemoteModel("http://host/actions", { binding: BINDING, output, fetch, ...(sealTo && { sealTo }) }), sent };
}

test("a sealed request gets its answer, and is new every time", async () => {
  const { remote, sent } = model();
  assert.deepEqual([...(await remote.run(clip))], [0.5, -1.25, 3, 0, 2]);
  await remote.run(clip);
  const posts = sent.filter(({ method }) => method === "POST");
  const headers = posts.map(({ body, headers: given }) => readEnvelope(body.slice(Number(given["Inference-Header-Content-Length"])), "request").header);
  assert.equal(new Set(headers.map(({ id }) => id)).size, 2);
  assert.ok(Math.abs(Number(headers[0].time) - Date.now()) < 600_000);
  for (const { body } of posts) assert.ok(!toHex(body).includes(OURS.values_hex));
});

/** @type {[string, Parameters<typeof server>[0], new (...given: any[]) => Error][]} */
const ANSWERS = [
  ["that was changed", { change: (answer) => answer.map((byte, place) => (place === answer.length - 1 ? byte ^ 1 : byte)) }, SealingError],
  ["that was cut off", { change: (answer) => answer.subarray(0, 40) }, SealingError],
  ["to another request", { fields: { id: "0".repeat(32) } }, SealingError],
  ["of another model", { fields: { model: "other" } }, SealingError],
  ["with another number of classes", { fields: { classes: 6 } }, SealingError],
  ["for another artifact", { fields: { binding: other() } }, SealingError],
  ["of a version that the server does not have", { fields: { version: "7" } }, SessionError],
  ["that is not sealed", { plain: true }, SessionError],
];
for (const [name, served, kind] of ANSWERS) {
  test(`an answer ${name} is one error`, async () => {
    await assert.rejects(model(served).remote.run(clip), (error) => error instanceof kind && /host/.test(error.message));
  });
}

test("an answer sealed by someone who does not have the server's key is refused", async () => {
  const request = await SealedRequest.of(VALUES, { count: 1, binding: BINDING, model: "actions" }, key.publicKey);
  const { id } = readEnvelope(request.data, "request").header;
  const forged = { kind: "answer", suite: "x25519", recipient: reply.publicKey.fingerprint, id, model: "actions", binding: BINDING, clips: 1, classes: 5, version: "1" };
  const data = await seal(/** @type {any} */ (forged), fromHex(OURS.logits_hex), reply.publicKey);
  await assert.rejects(openAnswer(request, data, { width: 5, endpoint: "host" }), /the answer of host is refused: sealed to the key/);
});

test("nothing is sent to a server that does otherwise", async () => {
  for (const { remote, sent } of [model({ offer: "" }), model({ offer: "required" }, null), model({ offer: "perhaps" })]) {
    await assert.rejects(remote.run(clip), (error) => error instanceof MismatchError && /nothing has been sent/.test(error.message));
    assert.ok(sent.every(({ method }) => method === "GET"));
  }
});
