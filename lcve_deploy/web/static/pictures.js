/** Draw frames of clips: plain, encrypted and decrypted side by side. */

/** @typedef {import("./service.js").Pair} Pair */
/** @typedef {import("./client/geometry.js").Geometry} Geometry */

/** The canvases of the page. */
export class Pictures {
  /** @type {Record<string, OffscreenCanvas>} */
  #canvases = {};
  /** @type {Pair | undefined} */
  #pair;

  /** @param {Record<string, OffscreenCanvas>} canvases by name */
  use(canvases) {
    this.#canvases = canvases;
  }

  /**
   * Show this clip from now on.
   *
   * @param {Pair} pair
   */
  take(pair) {
    this.#pair = pair;
  }

  /** @param {number} frame of the clip */
  show(frame) {
    if (!this.#pair) return;
    const { plain, clip, decrypted } = this.#pair;
    const { geometry, layout } = clip.binding;
    this.draw("plain", plain, geometry, frame);
    this.draw("encrypted", layout === "cubes" ? framesOf(clip.values, geometry, frame) : clip.values, geometry, frame);
    this.draw("decrypted", decrypted, geometry, frame);
  }

  /**
   * @param {string} name of the canvas
   * @param {Uint8Array} clip `[T, H, W, C]`
   * @param {Geometry} geometry
   * @param {number} frame
   */
  draw(name, clip, geometry, frame) {
    const [, height, width, channels] = geometry.clipShape;
    const image = new ImageData(width, height);
    const start = frame * height * width * channels;
    for (let pixel = 0; pixel < height * width; pixel++) {
      const source = start + pixel * channels;
      for (let channel = 0; channel < 3; channel++) image.data[4 * pixel + channel] = clip[source + Math.min(channel, channels - 1)];
      image.data[4 * pixel + 3] = 255;
    }
    const canvas = this.#canvases[name];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d")).putImageData(image, 0, 0);
  }
}

/**
 * Cubes put together as a clip, where only one frame is needed and filled.
 *
 * @param {Uint8Array} cubes `[N, L]`
 * @param {Geometry} geometry
 * @param {number} frame
 * @returns {Uint8Array} `[T, H, W, C]`
 */
export function framesOf(cubes, geometry, frame) {
  const clip = new Uint8Array(geometry.clipValues);
  const [frames] = geometry.clipShape;
  const [depth] = geometry.cube;
  const inSlab = geometry.cubes / (frames / depth);
  const inFrame = geometry.values / depth;
  const offsets = geometry.cubeOffsets();
  const places = geometry.valueOffsets();
  const first = Math.floor(frame / depth) * inSlab;
  for (let cube = first; cube < first + inSlab; cube++) {
    const row = cube * geometry.values;
    for (let value = (frame % depth) * inFrame; value < ((frame % depth) + 1) * inFrame; value++) {
      clip[offsets[cube] + places[value]] = cubes[row + value];
    }
  }
  return clip;
}
