/**
 * A model on a server, over HTTP: the Open Inference Protocol with binary data. The server is not trusted: nothing is
 * read beyond the limits below, and everything else than the logits of the clips that were sent is an error. A request
 * is sent once.
 *
 * Source: format of scheme `lcve-1`, section 9.
 */

import { Binding, shown } from "./binding.js";
import { EncryptedClip } from "./clip.js";
import {
  DeadlineError,
  DeniedError,
  LcveError,
  MismatchError,
  RateError,
  RequestError,
  SessionError,
  TooLargeError,
  UnavailableError,
  UnknownModelError,
} from "./errors.js";
import { parseJson, toNumber } from "./json.js";

/** Maximum bytes of a model's metadata or configuration. */
export const MAX_DESCRIPTION_BYTES = 2 ** 17;
/** Maximum bytes of an answer in addition to its logits, or of an error. */
export const MAX_HEAD_BYTES = 2 ** 16;
/** Maximum number of logits that are requested at once. */
export const MAX_LOGITS = 2 ** 24;
/** Maximum bytes of one request if the server states no maximum batch. */
const MAX_REQUEST_BYTES = 2 ** 28;
const BYTES_PER_LOGIT = 4;
const JSON_BYTES_PER_LOGIT = 32;
const LENGTH = "Inference-Header-Content-Length";
const PREFIX = "lcve_";
const MAX_SHOWN = 300;
const TOKEN = /^[A-Za-z0-9._~+/-]{1,8192}=*$/;
const ANY = -1;

/** @type {Record<number, new (message: string, options?: {hint?: string}) => LcveError>} */
const BY_STATUS = {
  ...{ 401: DeniedError, 403: DeniedError, 404: UnknownModelError, 408: DeadlineError, 413: TooLargeError },
  ...{ 429: RateError, 502: UnavailableError, 503: UnavailableError, 504: DeadlineError },
};

/** @typedef {{largestBatch: number, versions: readonly string[]}} Description of a server's model, checked */
/** @typedef {{head: any, binary: Uint8Array}} Answer */

/** Encrypted clips to a server, and logits back. It has no key. */
export class RemoteModel {
  #token;
  #seconds;
  #fetch;
  #base;
  #name;
  #version;
  /** @type {Description | undefined} */
  #description;

  /**
   * Nothing is sent before `connect` or the first clip.
   *
   * @param {string} address such as `https://host:8000/model`; a version may follow the model
   * @param {object} options
   * @param {Binding} options.binding of the clips to send; clips of any other are refused before anything is sent
   * @param {number} options.classes logits of a clip, from `client.json`
   * @param {string} [options.token] sent with every request, and never shown
   * @param {number} [options.seconds] deadline of each request, its answer included
   * @param {typeof fetch} [options.fetch] another implementation
   * @throws {RequestError} the address is invalid
   * @throws {DeniedError} the text is not a token
   */
  constructor(address, { binding, classes, token = "", seconds = 30, fetch = globalThis.fetch.bind(globalThis) }) {
    const { origin, names } = parseAddress(address);
    [this.#name, this.#version] = names;
    if (token && !TOKEN.test(token)) {
      throw new DeniedError("expected one token of A-Z, a-z, 0-9, ., _, ~, +, / and -, received other text");
    }
    const version = this.#version === undefined ? "" : `/versions/${encodeURIComponent(this.#version)}`;
    this.#base = `${origin}/v2/models/${encodeURIComponent(this.#name)}${version}`;
    this.#token = token;
    this.#seconds = seconds;
    this.#fetch = fetch;
    this.binding = binding;
    this.classes = classes;
    /** Host and port, for messages. */
    this.endpoint = new URL(origin).host;
  }

  /**
   * Check that the server answers and that its model is for these clips.
   *
   * @returns {Promise<void>}
   * @throws {MismatchError} the model is not for these clips
   * @throws {LcveError} the server cannot be reached, or refuses
   */
  async connect() {
    const limits = { json: MAX_DESCRIPTION_BYTES, binary: 0 };
    const metadata = (await this.#ask("", undefined, limits)).head;
    const config = (await this.#ask("/config", undefined, limits)).head;
    this.#description = this.#check(() => describe(metadata, config, this, this.#name));
  }

  /**
   * Logits of encrypted clips, in the artifact's own label order. More clips than the server's maximum batch go in
   * several requests.
   *
   * @param {EncryptedClip} clip
   * @returns {Promise<Float32Array>} `[views, classes]`; they may be NaN or infinite: `Client.read` checks
   * @throws {MismatchError} the clip, or the server's model, is for another artifact; no clip has been sent
   * @throws {LcveError} the server cannot be reached, refuses, or did not return the logits of these clips
   */
  async run(clip) {
    this.binding.require(clip.binding, "session", "encrypted clip");
    const size = this.binding.geometry.clipValues;
    const logits = new Float32Array(clip.views.count * this.classes);
    for (let done = 0; done < clip.views.count; ) {
      const { largestBatch } = await this.#described();
      const most = Math.min(largestBatch || Math.floor(MAX_REQUEST_BYTES / size), Math.floor(MAX_LOGITS / this.classes));
      const count = Math.min(Math.max(1, most), clip.views.count - done);
      const part = clip.values.subarray(done * size, (done + count) * size);
      logits.set(await this.#infer(part, count), done * this.classes);
      done += count;
    }
    return logits;
  }

  async #described() {
    if (this.#description === undefined) await this.connect();
    return /** @type {Description} */ (this.#description);
  }

  /**
   * @param {Uint8Array} values
   * @param {number} count
   */
  async #infer(values, count) {
    const shape = [count, this.classes];
    const logits = count * this.classes;
    const limits = { json: MAX_HEAD_BYTES + JSON_BYTES_PER_LOGIT * logits, binary: BYTES_PER_LOGIT * logits };
    const answer = await this.#ask("/infer", requestBody(values, count, this.binding), limits);
    const { model, version, numbers } = this.#check(() => readLogits(answer, shape, this.endpoint));
    await this.#checkOrigin(model, version);
    return numbers;
  }

  /**
   * Check which model and version made the logits. If the version is new, check the model again first.
   *
   * @param {string} model
   * @param {string} version
   */
  async #checkOrigin(model, version) {
    const known = (/** @type {readonly string[]} */ versions) => model === this.#name && versions.includes(version);
    const pinned = this.#version === undefined ? undefined : [this.#version];
    if (known(pinned ?? ["", ...(await this.#described()).versions])) return;
    this.#description = undefined;
    if (pinned || !known((await this.#described()).versions)) {
      throw new SessionError(`${this.endpoint} answered with ${shown(model)}, version ${shown(version)}; expected ${this.#name}`);
    }
  }

  /**
   * Send one request, and read its answer within limits.
   *
   * @param {string} path
   * @param {{head: string, body: Uint8Array<ArrayBuffer>} | undefined} sent
   * @param {{json: number, binary: number}} limits
   * @returns {Promise<Answer>}
   */
  async #ask(path, sent, limits) {
    try {
      const response = await this.#fetch(this.#base + path, {
        ...(sent ? { method: "POST", body: sent.body } : { method: "GET" }),
        headers: this.#headers(sent),
        signal: AbortSignal.timeout(1000 * this.#seconds),
        ...{ redirect: "manual", credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" },
      });
      if (response.status !== 200) throw await this.#fault(response);
      return await readAnswer(response, limits, this.endpoint);
    } catch (error) {
      this.#description = undefined;
      throw this.#failure(error);
    }
  }

  /** @param {{head: string} | undefined} sent */
  #headers(sent) {
    return {
      "Accept-Encoding": "identity",
      ...(sent && { "Content-Type": "application/octet-stream", [LENGTH]: sent.head }),
      ...(this.#token && { Authorization: `Bearer ${this.#token}` }),
    };
  }

  /** @param {unknown} error */
  #failure(error) {
    if (error instanceof LcveError) return error;
    if (error instanceof DOMException && error.name === "TimeoutError") {
      return new DeadlineError(`${this.endpoint} did not answer in ${this.#seconds} s`);
    }
    return new UnavailableError(`${this.endpoint} is not available`, {
      hint: "check that the server runs, that its port is reachable, whether it requires TLS, and whether it allows this page's origin",
    });
  }

  /** @param {Response} response */
  async #fault(response) {
    const { status } = response;
    const kind = BY_STATUS[status] ?? (status >= 500 ? SessionError : RequestError);
    let words = `status ${status}`;
    try {
      const { error } = /** @type {any} */ (parseJson(await readBody(response, MAX_HEAD_BYTES, this.endpoint)));
      if (typeof error === "string") words = error;
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof TypeError || error instanceof SessionError)) throw error;
    }
    if (this.#token) words = words.replaceAll(this.#token, "[token]");
    return new kind(`${this.endpoint} refused: ${words.replace(/\p{C}/gu, " ").slice(0, MAX_SHOWN)}`);
  }

  /**
   * @template Value
   * @param {() => Value} read of what the server sent
   * @returns {Value}
   */
  #check(read) {
    try {
      return read();
    } catch (error) {
      if (error instanceof LcveError) throw error;
      if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
      throw new SessionError(`${this.endpoint} did not return what was asked for`);
    }
  }
}

/**
 * @param {string} address
 * @returns {{origin: string, names: string[]}} names of the model and perhaps the version
 */
function parseAddress(address) {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const names = url ? url.pathname.split("/").slice(1).map(decodeURIComponent) : [];
  const extra = url && (url.username || url.password || url.search || url.hash);
  if (!url || !/^https?:$/.test(url.protocol) || extra || names.length > 2 || !names.every(Boolean)) {
    throw new RequestError("expected an address such as https://host:8000/model", { hint: "a version may follow the model" });
  }
  return { origin: url.origin, names };
}

/**
 * @param {Uint8Array} values
 * @param {number} count
 * @param {Binding} binding
 */
export function requestBody(values, count, binding) {
  const shape = [count, ...binding.clipShape];
  const text = JSON.stringify({
    parameters: binding.toFields(PREFIX),
    inputs: [{ name: "clips", shape, datatype: "UINT8", parameters: { binary_data_size: values.length } }],
    outputs: [{ name: "logits", parameters: { binary_data: true } }],
  });
  const head = new TextEncoder().encode(text);
  const body = new Uint8Array(head.length + values.length);
  body.set(head);
  body.set(values, head.length);
  return { head: String(head.length), body };
}

/**
 * Read a body, and no more of it than the limit.
 *
 * @param {Response} response
 * @param {number} limit bytes
 * @param {string} endpoint
 * @returns {Promise<Uint8Array>}
 */
async function readBody(response, limit, endpoint) {
  const body = new Uint8Array(limit);
  let length = 0;
  for (const reader = response.body?.getReader(); reader; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (length + value.length > limit) {
      await reader.cancel();
      throw new SessionError(`${endpoint} answered with more than ${limit} bytes`);
    }
    body.set(value, length);
    length += value.length;
  }
  return body.subarray(0, length);
}

/**
 * @param {Response} response
 * @param {{json: number, binary: number}} limits
 * @param {string} endpoint
 * @returns {Promise<Answer>}
 */
async function readAnswer(response, limits, endpoint) {
  const encoding = response.headers.get("Content-Encoding") ?? "identity";
  if (encoding !== "identity") throw new SessionError(`${endpoint} answered in encoding ${shown(encoding)}, expected identity`);
  const stated = response.headers.get(LENGTH);
  const length = stated === null ? undefined : Number(stated);
  if (stated !== null && !(/^[0-9]{1,9}$/.test(stated) && Number(stated) <= MAX_HEAD_BYTES)) {
    throw new SessionError(`${endpoint} answered with a header of ${shown(stated)} bytes, expected at most ${MAX_HEAD_BYTES}`);
  }
  const body = await readBody(response, length === undefined ? limits.json : length + limits.binary, endpoint);
  try {
    const head = parseJson(body.subarray(0, length));
    if (typeof head !== "object" || head === null || (length ?? 0) > body.length) throw new SyntaxError("not an object");
    return { head, binary: length === undefined ? new Uint8Array() : body.subarray(length) };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new SessionError(`${endpoint} did not answer in the protocol: ${error.message}`);
  }
}

/**
 * @param {Answer} answer
 * @param {number[]} shape
 * @param {string} endpoint
 * @returns {{model: string, version: string, numbers: Float32Array}}
 * @throws {TypeError | RangeError | SessionError} it has not these logits
 */
export function readLogits({ head, binary }, shape, endpoint) {
  const { model_name: model, model_version: version = "", outputs } = head;
  if (typeof model !== "string" || typeof version !== "string") throw new TypeError("no names");
  const described = outputs.map((/** @type {any} */ output) => [output.name, output.datatype, output.shape]);
  if (JSON.stringify(described) !== JSON.stringify([["logits", "FP32", shape]])) {
    throw new SessionError(`${endpoint} returned ${shown(described)}, expected the logits [${shape}]`);
  }
  const size = outputs[0].parameters?.binary_data_size;
  const data = outputs[0].data?.flat();
  if ((size === undefined) === (data === undefined)) throw new TypeError("neither or both of binary data and JSON data");
  if (size !== undefined ? size !== binary.length : binary.length) throw new RangeError("another number of bytes than stated");
  const numbers = size === undefined ? fromJson(data) : fromBytes(binary);
  if (numbers.length !== shape[0] * shape[1]) throw new RangeError("another number of logits");
  return { model, version, numbers };
}

/** @param {unknown[]} data */
function fromJson(data) {
  return Float32Array.from(data, (number) => {
    const value = toNumber(number);
    if (value === undefined) throw new TypeError("not a number");
    return value;
  });
}

/** @param {Uint8Array} bytes little-endian float32 */
function fromBytes(bytes) {
  if (bytes.length % BYTES_PER_LOGIT) throw new RangeError("not a whole number of logits");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Float32Array.from({ length: bytes.length / BYTES_PER_LOGIT }, (_, index) => view.getFloat32(4 * index, true));
}

/**
 * Compare a server's description of a model with the binding of the clips.
 *
 * @param {any} metadata
 * @param {any} config
 * @param {{binding: Binding, classes: number, endpoint: string}} expected
 * @param {string} name
 * @returns {Description}
 * @throws {MismatchError} the model is another one, or is for clips of another artifact
 * @throws {TypeError | RangeError} it is no description
 */
function describe(metadata, config, { binding, classes, endpoint }, name) {
  checkBinding(config.parameters ?? {}, binding, endpoint);
  const largestBatch = config.max_batch_size ?? 0;
  if (!Number.isSafeInteger(largestBatch) || largestBatch < 0) throw new RangeError("no number of clips");
  const batch = largestBatch ? [] : [ANY];
  const given = {
    names: [metadata.name, config.name],
    inputs: metadata.inputs.map((/** @type {any} */ t) => [t.name, t.datatype, t.shape]),
    outputs: metadata.outputs.map((/** @type {any} */ t) => [t.name, t.datatype, t.shape]),
    "configured inputs": config.input.map((/** @type {any} */ t) => [t.name, t.data_type, t.dims]),
    "configured outputs": config.output.map((/** @type {any} */ t) => [t.name, t.data_type, t.dims]),
  };
  const wanted = {
    names: [name, name],
    inputs: [["clips", "UINT8", [ANY, ...binding.clipShape]]],
    outputs: [["logits", "FP32", [ANY, classes]]],
    "configured inputs": [["clips", "TYPE_UINT8", [...batch, ...binding.clipShape]]],
    "configured outputs": [["logits", "TYPE_FP32", [...batch, classes]]],
  };
  const differing = /** @type {(keyof typeof wanted)[]} */ (Object.keys(wanted))
    .filter((what) => JSON.stringify(given[what]) !== JSON.stringify(wanted[what]))
    .map((what) => `${what} ${shown(given[what])}, expected ${JSON.stringify(wanted[what])}`);
  if (differing.length) {
    throw new MismatchError(`the model on ${endpoint} is not for these clips: ${differing.join("; ")}`, {
      hint: "check the address, and that the server serves the server/ folder that belongs to this client/ folder",
    });
  }
  return { largestBatch, versions: (metadata.versions ?? []).map(String) };
}

/**
 * @param {Record<string, {string_value?: unknown}>} parameters
 * @param {Binding} binding
 * @param {string} endpoint
 */
function checkBinding(parameters, binding, endpoint) {
  const stated = Binding.names.filter((name) => PREFIX + name in parameters);
  if (!stated.length) return; // a server that does not know the parameters: only shapes are compared
  const fields = Object.fromEntries(stated.map((name) => [name, String(parameters[PREFIX + name]?.string_value ?? "")]));
  let theirs;
  try {
    theirs = Binding.parse(Object.assign(Object.fromEntries(Binding.names.map((name) => [name, ""])), fields));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new MismatchError(`${endpoint} states an invalid binding: ${error.message}`);
  }
  theirs.require(binding, "model on the server", "encrypted clip");
}
