/** What a clip takes: milliseconds of every step, and bytes on each wire. */

import { Times } from "./times.js";

/** @typedef {import("./times.js").Row} Row */

/** Header of an answer of `lcve web` with the bytes that it has sent on. */
const SENT = "Lcve-Sent-Bytes";
const TIMING = /([a-z]+);dur=([0-9.]+)/g;

/** Figures of the last clips. */
export class Figures {
  #times = new Times();
  #bytes = new Times();
  #wire;

  /** @param {string} wire how clips reach a server; empty if the model is on this machine */
  constructor(wire) {
    this.#wire = wire;
  }

  /**
   * A step of the page itself.
   *
   * @param {"Encrypting" | "Packing"} step
   * @param {number} milliseconds
   */
  add(step, milliseconds) {
    this.#times.add(step, milliseconds);
  }

  /**
   * An answer of `lcve web`.
   *
   * @param {{milliseconds: number, sent: number, headers: Headers}} answer from clip to answer; bytes of the request
   */
  answered({ milliseconds, sent, headers }) {
    const { model = 0, server } = timings(headers);
    if (!this.#wire) this.#times.add("Model", model);
    else if (server === undefined) this.#times.add("Network and server", model);
    else this.#addServer(model, server);
    this.#times.add("Between page and lcve web", milliseconds - model);
    this.#bytes.add("Page to lcve web", sent);
    const sentOn = Number(headers.get(SENT));
    if (this.#wire && sentOn) this.#bytes.add(`lcve web to the server: ${this.#wire}`, sentOn);
  }

  /** @returns {{times: Row[], bytes: Row[]}} */
  rows() {
    return { times: this.#times.rows(), bytes: this.#bytes.rows() };
  }

  /**
   * @param {number} whole milliseconds that `lcve web` waited for the server
   * @param {number} server milliseconds that the server states; it cannot have taken longer
   */
  #addServer(whole, server) {
    const own = Math.min(server, whole);
    this.#times.add("Server", own);
    this.#times.add("Network to the server", whole - own);
  }
}

/**
 * Durations that the header `Server-Timing` states.
 *
 * @param {Headers} headers
 * @returns {Record<string, number>} milliseconds by name
 */
function timings(headers) {
  return Object.fromEntries([...(headers.get("Server-Timing") ?? "").matchAll(TIMING)].map(([, name, time]) => [name, Number(time)]));
}
