/**
 * A model on a server, over HTTP: the Open Inference Protocol with binary data. The server is not trusted: nothing is
 * read beyond limits, and everything else than the logits of the clips that were sent is an error. A request is sent
 * once.
 *
 * Source: format of scheme `lcve-1`, section 9.
 */

import { refuse, requireKind, requireOptions } from "./arguments.js";
import { Binding, shown } from "./binding.js";
import { answerLimits, DESCRIPTION_LIMITS, LENGTH, readAnswer, readFault, readLogits, requestBody } from "./bodies.js";
import { requireClip, requirePad } from "./clip.js";
import { describe } from "./contract.js";
import {
  DeadlineError,
  DeniedError,
  LcveError,
  RateError,
  RequestError,
  SessionError,
  TooLargeError,
  UnavailableError,
  UnknownKeyError,
  UnknownModelError,
} from "./errors.js";
import { requireOutput, sizeOfOutput } from "./output.js";
import { SealingPublicKey } from "./sealing/keys.js";
import { SealedRequest } from "./sealing/messages.js";
import { openAnswer, requireOffer, sealedBody, sealedIn, sealedLimits } from "./sealing/wire.js";

/** @typedef {import("./bodies.js").Answer} Answer */
/** @typedef {import("./bodies.js").Limits} Limits */
/** @typedef {import("./clip.js").EncryptedClip} EncryptedClip */
/** @typedef {import("./errors.js").EncryptedClipError} EncryptedClipError */
/** @typedef {import("./contract.js").Description} Description */
/** @typedef {import("./output.js").Output} Output */

/** Maximum number of logits that are requested at once. */
export const MAX_LOGITS = 2 ** 24;
/** Maximum bytes of one request if the server states no maximum batch. */
const MAX_REQUEST_BYTES = 2 ** 28;
const MAX_SHOWN = 300;
/** Name of the error of a server that does not have the key. */
const UNKNOWN_KEY = "unknown_key";
const MAX_SECONDS = 2 ** 31 / 1000;
/** Names of the options of a model. */
const OPTIONS = ["binding", "output", "token", "seconds", "sealTo", "pad", "fetch"];
const TOKEN = /^[A-Za-z0-9._~+/-]{1,8192}=*$/;

/** @type {Record<number, new (message: string, options?: {hint?: string}) => LcveError>} */
const BY_STATUS = {
  ...{ 401: DeniedError, 403: DeniedError, 404: UnknownModelError, 408: DeadlineError, 413: TooLargeError },
  ...{ 429: RateError, 502: UnavailableError, 503: UnavailableError, 504: DeadlineError },
};

/** Encrypted clips to a server, and logits back. It has no key. */
export class RemoteModel {
  #token;
  #seconds;
  #fetch;
  #base;
  #name;
  #version;
  #sealTo;
  #pad;
  /** @type {Description | undefined} */
  #description;

  /**
   * Nothing is sent before `connect` or the first clip.
   *
   * @param {string} address such as `https://host:8000/model`; a version may follow the model
   * @param {object} options
   * @param {Binding} options.binding of the clips to send; clips of any other are refused before anything is sent
   * @param {Output} options.output what the model answers, from `client.json`
   * @param {string} [options.token] sent with every request, and never shown
   * @param {number} [options.seconds] deadline of each request, its answer included
   * @param {SealingPublicKey} [options.sealTo] key that requests are sealed to; by default they are not sealed
   * @param {number} [options.pad] of the scheme `lcve-dct-1`: pad every clip to a multiple of this number
   * @param {typeof globalThis.fetch} [options.fetch] another implementation
   * @throws {import("./errors.js").ArgumentError} an option is of another type or unknown
   * @throws {RequestError} the address is invalid
   * @throws {DeniedError} the text is not a token
   * @throws {EncryptedClipError} the padding is out of range, or clips of the scheme all have the same length
   */
  constructor(address, options) {
    requireOptions(options, OPTIONS);
    const { binding, output, token = "", seconds = 30, sealTo, pad = 1, fetch = globalThis.fetch.bind(globalThis) } = options;
    requireTypes({ binding, output, token, seconds, sealTo, fetch });
    const { origin, names } = parseAddress(address);
    [this.#name, this.#version] = names;
    if (token && !TOKEN.test(token)) {
      throw new DeniedError("expected one token of A-Z, a-z, 0-9, ., _, ~, +, / and -, received other text");
    }
    requirePad(pad, binding);
    const version = this.#version === undefined ? "" : `/versions/${encodeURIComponent(this.#version)}`;
    this.#base = `${origin}/v2/models/${encodeURIComponent(this.#name)}${version}`;
    this.#token = token;
    this.#seconds = seconds;
    this.#fetch = fetch;
    this.#sealTo = sealTo;
    this.#pad = pad;
    this.binding = binding;
    this.output = output;
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
    const metadata = (await this.#ask("", undefined, DESCRIPTION_LIMITS)).head;
    const config = (await this.#ask("/config", undefined, DESCRIPTION_LIMITS)).head;
    this.#check(() => requireOffer(config, this.endpoint, this.#sealTo !== undefined));
    this.#description = this.#check(() => describe(metadata, config, this, this.#name));
  }

  /**
   * Logits of encrypted clips, or another output, in the artifact's own order. More clips than the server's maximum
   * batch go in several requests.
   *
   * @param {EncryptedClip} clip
   * @returns {Promise<Float32Array>} `[views, classes]`, or the axes of another output; they may be NaN or infinite:
   *   `Client.read` and `Client.plainOrder` check
   * @throws {MismatchError} the clip, or the server's model, is for another artifact; no clip has been sent
   * @throws {import("./errors.js").SealingError} requests are sealed, and the answer was changed, or was not made by the holder of the key
   * @throws {LcveError} the server cannot be reached, refuses, or did not return the logits of these clips
   */
  async run(clip) {
    requireClip(clip);
    this.binding.require(clip.binding, "session", "encrypted clip");
    const size = this.binding.geometry.clipValues;
    const width = sizeOfOutput(this.output);
    const logits = new Float32Array(clip.views.count * width);
    for (let done = 0; done < clip.views.count; ) {
      const { largestBatch } = await this.#described();
      const most = Math.min(largestBatch || Math.floor(MAX_REQUEST_BYTES / size), Math.floor(MAX_LOGITS / width));
      const count = Math.min(Math.max(1, most), clip.views.count - done);
      logits.set(await this.#infer(clip.bytes(done, count, { pad: this.#pad }), count), done * width);
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
    if (this.#sealTo) return this.#inferSealed(values, count, this.#sealTo);
    const { name } = this.output;
    const shape = [count, ...this.output.shape];
    const limits = answerLimits(count * sizeOfOutput(this.output));
    const answer = await this.#ask("/infer", requestBody(values, count, this.binding, name), limits);
    const { model, version, numbers } = this.#check(() => readLogits(answer, shape, this.endpoint, name));
    await this.#checkOrigin(model, version);
    return numbers;
  }

  /**
   * @param {Uint8Array} values
   * @param {number} count
   * @param {SealingPublicKey} to
   */
  async #inferSealed(values, count, to) {
    const width = sizeOfOutput(this.output);
    const about = { count, binding: this.binding, model: this.#name, version: this.#version ?? "" };
    const request = await SealedRequest.of(values, about, to);
    const answer = await this.#ask("/infer", sealedBody(request), sealedLimits(count * width));
    const data = this.#check(() => sealedIn(answer, this.endpoint));
    const { model, version, numbers } = await openAnswer(request, data, { width, endpoint: this.endpoint });
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
   * @param {Limits} limits
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
    if (error instanceof DOMException && error.name === "TimeoutError") {
      return new DeadlineError(`${this.endpoint} did not answer in ${this.#seconds} s`);
    }
    if (!(error instanceof TypeError || error instanceof DOMException)) return error; // fetch throws these
    return new UnavailableError(`${this.endpoint} is not available`, {
      hint: "check that the server runs, that its port is reachable, whether it requires TLS, and whether it allows this page's origin",
    });
  }

  /** @param {Response} response */
  async #fault(response) {
    const { status } = response;
    const said = await readFault(response, this.endpoint);
    const byStatus = BY_STATUS[status] ?? (status >= 500 ? SessionError : RequestError);
    const kind = byStatus === UnknownModelError && said?.name === UNKNOWN_KEY ? UnknownKeyError : byStatus;
    let words = said?.words ?? `status ${status}`;
    if (this.#token) words = words.replaceAll(this.#token, "[token]");
    const hint = kind === TooLargeError ? this.#sizeHint() : "";
    return new kind(`${this.endpoint} refused: ${words.replace(/\p{C}/gu, " ").slice(0, MAX_SHOWN)}`, { hint });
  }

  #sizeHint() {
    const hint = "send fewer clips at once, or raise the server's limit";
    return this.#pad > 1 ? `clips are padded to multiples of ${this.#pad} bytes: pad them less, ${hint}` : hint;
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
 * Check the types of options, of which the token may be secret.
 *
 * @param {Record<string, unknown>} options
 * @throws {import("./errors.js").ArgumentError} one is of another type
 */
function requireTypes({ binding, output, token, seconds, sealTo, fetch }) {
  requireKind(binding, [Binding], "the option binding as a Binding", "pass client.settings.binding");
  requireOutput(output);
  if (typeof token !== "string") refuse("the option token as a string", token, "leave it out for a server without tokens");
  if (typeof seconds !== "number" || !(seconds > 0 && seconds <= MAX_SECONDS)) {
    refuse(`the option seconds as a number above 0, and at most ${Math.floor(MAX_SECONDS)}`, seconds, "leave it out for 30 seconds");
  }
  if (sealTo !== undefined) requireKind(sealTo, [SealingPublicKey], "the option sealTo as a SealingPublicKey", "read it with SealingPublicKey.read");
  if (typeof fetch !== "function") refuse("the option fetch as a function", fetch, "leave it out for the global one");
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
