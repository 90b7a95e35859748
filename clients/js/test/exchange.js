/**
 * The client as a process that another test suite drives: one JSON request on each line of standard input, one answer
 * on each line of standard output. Bytes travel in base64.
 */

import { createInterface } from "node:readline";

import {
  Binding,
  Client,
  LcveError,
  openSealedClip,
  readClientSettings,
  readClipFile,
  RemoteModel,
  sealClip,
  SealingKey,
  SealingPublicKey,
  SecurityKey,
  Views,
  writeClipFile,
} from "../src/index.js";
import { SealedRequest } from "../src/sealing/messages.js";

/** @param {string} text */
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
/** @param {Uint8Array} data */
const text = (data) => Buffer.from(data).toString("base64");

/** @param {{settings: string, key: string}} request */
const open = async ({ settings, key }) => Client.open(bytes(settings), await SecurityKey.read(bytes(key)));

/** The last sealed request, which opens its answer. @type {SealedRequest} */
let sealed;

/** @type {Record<string, (request: any) => Promise<unknown>>} */
const CALLS = {
  key: async ({ key, name }) => {
    const read = await SecurityKey.read(bytes(key));
    return name === undefined ? read.keyId : (await read.derive(name)).keyId;
  },
  settings: async ({ settings }) => String((await readClientSettings(bytes(settings))).binding.geometry),
  clip: async ({ file }) => String((await readClipFile(bytes(file))).views),
  encrypt: async (request) => {
    const client = await open(request);
    const { step, pad = 1 } = request;
    return text(writeClipFile(client.encrypt(bytes(request.clips), { views: Views.parse(request.views), ...(step && { step }) }), { pad }));
  },
  decrypt: async (request) => {
    const clips = (await open(request)).decrypt(await readClipFile(bytes(request.file)));
    return text(new Uint8Array(clips.buffer));
  },
  rewrite: async ({ file, pad }) => text(writeClipFile(await readClipFile(bytes(file)), { pad })),
  read: async (request) => {
    const logits = new Float32Array(bytes(request.logits).buffer);
    return (await open(request)).read(logits, { top: request.top });
  },
  plain: async (request) => {
    const values = new Float32Array(bytes(request.values).buffer);
    return (await open(request)).plainOrder(values).map((view) => [...view]);
  },
  run: async (request) => {
    const { binding, output } = await readClientSettings(bytes(request.settings));
    const sealTo = request.sealTo && (await SealingPublicKey.read(bytes(request.sealTo)));
    const model = new RemoteModel(request.address, { binding, output, token: request.token, ...(sealTo && { sealTo }) });
    return [...(await model.run(await readClipFile(bytes(request.file))))];
  },
  seal: async ({ file, to }) => text(await sealClip(await readClipFile(bytes(file)), await SealingPublicKey.read(bytes(to)))),
  open: async ({ file, key }) => text(writeClipFile(await openSealedClip(bytes(file), await SealingKey.read(bytes(key))))),
  fingerprint: async ({ key }) => (await SealingKey.read(bytes(key))).publicKey.fingerprint,
  ask: async ({ values, count, binding, model, to }) => {
    const about = { count, binding: Binding.parse(JSON.parse(binding)), model };
    sealed = await SealedRequest.of(bytes(values), about, await SealingPublicKey.read(bytes(to)));
    return text(sealed.data);
  },
  answer: async ({ answer, classes }) => [...(await sealed.open(bytes(answer), classes)).numbers],
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = { result: await CALLS[request.call](request) };
  } catch (error) {
    if (!(error instanceof LcveError)) throw error;
    answer = { error: error.name, message: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
