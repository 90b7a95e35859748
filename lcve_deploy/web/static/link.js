/** Calls of the worker, which has the key and does all the work. */

/** @typedef {Record<string, (report: any) => void>} Handlers by the name of the report */

/** A worker, and the calls that it has not answered yet. */
export class Link {
  /** @type {Map<number, {resolve: (value: any) => void, reject: (reason: Error) => void}>} */
  #open = new Map();
  #next = 0;
  #worker;

  /** @param {Handlers} handlers of reports */
  constructor(handlers) {
    this.#worker = new Worker(trusted("worker.js"), { type: "module" });
    this.#worker.addEventListener("message", ({ data }) => {
      if (data.report) handlers[data.report](data);
      else this.#settle(data);
    });
  }

  /**
   * @param {string} call
   * @param {object} given
   * @param {Transferable[]} [transfer]
   * @returns {Promise<any>} what the worker returns
   */
  call(call, given, transfer = []) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#open.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call, given }, transfer);
    });
  }

  /**
   * Call without waiting for an answer.
   *
   * @param {string} call
   * @param {object} given
   * @param {Transferable[]} [transfer]
   */
  send(call, given, transfer = []) {
    this.#worker.postMessage({ call, given }, transfer);
  }

  /** End the worker, and everything in its memory with it. */
  end() {
    this.#worker.terminate();
    for (const { reject } of this.#open.values()) reject(Object.assign(new Error("the worker has ended"), { name: "EndedError" }));
    this.#open.clear();
  }

  /** @param {{id: number, result?: any, error?: {name: string, message: string, hint: string}}} message */
  #settle({ id, result, error }) {
    const waiting = this.#open.get(id);
    this.#open.delete(id);
    if (error) waiting?.reject(Object.assign(new Error(error.message), error));
    else waiting?.resolve(result);
  }
}

/**
 * An address of a script, for browsers that check where scripts come from.
 *
 * @param {string} name of a file of this page
 * @returns {string}
 */
function trusted(name) {
  const types = /** @type {any} */ (globalThis).trustedTypes;
  if (!types) return name;
  policy ??= types.createPolicy("lcve", { createScriptURL: (/** @type {string} */ text) => text });
  return policy.createScriptURL(name);
}

/** @type {any} */
let policy;
