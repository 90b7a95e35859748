/** Draw frames of clips: plain, encrypted and decrypted side by side. */

/** @typedef {import("./service.js").Pair} Pair */
/** @typedef {import("./client/geometry.js").Geometry} Geometry */

/** The canvases of the page. */
export class Pictures {
  /** Made once: Firefox refuses to be asked again. @type {Record<string, OffscreenCanvasRenderingContext2D>} */
  #contexts = {};
  /** @type {Pair | undefined} */
  #pair;

  /** @param {Record<string, OffscreenCanvas>} canvases by name */
  use(canvases) {
    const entries = Object.entries(canvases).map(([name, canvas]) => [name, canvas.getContext("2d")]);
    this.#contexts = Object.fromEntries(entries);
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
    const frameOf = layout === "cubes" ? cubesFrame : clipFrame;
    this.draw("plain", clipFrame(plain, geometry, frame), geometry);
    this.draw("encrypted", frameOf(clip.values, geometry, frame), geometry);
    this.draw("decrypted", clipFrame(decrypted, geometry, frame), geometry);
  }

  /**
   * @param {string} name of the canvas
   * @param {Uint8Array} frame `[H, W, C]`
   * @param {Geometry} geometry
   */
  draw(name, frame, { clipShape: [, height, width, channels] }) {
    const image = new ImageData(width, height);
    for (let pixel = 0; pixel < height * width; pixel++) {
      const source = pixel * channels;
      for (let channel = 0; channel < 3; channel++) image.data[4 * pixel + channel] = frame[source + Math.min(channel, channels - 1)];
      image.data[4 * pixel + 3] = 255;
    }
    const context = this.#contexts[name];
    const { canvas } = context;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.putImageData(image, 0, 0);
  }
}

/**
 * One frame of a clip.
 *
 * @param {Uint8Array} clip `[T, H, W, C]`
 * @param {Geometry} geometry
 * @param {number} frame
 * @returns {Uint8Array} `[H, W, C]`
 */
export function clipFrame(clip, geometry, frame) {
  const size = geometry.clipValues / geometry.clipShape[0];
  return clip.subarray(frame * size, (frame + 1) * size);
}

/**
 * One frame of a clip whose cubes are put together in the order in which they come.
 *
 * @param {Uint8Array} cubes `[N, L]`
 * @param {Geometry} geometry
 * @param {number} frame
 * @returns {Uint8Array} `[H, W, C]`
 */
export function cubesFrame(cubes, geometry, frame) {
  const [frames] = geometry.clipShape;
  const [depth] = geometry.cube;
  const inSlab = (geometry.cubes * depth) / frames;
  const inFrame = geometry.values / depth;
  const offsets = geometry.cubeOffsets();
  const places = geometry.valueOffsets();
  const start = (frame * geometry.clipValues) / frames;
  const picture = new Uint8Array(geometry.clipValues / frames);
  const slab = Math.floor(frame / depth) * inSlab;
  for (let cube = slab; cube < slab + inSlab; cube++) {
    const row = cube * geometry.values;
    for (let value = (frame % depth) * inFrame; value < ((frame % depth) + 1) * inFrame; value++) {
      picture[offsets[cube] + places[value] - start] = cubes[row + value];
    }
  }
  return picture;
}
