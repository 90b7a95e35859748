/** A key, a model, and what is known of the clips that were sent. */

import { Client, MismatchError, QUALITIES, RemoteModel, SecurityKey, UnknownKeyError } from "./client/index.js";
import { requestBytes } from "./client/bodies.js";
import { FrameReader } from "./client/video/index.js";
import { Figures } from "./figures.js";

/** @typedef {import("./client/clip.js").EncryptedClip} EncryptedClip */
/** @typedef {{plain: Uint8Array, clip: EncryptedClip, decrypted: () => Uint8Array | Float32Array}} Pair `decrypted`: as the model sees it */
/** @typedef {keyof typeof QUALITIES} Quality */
/** @typedef {(name: string, content: object) => void} Report */

const TOP = 5;
const MAX_KEPT = 2;
const KNOWN = "has this key";

/** The key holder's side of one artifact. */
export class Service {
  #client;
  #model;
  #report;
  #figures;
  #clips = 0;
  /** Bytes of the last clip that was packed. */
  #packed = 0;
  /** Of the clips to come, if they are packed. @type {Quality} */
  quality = "normal";
  /** Clips for the attack: the first, and the last. @type {Pair[]} */
  #kept = [];
  /** Frames of the camera, for the figures. */
  frames = "–";

  /**
   * Use `Service.open`.
   *
   * @param {{client: Client, model: RemoteModel, wire: string, report: Report}} parts
   */
  constructor({ client, model, wire, report }) {
    this.#figures = new Figures(wire);
    this.#client = client;
    this.#model = model;
    this.#report = report;
    this.preprocess = client.settings.preprocess;
    this.reader = new FrameReader(this.preprocess);
  }

  /**
   * Read the key and the settings, and check the model.
   *
   * @param {{key: Blob, settings: Blob, origin: string, wire: string, quality: Quality}} given
   * @param {Report} report
   * @returns {Promise<Service>}
   */
  static async open({ key: file, settings, origin, wire, quality }, report) {
    const client = await Client.open(settings, await SecurityKey.read(file));
    const { binding, output } = client.settings;
    if (output.name !== "logits") {
      throw new MismatchError(`the page shows predictions, which need a model that answers logits; this one answers ${output.name}`);
    }
    const state = { sent: 0, headers: new Headers() };
    const model = new RemoteModel(`${origin}/model`, { binding, output, fetch: (url, given) => ask(url, given, binding, state) });
    await model.connect();
    const service = new Service({ client, model, wire, report });
    service.lastAnswer = () => state;
    service.quality = quality;
    return service;
  }

  /** Bytes of the last request, and headers of its answer. @type {() => {sent: number, headers: Headers}} */
  lastAnswer = () => ({ sent: 0, headers: new Headers() });

  get stride() {
    return this.preprocess.stride;
  }

  get geometry() {
    return this.#client.settings.binding.geometry;
  }

  get facts() {
    const { binding } = this.#client.settings;
    const [frames, height, width] = binding.geometry.clipShape;
    return {
      keyId: binding.keyId,
      packed: binding.packed,
      known: "answers for clips of this artifact; the first clip shows whether it has the key",
      geometry: `${frames} frames of ${width} × ${height}, every ${this.stride === 1 ? "frame" : `${this.stride}th frame`}`,
      bytes: this.#bytes(),
    };
  }

  /**
   * Encrypt one clip. It is decrypted again when that is shown.
   *
   * @param {Uint8Array} plain
   * @returns {Pair}
   */
  encrypt(plain) {
    const started = performance.now();
    const client = this.#client;
    const clip = client.encrypt(plain, client.settings.binding.packed ? { step: QUALITIES[this.quality] } : {});
    this.#figures.add("Encrypting", performance.now() - started);
    /** @type {Uint8Array | Float32Array | undefined} */
    let decrypted;
    return { plain, clip, decrypted: () => (decrypted ??= client.decrypt(clip)) };
  }

  /**
   * Send a clip, and report what the answer means.
   *
   * @param {Pair} pair
   * @param {{label: string, isLive: boolean}} about
   */
  async ask(pair, { label, isLive }) {
    this.#pack(pair.clip);
    const started = performance.now();
    const logits = await this.#run(pair.clip);
    this.#figures.answered({ milliseconds: performance.now() - started, ...this.lastAnswer() });
    this.#clips++;
    this.#keep(pair);
    const predictions = this.#client.read(logits, { top: TOP });
    const { hiddenLabels } = this.#client.settings;
    this.#report("answer", { predictions, logits: [...logits], label, isHidden: hiddenLabels, frames: this.geometry.clipShape[0], isLive });
    this.#report("known", { text: KNOWN });
    this.reportFigures();
  }

  reportFigures() {
    const { times, bytes: wires } = this.#figures.rows();
    this.#report("figures", { times, wires, clips: this.#clips, bytes: this.#bytes(), frames: this.frames });
  }

  /** The last clip that was sent. */
  lastClip() {
    const last = this.#kept[this.#kept.length - 1];
    if (!last) throw new Error("no clip was sent yet");
    return last.clip;
  }

  /** A clip and a later, different one; undefined if there are no two. */
  twoClips() {
    const [first, last] = this.#kept;
    return last && first.plain.some((value, index) => value !== last.plain[index]) ? { first, last } : undefined;
  }

  /** @param {EncryptedClip} clip keeps its bytes, so they are packed once */
  #pack(clip) {
    if (!clip.binding.packed) return;
    const started = performance.now();
    this.#packed = clip.bytes().length;
    this.#figures.add("Packing", performance.now() - started);
  }

  /** @param {EncryptedClip} clip */
  async #run(clip) {
    try {
      return await this.#model.run(clip);
    } catch (error) {
      if (error instanceof UnknownKeyError) this.#report("known", { text: "does not have this key" });
      throw error;
    }
  }

  /** @param {Pair} pair */
  #keep(pair) {
    this.#kept = [this.#kept[0] ?? pair, pair].slice(0, MAX_KEPT);
  }

  #bytes() {
    const { binding } = this.#client.settings;
    const values = binding.geometry.clipValues;
    if (binding.packed) {
      const packed = this.#packed ? `${grouped(this.#packed)} packed` : "packed, how many the first clip shows";
      return `${packed}; lcve-1 would send ${grouped(values)}`;
    }
    return `${grouped(values)} of values, ${grouped(requestBytes(binding))} of the request over HTTP`;
  }
}

/**
 * Ask `lcve web`, with the binding where it describes the model: it knows no artifact until a page names one.
 *
 * @param {RequestInfo | URL} url
 * @param {RequestInit | undefined} given
 * @param {import("./client/binding.js").Binding} binding
 * @param {{sent: number, headers: Headers}} state
 */
async function ask(url, given, binding, state) {
  const isQuestion = given?.method === "GET";
  const response = await fetch(isQuestion ? `${url}?${new URLSearchParams(binding.toFields("lcve_"))}` : url, given);
  state.sent = given?.body instanceof Uint8Array ? given.body.length : 0;
  state.headers = response.headers;
  return response;
}

/** @param {number} number */
function grouped(number) {
  return number.toLocaleString("en");
}
