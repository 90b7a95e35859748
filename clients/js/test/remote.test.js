/** A server that is right, and servers that are not. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { requestBody } from "../src/bodies.js";
import { fromHex, toHex } from "../src/bytes.js";
import {
  DeadlineError,
  DeniedError,
  MismatchError,
  readClipFile,
  RemoteModel,
  RequestError,
  SessionError,
  UnavailableError,
} from "../src/index.js";

const VECTORS = JSON.parse(readFileSync(new URL("../../../docs/reference/vectors.json", import.meta.url), "utf-8"));
const LENGTH = "Inference-Header-Content-Length";
const CLIP = await readClipFile(fromHex(VECTORS.clip_file.file_hex));
const TOKEN = "mF_9.B5f-4.1JqM~planted/token+that==";
const SHAPE = [-1, ...CLIP.binding.clipShape];
const PARAMETERS = Object.entries(VECTORS.http_request.header.parameters).map(([name, text]) => [name, { string_value: text }]);

const METADATA = {
  name: "actions",
  versions: ["1"],
  inputs: [{ name: "clips", datatype: "UINT8", shape: SHAPE }],
  outputs: [{ name: "logits", datatype: "FP32", shape: [-1, 5] }],
};
const CONFIG = {
  name: "actions",
  max_batch_size: 8,
  input: [{ name: "clips", data_type: "TYPE_UINT8", dims: SHAPE.slice(1) }],
  output: [{ name: "logits", data_type: "TYPE_FP32", dims: [5] }],
  parameters: Object.fromEntries(PARAMETERS),
};
const ANSWER = () => new Response(fromHex(VECTORS.http_answer.body_hex), { headers: VECTORS.http_answer.headers });

/**
 * @param {{metadata?: unknown, config?: unknown, answer?: (init: any) => Response | Promise<Response>}} served
 * @param {object} [options]
 */
function model({ metadata = METADATA, config = CONFIG, answer = ANSWER } = {}, options = {}) {
  /** @type {{url: string, init: any}[]} */
  const sent = [];
  const fetch = async (/** @type {any} */ url, /** @type {any} */ init) => {
    sent.push({ url, init });
    if (init.method === "POST") return answer(init);
    return Response.json(url.endsWith("/config") ? config : metadata);
  };
  const remote = new RemoteModel("http://host:8000/actions", { binding: CLIP.binding, output: { name: "logits", shape: [5] }, fetch, ...options });
  return { remote, sent };
}

test("the request and the answer are those of the vectors", async () => {
  const { remote, sent } = model({}, { token: TOKEN });
  assert.deepEqual([...(await remote.run(CLIP))], VECTORS.http_answer.logits.flat());
  const { url, init } = sent[2];
  const { path, headers, body_hex: body, header } = VECTORS.http_request;
  const length = Number(init.headers[LENGTH]);
  assert.equal(url, `http://host:8000${path}`);
  assert.equal(init.headers["Content-Type"], headers["Content-Type"]);
  assert.deepEqual(JSON.parse(new TextDecoder().decode(init.body.subarray(0, length))), header);
  assert.equal(toHex(init.body.subarray(length)), body.slice(2 * Number(headers[LENGTH])));
  assert.equal(init.headers.Authorization, `Bearer ${TOKEN}`);
  assert.equal(toHex(requestBody(CLIP.values, 1, CLIP.binding).body), body);
});

test("logits as numbers in JSON are read too", async () => {
  const outputs = [{ name: "logits", datatype: "FP32", shape: [1, 5], data: [1, 2.5, -3, 4e0, 0] }];
  const { remote } = model({ answer: () => Response.json({ model_name: "actions", model_version: "1", outputs }) });
  assert.deepEqual([...(await remote.run(CLIP))], [1, 2.5, -3, 4, 0]);
});

/** @type {[string, object][]} */
const OTHERS = [
  ["another name", { metadata: { ...METADATA, name: "other" } }],
  ["another number of classes", { metadata: { ...METADATA, outputs: [{ ...METADATA.outputs[0], shape: [-1, 6] }] } }],
  ["another input", { config: { ...CONFIG, input: [{ ...CONFIG.input[0], dims: [12, 13] }] } }],
  ["another key", { config: { ...CONFIG, parameters: { ...CONFIG.parameters, lcve_key_id: { string_value: "0".repeat(32) } } } }],
  ["half a binding", { config: { ...CONFIG, parameters: { lcve_scheme: { string_value: "lcve-1" } } } }],
];
for (const [name, served] of OTHERS) {
  test(`a model with ${name} gets no clip`, async () => {
    const { remote, sent } = model(served);
    await assert.rejects(remote.run(CLIP), MismatchError);
    assert.ok(sent.every(({ init }) => init.method === "GET"));
  });
}

/**
 * @param {object} head
 * @param {Uint8Array} [binary]
 * @param {object} [headers]
 */
function framed(head, binary = new Uint8Array(20), headers = {}) {
  const text = new TextEncoder().encode(JSON.stringify(head));
  return new Response(new Uint8Array([...text, ...binary]), { headers: { [LENGTH]: String(text.length), ...headers } });
}
const OUTPUT = { name: "logits", datatype: "FP32", shape: [1, 5], parameters: { binary_data_size: 20 } };
const HEAD = { model_name: "actions", model_version: "1", outputs: [OUTPUT] };

/** @type {[string, () => Response][]} */
const LIES = [
  ["another number of logits", () => framed({ ...HEAD, outputs: [{ ...OUTPUT, shape: [1, 6] }] })],
  ["another model", () => framed({ ...HEAD, model_name: "other" })],
  ["a version that it does not have", () => framed({ ...HEAD, model_version: "7" })],
  ["fewer bytes than stated", () => framed(HEAD, new Uint8Array(16))],
  ["more bytes", () => framed(HEAD, new Uint8Array(24))],
  ["no bytes", () => framed({ ...HEAD, outputs: [{ ...OUTPUT, parameters: {} }] }, new Uint8Array())],
  ["both kinds", () => framed({ ...HEAD, outputs: [{ ...OUTPUT, data: [1, 2, 3, 4, 5] }] })],
  ["text as numbers", () => Response.json({ ...HEAD, outputs: [{ ...OUTPUT, parameters: {}, data: ["1", 2, 3, 4, 5] }] })],
  ["no object", () => framed([])],
  ["no outputs", () => framed({ model_name: "actions" })],
  ["a huge header", () => framed(HEAD, new Uint8Array(20), { [LENGTH]: "99999999" })],
  ["a header beyond the body", () => framed(HEAD, new Uint8Array(), { [LENGTH]: "900" })],
  ["an endless body", () => new Response("x".repeat(2 ** 20))],
  ["a compressed body", () => framed(HEAD, new Uint8Array(20), { "Content-Encoding": "br" })],
  ["status 500", () => new Response("?", { status: 500 })],
];
for (const [name, answer] of LIES) {
  test(`an answer with ${name} is one error`, async () => {
    await assert.rejects(model({ answer }).remote.run(CLIP), SessionError);
  });
}
test("the answer that the lies are made from is right", async () => {
  assert.deepEqual([...(await model({ answer: () => framed(HEAD) }).remote.run(CLIP))], [0, 0, 0, 0, 0]);
});

test("refusals have their classes, and none shows the token", async () => {
  const error = `no such token: ${TOKEN}\u0007`;
  const refused = (/** @type {number} */ status) => model({ answer: () => Response.json({ error }, { status }) }, { token: TOKEN });
  for (const [status, kind] of /** @type {[number, any][]} */ ([[401, DeniedError], [400, RequestError], [503, UnavailableError]])) {
    await assert.rejects(refused(status).remote.run(CLIP), (caught) => {
      assert.ok(caught instanceof Error && caught instanceof kind);
      assert.match(caught.message, /no such token: \[token\] $/);
      return true;
    });
  }
  assert.throws(() => model({}, { token: "two words" }), (caught) => caught instanceof DeniedError && !caught.message.includes("two words"));
});

test("a server that is away or too slow", async () => {
  const away = () => Promise.reject(new TypeError("fetch failed"));
  await assert.rejects(model({}, { fetch: away }).remote.connect(), UnavailableError);
  const slow = (/** @type {any} */ _, /** @type {any} */ { signal }) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const waiting = setInterval(() => {}, 1000); // the timer of a signal alone does not keep Node alive
  await assert.rejects(model({}, { fetch: slow, seconds: 0.01 }).remote.connect(), DeadlineError);
  clearInterval(waiting);
});

for (const address of ["host", "grpc://host/a", "http://host", "http://host/a/1/2", "http://user:pw@host/a", "http://host/a?b", "http://host//"]) {
  test(`${address} is no address`, () => {
    assert.throws(() => new RemoteModel(address, { binding: CLIP.binding, output: { name: "logits", shape: [5] } }), RequestError);
  });
}
